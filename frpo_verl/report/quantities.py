"""The metrics of verl and of this plugin that the report knows: one row each for page, picture, table and verdict."""

from __future__ import annotations

from dataclasses import dataclass

#: share of the answers that reached data.max_response_length, put among the metrics of a step by `add_truncation`
TRUNCATED = "report/truncated"
KL_OF_AN_ANSWER = "frpo/kl_to_go/first_token/mean"
HELD_OUT = "held-out reward"  # verl's mean validation reward of a data source


@dataclass(frozen=True)
class Quantity:
    """A number over steps: ``names`` are the metrics that may hold it, the best first; ``hint`` stands below its chart,
    ``missing`` in the chart's place."""

    key: str
    title: str
    unit: str
    names: tuple[str, ...]
    hint: str
    missing: str = ""
    zero: bool = False  # the axis reaches 0
    share: bool = False  # from 0 to 1
    label: str = ""  # in the table of the command; "" where it is not there
    series: str = ""  # its name in report.json

    def absent(self) -> str:
        """What is said where no run has it."""
        return self.missing or f"no {self.names[0]} in the metrics"


REWARD = Quantity(
    "reward", "Training reward", "mean score", ("critic/score/mean", "critic/rewards/mean"),
    "Of the rollouts, before the update.", share=True, label="training reward", series="reward",
)  # fmt: skip
ENTROPY = Quantity(
    "entropy", "Entropy of the policy", "nats a token", ("actor/entropy", "actor/entropy_loss"),
    "Slowly falling. Near 0 nothing new is tried any more.", zero=True, label="entropy", series="entropy",
)  # fmt: skip
KL = Quantity(
    "kl", "KL to the reference", "nats a token", ("frpo/kl_to_ref/k1", "actor/reward_kl_penalty", "actor/kl_loss"),
    "0 at the first step, then slowly up to 0.001 .. 0.1. Rising without end: raise kl_coef.",
    "no KL in the metrics: the run loads no reference", zero=True, label="KL to reference", series="kl_to_ref",
)  # fmt: skip
KL3 = Quantity(
    "kl3", "KL to the reference, k3", "nats a token", ("frpo/kl_to_ref/k3",),
    "The same expectation, never negative. Much larger than k1: a few tokens with heavy tails.",
    zero=True, label="KL to reference, k3", series="kl_to_ref_k3",
)  # fmt: skip
LENGTH = Quantity(
    "length", "Length of the answers", "tokens, mean", ("response_length/mean",),
    "Falling while the reward does not rise: kl_coef is too large.", zero=True, label="response length", series="response_length",
)  # fmt: skip
#: those of the table of the command and of report.json, in their order
IN_TABLE = (REWARD, ENTROPY, KL, KL3, LENGTH)

TRUNCATION = Quantity(
    "truncation", "Answers that are cut off", "share of answers", (TRUNCATED,),
    "They reached data.max_response_length without an end marker (where nothing is logged of it: the length alone).",
    "no response_length/clip_ratio in the metrics", share=True,
)  # fmt: skip
REGULARISER = (
    Quantity(
        "share", "Share of the regulariser", "mean |beta KL| over mean |A|", ("frpo/regularizer_share",),
        "0.05 to 0.5 is usual. Above 1 the reward does nothing, below 0.01 the KL does nothing.",
        "no frpo/regularizer_share in the metrics: the method has no regulariser in the advantage", zero=True,
    ),
    Quantity(
        "flips", "Tokens whose advantage changes sign", "share of tokens", ("frpo/sign_flip_frac",),
        "Tokens of right answers that the regulariser pushes down, and the reverse: below 0.1.", share=True,
    ),
    Quantity(
        "beta", "Coefficient of the KL", "beta", ("frpo/kl_coef", "actor/frpo/kl_coef"),
        "Flat without a schedule or a target. Steered and falling or rising without end: the target cannot be reached.",
        "no frpo/kl_coef in the metrics", zero=True,
    ),
)  # fmt: skip
CLIP = (
    *(
        Quantity(
            key, f"Clipped tokens with a {sign} advantage", "share of tokens",
            (f"actor/frpo/policy_clip_frac/{sign}_advantage", f"frpo/policy_clip_frac/{sign}_advantage"),
            hint, "no clip fraction by sign in the metrics", share=True,
        )
        for key, sign, hint in (
            ("clip_up", "positive", "Held still by the upper bound; below 0.2."),
            ("clip_down", "negative", "Held still by the lower bound; high on this side only: entropy will fall."),
        )
    ),
    Quantity(
        "clip_all", "Clipped tokens, both signs", "share of tokens", ("actor/pg_clipfrac",), "verl's own count.", share=True,
    ),
)  # fmt: skip
GROUPS = Quantity(
    "zero_variance", "Groups whose answers all score the same", "share of groups", ("frpo/zero_variance_groups",),
    "They teach nothing; 0.1 to 0.6 is usual.", share=True,
)  # fmt: skip
TIME = (
    Quantity(
        "time", "Time of a step", "seconds", ("timing_s/step", "perf/time_per_step"), "Peaks are validations and checkpoints.", zero=True,
    ),
    *(
        Quantity(key, f"of which {title}", "seconds", (f"timing_s/{key}",), "", zero=True)
        for key, title in (("gen", "generation"), ("update_actor", "the update of the policy"))
    ),
)  # fmt: skip
MEMORY = (
    Quantity(
        "memory_device", "Memory of the device", "GB allocated, highest",
        ("actor/perf/max_memory_allocated_gb", "perf/max_memory_allocated_gb"), "Of the actor, by torch's allocator.",
        "no device memory in the metrics: the run was on a CPU, or verl did not log it", zero=True,
    ),
    Quantity(
        "memory_host", "Memory of the machine", "GB in use", ("actor/perf/cpu_memory_used_gb", "perf/cpu_memory_used_gb"),
        "Everything on the actor's machine. Rising without end: a leak.", "no perf/cpu_memory_used_gb in the metrics", zero=True,
    ),
)  # fmt: skip
#: key of a section of the page -> its heading, and the quantities that it shows
SECTIONS = {
    "reward": ("Reward and validation", (REWARD,)),
    "kl": ("Distance from the reference", (KL, KL3)),
    "entropy": ("Entropy", (ENTROPY,)),
    "regulariser": ("Share of the regulariser", REGULARISER),
    "clip": ("Clip fractions", CLIP),
    "groups": ("Groups without variance", (GROUPS,)),
    "length": ("Answer length and truncation", (LENGTH, TRUNCATION)),
    "time": ("Time and memory", (*TIME, *MEMORY)),
}
