"""What came out of a run, or which of several runs is ahead, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from frpo_verl.evaluation import confidence_interval
from frpo_verl.evaluation.figures import number, percent

from .curves import Curve, at_end, pool
from .quantities import ENTROPY, KL, KL_OF_AN_ANSWER, LENGTH, REWARD
from .rules import Breach
from .subjects import Subject

GOOD, BAD, OPEN = "good", "bad", "open"
BEFORE_AFTER = ["held-out before", "held-out after", "pass@k after"]
HEADER = ["", "runs", "steps", *BEFORE_AFTER, "KL, nats a token", "entropy", "length"]


@dataclass
class Conclusion:
    """``kind``: good | bad | open; ``headline`` and ``sentences`` are text; ``header`` and ``rows`` compare subjects."""

    kind: str
    headline: str
    sentences: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Change:
    """A measure at the first and the last validation with the ends of its interval, and the difference with its own, where
    there are such."""

    label: str
    steps: tuple[int, int]
    before: float
    after: float
    ends: tuple[tuple[float, float] | None, tuple[float, float] | None]
    share: bool  # shown in percent
    gap: tuple[float, float] | None = None
    over: str = ""  # what the interval of the difference is over

    def shown(self, after: bool) -> str:
        """The value with its interval."""
        value, ends = (self.after if after else self.before), self.ends[after]
        if self.share:
            return percent(value, ends)
        return number(value) + (f" [{number(ends[0])}, {number(ends[1])}]" if ends else "")

    @property
    def difference(self) -> str:
        """After minus before."""
        gap = self.after - self.before
        return f"{100 * gap:+.1f} points" if self.share else f"{'+' if gap >= 0 else ''}{number(gap)}"

    @property
    def apart(self) -> bool | None:
        """Whether the interval of the difference leaves 0 out."""
        return None if self.gap is None else self.gap[0] > 0 or self.gap[1] < 0


def change_of(label: str, c: Curve | None) -> Change | None:
    """The change along a curve of two points or more."""
    if c is None or len(c) < 2:
        return None
    share = min(c.values) >= 0 and max(c.values) <= 1
    return Change(label, (c.steps[0], c.steps[-1]), c.values[0], c.values[-1], (c.ends(0), c.ends(-1)), share)


def paired(first: dict[str, float], second: dict[str, float]) -> tuple[float, float, int] | None:
    """(low, high, problems): 95 % interval over the problems that both have, of second minus first on the same one."""
    common = sorted(set(first) & set(second))
    if len(common) < 2:
        return None
    low, high = confidence_interval(np.array([[second[p] - first[p]] for p in common]))
    return float(low[0]), float(high[0]), len(common)


def main_change(subject: Subject, only: str | None = None) -> Change | None:
    """The first data source's mean@n from the dumps, else verl's held-out reward, else None; of ``only`` if that is given.

    The difference of the former has an interval: over the problems for one run, over the runs for a group.
    """
    for source in subject.sources() if only is None else [only]:
        name = subject.mean_metric(source)
        change = change_of(f"{name} on {subject.runs[0].label(source)}", subject.validation(source, name or ""))
        if change is None:
            continue
        tables = [[run.shares.get(step, {}).get(source, {}) for step in change.steps] for run in subject.runs]
        found = paired(*tables[0]) if len(tables) == 1 else None
        if found:
            change.gap, change.over = found[:2], f"the same {found[2]} problems"
        elif len(tables) > 1 and all(table for pair in tables for table in pair):
            means = [[float(np.mean(list(table.values()))) for table in pair] for pair in tables]
            ends = pool([Curve([0], [last - first]) for first, last in means]).ends(0)
            change.gap, change.over = ends, f"{len(means)} runs"
        return change
    sources = subject.held_out_sources() if only is None else [only]
    changes = (change_of(f"held-out reward on {source}", subject.held_out(source)) for source in sources)
    return next((change for change in changes if change is not None), None)


def common_source(subjects: Sequence[Subject]) -> str | None:
    """The first data source by which all of them can be measured."""
    ways = [
        [s for s in subject.sources() if main_change(subject, s)]
        or [s for s in subject.held_out_sources() if main_change(subject, s)]
        for subject in subjects
    ]
    return next((s for s in ways[0] if all(s in other for other in ways)), None)


def decide(subjects: Sequence[Subject], breaches: Sequence[Breach]) -> Conclusion:
    """The verdict on what the page shows."""
    found = of_one(subjects[0]) if len(subjects) == 1 else of_several(subjects)
    titles = list(dict.fromkeys(breach.rule.title for breach in breaches))
    many = f"{len(titles)} warning{'s' if len(titles) > 1 else ''} below: {'; '.join(titles)}."
    found.sentences.append(many if titles else "No warning.")
    return found


def of_one(subject: Subject) -> Conclusion:
    """The verdict on one run or one group."""
    change = main_change(subject)
    if change is None:
        kind, headline = OPEN, "Not decided: there are no two validations to compare."
    elif change.apart is False:
        kind, headline = OPEN, f"No change that can be told from chance after {subject.last_step} steps."
    elif change.after > change.before:
        kind, headline = GOOD, f"The policy got better: {change.difference} on held-out problems."
    elif change.after < change.before:
        kind, headline = BAD, f"The policy got worse: {change.difference} on held-out problems."
    else:
        kind, headline = OPEN, "Nothing changed on held-out problems."
    sentences = []
    if change is not None:
        values = f"{change.shown(False)} at step {change.steps[0]}, {change.shown(True)} at step {change.steps[1]}"
        sentences.append(f"{change.label}: {values} ({change.difference}).")
    if change is not None and change.gap is not None:
        low, high = (100 * end for end in change.gap)
        chance = "" if change.apart else ": it may be chance"
        sentences[0] += f" Over {change.over} the difference is from {low:+.1f} to {high:+.1f} points{chance}."
    for source in subject.sources():  # of the first one with several k
        ks = subject.ks(source)
        many = change_of("", subject.validation(source, f"pass@{ks[-1]}")) if len(ks) > 1 else None
        if many is not None:
            values = f"{percent(many.before)} before, {percent(many.after)} after ({many.difference})"
            sentences.append(f"pass@{ks[-1]}, what the model can find in {ks[-1]} tries: {values}.")
            break
    return Conclusion(kind, headline, [*sentences, *_training_sentences(subject)])


def _training_sentences(subject: Subject) -> list[str]:
    out = []
    reward, kl, entropy = (subject.curve(*quantity.names) for quantity in (REWARD, KL, ENTROPY))
    if reward is not None and len(reward) > 1:
        ends = f"{number(reward.values[0])} at the first step, {number(at_end(reward))} at the end"
        out.append(f"Training reward: {ends}.")
    if kl is not None:
        go = subject.at_end(KL_OF_AN_ANSWER)
        whole = f", {number(go)} nats over a whole answer" if go is not None else ""
        out.append(f"Distance from the reference at the end: {number(at_end(kl))} nats a token{whole}.")
    if entropy is not None and len(entropy) > 1:
        ends = f"{number(entropy.values[0])} nats a token at the first step, {number(at_end(entropy))} at the end"
        out.append(f"Entropy: {ends}.")
    return out


def of_several(subjects: Sequence[Subject]) -> Conclusion:
    """Which subject is ahead on the held-out problems, and whether that can be told from chance."""
    measured = {subject.name: change for subject in subjects if (change := main_change(subject)) is not None}
    source = common_source([s for s in subjects if s.name in measured]) if len(measured) > 1 else None
    if source is not None:
        changes = ((s.name, main_change(s, source)) for s in subjects if s.name in measured)
        measured = {name: change for name, change in changes if change is not None}
    if len(measured) < 2:
        found = Conclusion(OPEN, "Not decided: fewer than two of them have two validations.")
    elif source is None:
        each = [f"{name}: {c.label} {c.shown(True)}." for name, c in measured.items()]
        found = Conclusion(OPEN, "Not comparable: they were validated on different data sets.", each)
    else:
        found = _ranked(subjects, measured, source)
    lost = [subject.name for subject in subjects if subject.name not in measured]
    if lost:
        found.sentences.append(f"Without two validations: {', '.join(lost)}.")
    found.header, found.rows = HEADER, [_row(subject, measured.get(subject.name), source) for subject in subjects]
    return found


def _ranked(subjects: Sequence[Subject], changes: dict[str, Change], source: str) -> Conclusion:
    """The verdict on the first two by their last validation on a source."""
    names = [name for _, name in sorted((c.after, name) for name, c in changes.items())[::-1]]
    ahead, behind = (next(s for s in subjects if s.name == name) for name in names[:2])
    best, second = changes[ahead.name], changes[behind.name]
    overlap, why = _last_gap(behind, ahead, (second, best), source)
    times, price = _price(ahead, behind, best, second)
    kind = OPEN
    if best.after == second.after:
        headline = f"{ahead.name} and {behind.name} are equal on the held-out problems."
    elif overlap:
        headline = f"{ahead.name} and {behind.name} cannot be told apart on the held-out problems."
    elif times is not None and times > 1.1:
        gap = f"{100 * (best.after - second.after):.1f} points" if best.share else number(best.after - second.after)
        headline = f"{ahead.name} is ahead by {gap} at {times:.1f} times the KL."
    else:
        kind, headline = GOOD, f"{ahead.name} is ahead on the held-out problems."
    values = f"{ahead.name} {best.shown(True)}; {behind.name} {second.shown(True)}"
    sentences = [f"Last validation, {best.label}: {values}.", why, *price]
    if len({c.steps[1] for c in changes.values()}) > 1:
        sentences.append("Their last validations are at different steps: compare with care.")
    return Conclusion(kind, headline, sentences)


def _last_gap(behind: Subject, ahead: Subject, changes: tuple[Change, Change], source: str) -> tuple[bool, str]:
    """(whether two subjects cannot be told apart at their last validation, the sentence with the numbers)."""
    if len(behind.runs) == len(ahead.runs) == 1:
        pairs = zip((behind, ahead), changes, strict=True)
        tables = [subject.runs[0].shares.get(c.steps[1], {}).get(source, {}) for subject, c in pairs]
        if all(tables) and not set(tables[0]) & set(tables[1]):
            return True, "They have no held-out problem in common."
        found = paired(*tables)
        if found:
            low, high, problems = found
            points = f"from {100 * low:+.1f} to {100 * high:+.1f} points above."
            return low <= 0, f"Over the same {problems} problems {ahead.name} is {points}"
    second, best = (change.ends[1] for change in changes)
    if best and second:
        overlap = best[0] <= second[1]
        return overlap, f"Their 95 % intervals {'overlap' if overlap else 'have nothing in common'}."
    return True, "There is no interval to tell them apart by."


def _price(ahead: Subject, behind: Subject, best: Change, second: Change) -> tuple[float | None, list[str]]:
    """How many times the KL of the second the first one took, and sentences: both KLs, and the objective of both."""
    first, other = (subject.at_end(KL_OF_AN_ANSWER) for subject in (ahead, behind))
    if first is None or other is None:
        return None, []
    text = [f"KL of an answer to the reference: {ahead.name} {number(first)}, {behind.name} {number(other)} nats."]
    settings = [run.config for subject in (ahead, behind) for run in subject.runs if run.config]
    betas = {float(beta) for c in settings if (beta := c.get("algorithm.frpo.kl_coef"))}
    if len(betas) == 1:
        (beta,) = betas
        weighed = [number(change.after - beta * kl) for change, kl in ((best, first), (second, other))]
        values = f"{ahead.name} {weighed[0]}, {behind.name} {weighed[1]}"
        text.append(f"What kl_coef={beta:g} weighs, held-out mean less {beta:g} times the KL: {values}.")
    return first / other if other > 1e-4 else None, text


def _row(subject: Subject, change: Change | None, common: str | None) -> list[str]:
    passes = "–"
    for source in [common] if common in subject.sources() and common else subject.sources()[:1]:
        ks = subject.ks(source)
        c = subject.validation(source, f"pass@{ks[-1]}") if ks else None
        if c is not None:
            passes = f"pass@{ks[-1]} {percent(c.values[-1], c.ends(-1))}"
    ends = (number(subject.at_end(*quantity.names)) for quantity in (KL, ENTROPY, LENGTH))
    held_out = [change.shown(after) if change else "–" for after in (False, True)]
    return [subject.name, str(len(subject.runs)), str(subject.last_step), *held_out, passes, *ends]
