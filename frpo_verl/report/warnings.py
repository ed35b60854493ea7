"""What in a run's numbers asks for attention, in words: one table of rules, each with threshold, meaning and cure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .collect import TRUNCATED, Run, curve, dump_sources, is_finite, pass_ks, source_label, validation_metric
from .subjects import last_count

#: a number, and words that say where it was found
Finding = tuple[float, str]


@dataclass(frozen=True)
class Rule:
    """``measure`` returns the number of a run, or None where it cannot be said; a warning is due where ``wrong`` of
    it is true. ``threshold``: the bound as it is shown."""

    key: str
    title: str
    threshold: str
    meaning: str
    cure: str
    measure: Callable[[Run], Finding | None]
    wrong: Callable[[float], bool]


@dataclass(frozen=True)
class Warning:
    """A rule that a run breaks."""

    rule: Rule
    run: str
    number: float
    where: str


def _end(run: Run, *names: str) -> Finding | None:
    """Mean of a metric over the last steps."""
    for name in names:
        points = curve(run.steps, name)
        if points:
            n = last_count(len(points))
            shown = "response_length/clip_ratio" if name == TRUNCATED else name
            return float(np.mean([v for _, v in points[-n:]])), f"{shown}, mean of the last {n} steps"
    return None


def _kl_at_start(run: Run) -> Finding | None:
    for name in ("frpo/kl_to_ref/k3", "frpo/kl_to_ref/k1"):
        points = curve(run.steps, name)
        if points and points[0][0] <= 1:
            return points[0][1], f"{name} at step {points[0][0]}"
    return None


def _not_finite(run: Run) -> Finding | None:
    dropped = sum(v for _, v in curve(run.steps, "frpo/nonfinite_rows"))
    if dropped:
        return dropped, "frpo/nonfinite_rows, sum over the steps"
    bad: dict[str, int] = {}
    for data in run.steps.values():
        for name, value in data.items():
            # verl itself writes nan for these where there is nothing to measure
            if not is_finite(value) and not name.startswith(("training/rollout_", "response_length_non_aborted/")):
                bad[name] = bad.get(name, 0) + 1
    if not bad:
        return (0.0, "all numbers that were logged") if run.steps else None
    worst = max(bad, key=lambda name: bad[name])
    others = f" and {len(bad) - 1} more metrics" if len(bad) > 1 else ""
    return float(bad[worst]), f"steps at which {worst} is nan or inf{others}"


def _mismatch(run: Run) -> Finding | None:
    for name in ("rollout_corr/k3_kl", "training/rollout_probs_diff_mean"):
        found = _end(run, name)
        if found is not None:
            return abs(found[0]), found[1]
    return None


def _verifier(run: Run) -> Finding | None:
    worst: Finding | None = None
    names = {n for data in run.steps.values() for n in data if "/verify_" in n and "/mean@" in n}
    for source in sorted({n.split("/verify_")[0] for n in names}):
        parts = [curve(run.steps, n) for n in names if n.startswith(f"{source}/verify_")]
        value = sum(points[-1][1] for points in parts if points)
        if worst is None or value > worst[0]:
            worst = value, f"verify_timeout + verify_error of {source.split('/', 1)[-1]}, last validation"
    return worst


def _drift(run: Run) -> Finding | None:
    """KL of the last fifth over the largest KL of an earlier fifth, where the reward has risen since that fifth."""
    kl = curve(run.steps, "frpo/kl_to_ref/k3") or curve(run.steps, "frpo/kl_to_ref/k1")
    reward = run.series.get("reward", [])
    if len(kl) < 20 or len(reward) < 20:
        return None
    fifths = [float(np.mean(part)) for part in np.array_split([v for _, v in kl], 5)]
    rewards = [np.array(part) for part in np.array_split([v for _, v in reward], 5)]
    top = int(np.argmax(fifths))
    if top == 4 or fifths[top] < 1e-4:
        return 1.0, "KL of the last fifth of the steps over its highest fifth"
    noise = math.hypot(*(float(r.std()) / math.sqrt(len(r)) for r in (rewards[top], rewards[4])))
    if rewards[4].mean() <= rewards[top].mean() + 2 * noise:
        return 1.0, "KL falls, and the reward with it"
    rise = float(rewards[4].mean() - rewards[top].mean())
    return fifths[4] / fifths[
        top
    ], f"KL of the last fifth of the steps over its highest fifth; reward {rise:+.3f} since"


def _entropy(run: Run) -> Finding | None:
    points = run.series.get("entropy", [])
    if len(points) < 10 or points[0][1] <= 0:
        return None
    n = last_count(len(points))
    end = float(np.mean([v for _, v in points[-n:]]))
    return end / points[0][1], f"entropy of the last {n} steps over that of the first: {end:.3g} of {points[0][1]:.3g}"


def _diversity(run: Run) -> Finding | None:
    """The fall of pass@k where pass@1 rises, both in points of a hundred; the lowest over the data sources."""
    worst: Finding | None = None
    for source in dump_sources(run):
        ks = pass_ks(run, source)
        if len(ks) < 2:
            continue
        one, many = validation_metric(run, source, "pass@1"), validation_metric(run, source, f"pass@{ks[-1]}")
        if len(one) < 2:
            continue
        rise, fall = 100 * (one[-1][1] - one[0][1]), 100 * (many[-1][1] - many[0][1])
        label = source_label(run, source)
        number = fall if rise >= 1 else max(fall, 0.0)
        if worst is None or number < worst[0]:
            worst = number, f"pass@{ks[-1]} of {label}, in points, while pass@1 changed by {rise:+.1f}"
    return worst


RULES = (
    Rule(
        "regulariser",
        "The regulariser is larger than the reward",
        "frpo/regularizer_share at most 1",
        "The KL term pushes harder than the reward: the policy is held at the reference rather than trained.",
        "Lower algorithm.frpo.kl_coef, by about this factor.",
        lambda run: _end(run, "frpo/regularizer_share"),
        lambda x: x > 1,
    ),
    Rule(
        "kl_at_start",
        "The KL to the reference is not 0 at the first step",
        "at most 0.001 nats a token",
        "Before the first update policy and reference are the same model: a KL here comes from another checkpoint, "
        "another temperature or dtype, or log-probs of another engine, and is charged to every answer from then on.",
        "Give the reference the path of the policy, use one dtype for both, and let the trainer recompute the old "
        "log-probs. A run that was started from a checkpoint beyond its reference is right to show this.",
        _kl_at_start,
        lambda x: abs(x) > 1e-3,
    ),
    Rule(
        "zero_variance",
        "Most groups teach nothing",
        "frpo/zero_variance_groups at most 0.5",
        "In more than half of the groups all answers score the same: their advantage is 0 and only the KL trains.",
        "Take data of another difficulty, raise rollout.n, filter such groups, and see that the grader does not "
        "return a constant.",
        lambda run: _end(run, "frpo/zero_variance_groups"),
        lambda x: x > 0.5,
    ),
    Rule(
        "nonfinite",
        "Numbers that are not finite",
        "none",
        "A log-prob, loss or gradient was nan or inf; rows with one teach nothing, and a step with one can break the "
        "model.",
        "Find the first step of it in the charts; lower the learning rate, compute in float32, see the rollout's "
        "dtype.",
        _not_finite,
        lambda x: x > 0,
    ),
    Rule(
        "mismatch",
        "Rollout engine and trainer disagree",
        "at most 0.01 (KL in nats a token, or mean difference in probability)",
        "The engine that writes the answers gives them other probabilities than the trainer: the ratio of the policy "
        "loss and the KL are wrong by this much.",
        "Use one dtype in both, do not quantise the rollout, see that weights are synchronised; otherwise "
        "algorithm.rollout_correction.rollout_is=token.",
        _mismatch,
        lambda x: x > 0.01,
    ),
    Rule(
        "verifier",
        "The verifier fails",
        "at most 5 % of the answers",
        "These answers were graded wrong because grading them timed out or failed, not because they are.",
        "Read some of them in the validation dump (verify_error, verify_timeout); raise the deadline in "
        "reward.custom_reward_function.reward_kwargs.",
        _verifier,
        lambda x: x > 0.05,
    ),
    Rule(
        "truncation",
        "Answers are cut off",
        "at most 20 % of the answers",
        "A cut answer has no final result and scores as wrong: length is punished, whatever the answer says.",
        "Raise data.max_response_length, or take easier data.",
        lambda run: _end(run, TRUNCATED),
        lambda x: x > 0.2,
    ),
    Rule(
        "drift",
        "The KL falls while the reward rises",
        "KL of the last fifth of the steps at least half of its highest fifth",
        "A policy that learns moves away from a fixed reference. A KL that shrinks meanwhile says that the reference "
        "moves along, or was replaced.",
        "See that nothing updates or reloads the reference (a resume with another model path does), and that KL and "
        "reward are of the same run.",
        _drift,
        lambda x: x < 0.5,
    ),
    Rule(
        "entropy",
        "The entropy has collapsed",
        "at least a tenth of the first step's",
        "The policy writes nearly the same answer every time: groups without variance follow, and nothing new is found.",
        "Raise kl_coef, lower the learning rate, raise clip_ratio_high, or sample at a higher temperature.",
        _entropy,
        lambda x: x < 0.1,
    ),
    Rule(
        "diversity",
        "pass@1 rises, but pass@k falls",
        "pass@k falls by at most 1 point while pass@1 rises by 1 or more",
        "The policy became surer of what it could solve already and lost problems that it solved now and then.",
        "Raise kl_coef (the reference still has these answers), stop earlier, or take harder data.",
        _diversity,
        lambda x: x < -1,
    ),
)


def find_warnings(runs: Sequence[Run]) -> list[Warning]:
    """The rules that the runs break, in the order of RULES, then of the runs."""
    found = []
    for rule in RULES:
        for run in runs:
            finding = rule.measure(run)
            if finding is not None and rule.wrong(finding[0]):
                found.append(Warning(rule, run.name, *finding))
    return found


def by_rule(warnings: Sequence[Warning]) -> dict[Rule, list[Warning]]:
    """The warnings of each rule that has any."""
    groups: dict[Rule, list[Warning]] = {}
    for warning in warnings:
        groups.setdefault(warning.rule, []).append(warning)
    return groups
