"""What in a run's numbers asks for attention, in words: one table of rules, each with threshold, meaning and cure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .collect import TrainingRun, is_finite
from .quantities import ENTROPY, REWARD, TRUNCATED
from .subjects import Subject

#: a number, and words that say where it was found
Finding = tuple[float, str]


@dataclass(frozen=True)
class Rule:
    """``measure`` returns the number of a run, or None where there is nothing to say; a warning is due where ``wrong``
    of it is true. ``threshold``: the bound as it is shown."""

    key: str
    title: str
    threshold: str
    meaning: str
    cure: str
    measure: Callable[[Subject], Finding | None]
    wrong: Callable[[float], bool]


class Breach(NamedTuple):
    """What breaks a rule: a warning."""

    run: str
    number: float
    where: str


def _end(run: Subject, *names: str) -> Finding | None:
    """Mean of a metric over the last steps."""
    c = run.curve(*names)
    end = c.at_end()
    if end is None:
        return None
    shown = "response_length/clip_ratio" if c.name == TRUNCATED else c.name
    return end, f"{shown}, mean of the last {c.last_count()} steps"


def _kl_at_start(run: Subject) -> Finding | None:
    for name in ("frpo/kl_to_ref/k3", "frpo/kl_to_ref/k1"):
        c = run.curve(name)
        if c and c.steps[0] <= 1:
            return c.values[0], f"{name} at step {c.steps[0]}"
    return None


def _not_finite(run: Subject) -> Finding | None:
    dropped = sum(run.curve("frpo/nonfinite_rows").values)
    if dropped:
        return dropped, "frpo/nonfinite_rows, sum over the steps"
    # verl itself writes nan for these where there is nothing to measure
    silent = ("training/rollout_", "response_length_non_aborted/")
    values = (pair for data in run.runs[0].steps.values() for pair in data.items())
    bad = Counter(name for name, value in values if not is_finite(value) and not name.startswith(silent))
    if not bad:
        return None
    ((worst, count),) = bad.most_common(1)
    others = f" and {len(bad) - 1} more metrics" if len(bad) > 1 else ""
    return float(count), f"steps at which {worst} is nan or inf{others}"


def _mismatch(run: Subject) -> Finding | None:
    found = _end(run, "rollout_corr/k3_kl", "training/rollout_probs_diff_mean")
    return (abs(found[0]), found[1]) if found else None


def _verifier(run: Subject) -> Finding | None:
    last: dict[str, float] = defaultdict(float)  # source -> share of its answers at the last validation
    for name in sorted(run.runs[0].series):
        if "/verify_" in name and "/mean@" in name:
            last[name.split("/verify_")[0]] += run.curve(name).values[-1]
    if not last:
        return None
    worst = max(last, key=lambda source: last[source])
    return last[worst], f"verify_timeout + verify_error of {worst.split('/', 1)[-1]}, last validation"


def _drift(run: Subject) -> Finding | None:
    """KL of the last fifth over the largest KL of an earlier fifth, where the reward has risen since that fifth."""
    kl, reward = run.curve("frpo/kl_to_ref/k3", "frpo/kl_to_ref/k1"), run.curve(*REWARD.names)
    if len(kl) < 20 or len(reward) < 20:
        return None
    fifths = [float(np.mean(part)) for part in np.array_split(kl.values, 5)]
    rewards = np.array_split(reward.values, 5)
    top = int(np.argmax(fifths))
    noise = math.hypot(*(float(r.std()) / math.sqrt(len(r)) for r in (rewards[top], rewards[4])))
    rise = float(rewards[4].mean() - rewards[top].mean())
    if fifths[top] < 1e-4 or rise <= 2 * noise:
        return None
    where = f"KL of the last fifth of the steps over its highest fifth; reward {rise:+.3f} since"
    return fifths[4] / fifths[top], where


def _entropy(run: Subject) -> Finding | None:
    c = run.curve(*ENTROPY.names)
    end = c.at_end()
    if end is None or len(c) < 10 or c.values[0] <= 0:
        return None
    where = f"entropy of the last {c.last_count()} steps over that of the first: {end:.3g} of {c.values[0]:.3g}"
    return end / c.values[0], where


def _diversity(run: Subject) -> Finding | None:
    """The fall of pass@k where pass@1 rises, both in points of a hundred; the lowest over the data sources."""
    found = []
    for source in run.sources():
        k = max(run.ks(source), default=1)
        one, many = run.validation(source, "pass@1"), run.validation(source, f"pass@{k}")
        if k == 1 or len(one) < 2:
            continue
        rise, fall = (100 * (c.values[-1] - c.values[0]) for c in (one, many))
        where = f"pass@{k} of {run.label(source)}, in points, while pass@1 changed by {rise:+.1f}"
        found.append((fall if rise >= 1 else max(fall, 0.0), where))
    return min(found, key=lambda finding: finding[0], default=None)


RULES = (
    Rule(
        "regulariser", "The regulariser is larger than the reward", "frpo/regularizer_share at most 1",
        "The KL term pushes harder than the reward: the policy is held at the reference rather than trained.",
        "Lower algorithm.frpo.kl_coef, by about this factor.",
        lambda run: _end(run, "frpo/regularizer_share"), lambda x: x > 1,
    ),
    Rule(
        "kl_at_start", "The KL to the reference is not 0 at the first step", "at most 0.001 nats a token",
        "Before the first update policy and reference are the same model: a KL here comes from another checkpoint, "
        "another temperature or dtype, or log-probs of another engine, and is charged to every answer from then on.",
        "Give the reference the path of the policy, use one dtype for both, and let the trainer recompute the old "
        "log-probs. A run that was started from a checkpoint beyond its reference is right to show this.",
        _kl_at_start, lambda x: abs(x) > 1e-3,
    ),
    Rule(
        "zero_variance", "Most groups teach nothing", "frpo/zero_variance_groups at most 0.5",
        "In more than half of the groups all answers score the same: their advantage is 0 and only the KL trains.",
        "Take data of another difficulty, raise rollout.n, filter such groups, and see that the grader does not "
        "return a constant.",
        lambda run: _end(run, "frpo/zero_variance_groups"), lambda x: x > 0.5,
    ),
    Rule(
        "nonfinite", "Numbers that are not finite", "none",
        "A log-prob, loss or gradient was nan or inf; rows with one teach nothing, and a step with one can break "
        "the model.",
        "Find the first step of it in the charts; lower the learning rate, compute in float32, see the rollout's "
        "dtype.",
        _not_finite, lambda x: x > 0,
    ),
    Rule(
        "mismatch", "Rollout engine and trainer disagree",
        "at most 0.01 (KL in nats a token, or mean difference in probability)",
        "The engine that writes the answers gives them other probabilities than the trainer: the ratio of the "
        "policy loss and the KL are wrong by this much.",
        "Use one dtype in both, do not quantise the rollout, see that weights are synchronised; otherwise "
        "algorithm.rollout_correction.rollout_is=token.",
        _mismatch, lambda x: x > 0.01,
    ),
    Rule(
        "verifier", "The verifier fails", "at most 5 % of the answers",
        "These answers were graded wrong because grading them timed out or failed, not because they are.",
        "Read some of them in the validation dump (verify_error, verify_timeout); raise the deadline in "
        "reward.custom_reward_function.reward_kwargs.",
        _verifier, lambda x: x > 0.05,
    ),
    Rule(
        "truncation", "Answers are cut off", "at most 20 % of the answers",
        "A cut answer has no final result and scores as wrong: length is punished, whatever the answer says.",
        "Raise data.max_response_length, or take easier data.",
        lambda run: _end(run, TRUNCATED), lambda x: x > 0.2,
    ),
    Rule(
        "drift", "The KL falls while the reward rises",
        "KL of the last fifth of the steps at least half of its highest fifth",
        "A policy that learns moves away from a fixed reference. A KL that shrinks meanwhile says that the "
        "reference moves along, or was replaced.",
        "See that nothing updates or reloads the reference (a resume with another model path does), and that KL and "
        "reward are of the same run.",
        _drift, lambda x: x < 0.5,
    ),
    Rule(
        "entropy", "The entropy has collapsed", "at least a tenth of the first step's",
        "The policy writes nearly the same answer every time: groups without variance follow, and nothing new is "
        "found.",
        "Raise kl_coef, lower the learning rate, raise clip_ratio_high, or sample at a higher temperature.",
        _entropy, lambda x: x < 0.1,
    ),
    Rule(
        "diversity", "pass@1 rises, but pass@k falls",
        "pass@k falls by at most 1 point while pass@1 rises by 1 or more",
        "The policy became surer of what it could solve already and lost problems that it solved now and then.",
        "Raise kl_coef (the reference still has these answers), stop earlier, or take harder data.",
        _diversity, lambda x: x < -1,
    ),
)  # fmt: skip


def find_breaches(runs: Sequence[TrainingRun]) -> dict[Rule, list[Breach]]:
    """The rules that runs break, in the order of RULES, and who breaks each."""
    found: dict[Rule, list[Breach]] = {}
    for rule in RULES:
        for run in runs:
            finding = rule.measure(Subject(run.name, [run]))
            if finding is not None and rule.wrong(finding[0]):
                found.setdefault(rule, []).append(Breach(run.name, *finding))
    return found
