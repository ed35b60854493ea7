"""The metrics of verl and of this plugin that have a chart over steps on the page."""

from __future__ import annotations

from dataclasses import dataclass

from .collect import TRUNCATED


@dataclass(frozen=True)
class Metric:
    """A chart of metrics over steps; a subject's line is of the first of ``names`` that it has."""

    key: str
    title: str
    unit: str
    names: tuple[str, ...]
    text: str
    missing: str
    zero: bool = False
    share: bool = False


REWARD = Metric(
    "reward",
    "Training reward",
    "mean score",
    ("critic/score/mean", "critic/rewards/mean"),
    "Of the rollouts, before the update.",
    "no critic/score/mean in the metrics",
    share=True,
)
KL = (
    Metric(
        "kl",
        "KL to the reference",
        "nats a token",
        ("frpo/kl_to_ref/k1", "actor/reward_kl_penalty", "actor/kl_loss"),
        "0 at the first step, then slowly up to 0.001 .. 0.1. Rising without end: raise kl_coef.",
        "no KL in the metrics: the run loads no reference",
        zero=True,
    ),
    Metric(
        "kl3",
        "KL to the reference, k3",
        "nats a token",
        ("frpo/kl_to_ref/k3",),
        "The same expectation, never negative. Much larger than k1: a few tokens with heavy tails.",
        "no frpo/kl_to_ref/k3 in the metrics",
        zero=True,
    ),
)
ENTROPY = Metric(
    "entropy",
    "Entropy of the policy",
    "nats a token",
    ("actor/entropy", "actor/entropy_loss"),
    "Slowly falling. Near 0 nothing new is tried any more.",
    "no actor/entropy in the metrics",
    zero=True,
)
REGULARISER = (
    Metric(
        "share",
        "Share of the regulariser",
        "mean |beta KL| over mean |A|",
        ("frpo/regularizer_share",),
        "0.05 to 0.5 is usual. Above 1 the reward does nothing, below 0.01 the KL does nothing.",
        "no frpo/regularizer_share in the metrics: the method has no regulariser in the advantage",
        zero=True,
    ),
    Metric(
        "flips",
        "Tokens whose advantage changes sign",
        "share of tokens",
        ("frpo/sign_flip_frac",),
        "Tokens of right answers that the regulariser pushes down, and the reverse: below 0.1.",
        "no frpo/sign_flip_frac in the metrics",
        share=True,
    ),
)
CLIP = (
    Metric(
        "clip_up",
        "Clipped tokens with a positive advantage",
        "share of tokens",
        ("actor/frpo/policy_clip_frac/positive_advantage", "frpo/policy_clip_frac/positive_advantage"),
        "Held still by the upper bound; below 0.2.",
        "no clip fraction by sign in the metrics",
        share=True,
    ),
    Metric(
        "clip_down",
        "Clipped tokens with a negative advantage",
        "share of tokens",
        ("actor/frpo/policy_clip_frac/negative_advantage", "frpo/policy_clip_frac/negative_advantage"),
        "Held still by the lower bound; high on this side only: entropy will fall.",
        "no clip fraction by sign in the metrics",
        share=True,
    ),
    Metric(
        "clip_all",
        "Clipped tokens, both signs",
        "share of tokens",
        ("actor/pg_clipfrac",),
        "verl's own count.",
        "no actor/pg_clipfrac in the metrics",
        share=True,
    ),
)
GROUPS = Metric(
    "zero_variance",
    "Groups whose answers all score the same",
    "share of groups",
    ("frpo/zero_variance_groups",),
    "They teach nothing; 0.1 to 0.6 is usual.",
    "no frpo/zero_variance_groups in the metrics",
    share=True,
)
LENGTH = (
    Metric(
        "length",
        "Length of the answers",
        "tokens, mean",
        ("response_length/mean",),
        "Falling while the reward does not rise: kl_coef is too large.",
        "no response_length/mean in the metrics",
        zero=True,
    ),
    Metric(
        "truncation",
        "Answers that are cut off",
        "share of answers",
        (TRUNCATED,),
        "They reached data.max_response_length without an end marker (where nothing is logged of it: the length alone).",
        "no response_length/clip_ratio in the metrics",
        share=True,
    ),
)
TIME = Metric(
    "time",
    "Time of a step",
    "seconds",
    ("timing_s/step", "perf/time_per_step"),
    "Peaks are validations and checkpoints.",
    "no timing_s/step in the metrics",
    zero=True,
)
MEMORY = (
    Metric(
        "memory_device",
        "Memory of the device",
        "GB allocated, highest",
        ("actor/perf/max_memory_allocated_gb", "perf/max_memory_allocated_gb"),
        "Of the actor, by torch's allocator.",
        "no device memory in the metrics: the run was on a processor, or verl did not log it",
        zero=True,
    ),
    Metric(
        "memory_host",
        "Memory of the machine",
        "GB in use",
        ("actor/perf/cpu_memory_used_gb", "perf/cpu_memory_used_gb"),
        "Everything on the actor's machine. Rising without end: a leak.",
        "no perf/cpu_memory_used_gb in the metrics",
        zero=True,
    ),
)
