"""What in a run's numbers asks for attention, in words: one table of rules, each with threshold, meaning and cure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .collect import TrainingRun, is_finite
from .curves import at_end, last_count
from .quantities import ENTROPY, REWARD, TRUNCATED

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
    measure: Callable[[TrainingRun], Finding | None]
    wrong: Callable[[float], bool]


@dataclass(frozen=True)
class Breach:
    """A rule that a run breaks: a warning."""

    rule: Rule
    run: str
    number: float
    where: str


def _end(run: TrainingRun, *names: str) -> Finding | None:
    """Mean of a metric over the last steps."""
    name = run.logged(*names)
    c = run.curve(*names)
    end = at_end(c)
    if name is None or end is None:
        return None
    shown = "response_length/clip_ratio" if name == TRUNCATED else name
    return end, f"{shown}, mean of the last {last_count(len(c))} steps"


def _kl_at_start(run: TrainingRun) -> Finding | None:
    for name in ("frpo/kl_to_ref/k3", "frpo/kl_to_ref/k1"):
        c = run.curve(name)
        if len(c) and c.steps[0] <= 1:
            return c.values[0], f"{name} at step {c.steps[0]}"
    return None


def _not_finite(run: TrainingRun) -> Finding | None:
    dropped = sum(run.curve("frpo/nonfinite_rows").values)
    if dropped:
        return dropped, "frpo/nonfinite_rows, sum over the steps"
    bad: dict[str, int] = {}
    for name, value in (pair for data in run.steps.values() for pair in data.items()):
        # verl itself writes nan for these where there is nothing to measure
        if not is_finite(value) and not name.startswith(("training/rollout_", "response_length_non_aborted/")):
            bad[name] = bad.get(name, 0) + 1
    if not bad:
        return (0.0, "all numbers that were logged") if run.steps else None
    worst = max(bad, key=lambda name: bad[name])
    others = f" and {len(bad) - 1} more metrics" if len(bad) > 1 else ""
    return float(bad[worst]), f"steps at which {worst} is nan or inf{others}"


def _mismatch(run: TrainingRun) -> Finding | None:
    found = _end(run, "rollout_corr/k3_kl", "training/rollout_probs_diff_mean")
    return (abs(found[0]), found[1]) if found else None


def _verifier(run: TrainingRun) -> Finding | None:
    last: dict[str, float] = {}  # source -> share of its answers at the last validation
    for name in sorted({n for data in run.steps.values() for n in data if "/verify_" in n and "/mean@" in n}):
        source = name.split("/verify_")[0]
        last[source] = last.get(source, 0.0) + sum(run.curve(name).values[-1:])
    if not last:
        return None
    worst = max(last, key=lambda source: last[source])
    return last[worst], f"verify_timeout + verify_error of {worst.split('/', 1)[-1]}, last validation"


def _drift(run: TrainingRun) -> Finding | None:
    """KL of the last fifth over the largest KL of an earlier fifth, where the reward has risen since that fifth."""
    kl, reward = run.curve("frpo/kl_to_ref/k3", "frpo/kl_to_ref/k1"), run.curve(*REWARD.names)
    if len(kl) < 20 or len(reward) < 20:
        return None
    fifths = [float(np.mean(part)) for part in np.array_split(kl.values, 5)]
    rewards = np.array_split(reward.values, 5)
    top = int(np.argmax(fifths))
    if top == 4 or fifths[top] < 1e-4:
        return 1.0, "KL of the last fifth of the steps over its highest fifth"
    noise = math.hypot(*(float(r.std()) / math.sqrt(len(r)) for r in (rewards[top], rewards[4])))
    rise = float(rewards[4].mean() - rewards[top].mean())
    if rise <= 2 * noise:
        return 1.0, "KL falls, and the reward with it"
    where = f"KL of the last fifth of the steps over its highest fifth; reward {rise:+.3f} since"
    return fifths[4] / fifths[top], where


def _entropy(run: TrainingRun) -> Finding | None:
    c = run.curve(*ENTROPY.names)
    end = at_end(c)
    if end is None or len(c) < 10 or c.values[0] <= 0:
        return None
    where = f"entropy of the last {last_count(len(c))} steps over that of the first: {end:.3g} of {c.values[0]:.3g}"
    return end / c.values[0], where


def _diversity(run: TrainingRun) -> Finding | None:
    """The fall of pass@k where pass@1 rises, both in points of a hundred; the lowest over the data sources."""
    worst: Finding | None = None
    for source in run.sources():
        ks = run.ks(source)
        one, many = run.validation(source, "pass@1"), run.validation(source, f"pass@{ks[-1]}" if ks else "")
        if len(ks) < 2 or len(one) < 2:
            continue
        rise, fall = (100 * (c.values[-1] - c.values[0]) for c in (one, many))
        number = fall if rise >= 1 else max(fall, 0.0)
        if worst is None or number < worst[0]:
            worst = number, f"pass@{ks[-1]} of {run.label(source)}, in points, while pass@1 changed by {rise:+.1f}"
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


def find_breaches(runs: Sequence[TrainingRun]) -> list[Breach]:
    """The rules that the runs break, in the order of RULES, then of the runs."""
    found = []
    for rule in RULES:
        for run in runs:
            finding = rule.measure(run)
            if finding is not None and rule.wrong(finding[0]):
                found.append(Breach(rule, run.name, *finding))
    return found


def by_rule(breaches: Sequence[Breach]) -> dict[Rule, list[Breach]]:
    """The breaches of each rule that has any."""
    groups: dict[Rule, list[Breach]] = {}
    for breach in breaches:
        groups.setdefault(breach.rule, []).append(breach)
    return groups
