"""What came out of a run, or which of several runs is ahead, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from frpo_verl.evaluation import confidence_interval
from frpo_verl.evaluation.figures import number, percent

from .curves import Curve, pool
from .quantities import ENTROPY, HELD_OUT, KL, KL_OF_AN_ANSWER, LENGTH, REWARD
from .rules import Rule
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
    """A measure from the first validation to the last one, and the interval of the difference, ``over`` what it is."""

    label: str
    curve: Curve  # of two points or more
    gap: tuple[float, float] | None = None
    over: str = ""

    @property
    def before(self) -> float:
        return self.curve.values[0]

    @property
    def after(self) -> float:
        return self.curve.values[-1]

    @property
    def share(self) -> bool:
        """Whether it is shown in percent."""
        return min(self.curve.values) >= 0 and max(self.curve.values) <= 1

    def shown(self, place: int) -> str:
        """The value at the first (0) or last (-1) validation with its interval."""
        value, ends = self.curve.values[place], self.curve.ends(place)
        if self.share:
            return percent(value, ends)
        return number(value) + (f" [{number(ends[0])}, {number(ends[1])}]" if ends else "")

    @property
    def difference(self) -> str:
        """After minus before."""
        gap = self.after - self.before
        return f"{100 * gap:+.1f} points" if self.share else f"{'+' if gap >= 0 else ''}{number(gap)}"


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
        change = Change(f"{name} on {subject.label(source)}", subject.validation(source, name))
        if len(change.curve) < 2:
            continue
        steps = change.curve.steps[0], change.curve.steps[-1]
        tables = [[run.shares.get(step, {}).get(source, {}) for step in steps] for run in subject.runs]
        found = paired(*tables[0]) if len(tables) == 1 else None
        if found:
            change.gap, change.over = found[:2], f"the same {found[2]} problems"
        elif len(tables) > 1 and all(table for pair in tables for table in pair):
            means = [[float(np.mean(list(table.values()))) for table in pair] for pair in tables]
            change.gap = pool([Curve([0], [last - first]) for first, last in means]).ends(0)
            change.over = f"{len(means)} runs"
        return change
    sources = subject.held_out_sources() if only is None else [only]
    changes = (Change(f"held-out reward on {source}", subject.validation(source, HELD_OUT)) for source in sources)
    return next((change for change in changes if len(change.curve) > 1), None)


def common_source(subjects: Sequence[Subject]) -> str | None:
    """The first data source by which all of them can be measured."""
    ways = [
        [source for source in subject.sources() if main_change(subject, source)]
        or [source for source in subject.held_out_sources() if main_change(subject, source)]
        for subject in subjects
    ]
    return next((source for source in ways[0] if all(source in other for other in ways)), None)


def decide(subjects: Sequence[Subject], broken: Iterable[Rule]) -> Conclusion:
    """The verdict on what the page shows."""
    found = of_one(subjects[0]) if len(subjects) == 1 else of_several(subjects)
    titles = [rule.title for rule in broken]
    many = f"{len(titles)} warning{'s' if len(titles) > 1 else ''} below: {'; '.join(titles)}."
    found.sentences.append(many if titles else "No warning.")
    return found


def of_one(subject: Subject) -> Conclusion:
    """The verdict on one run or one group."""
    found = Conclusion(OPEN, "Not decided: there are no two validations to compare.")
    change = main_change(subject)
    if change is not None:
        chance = change.gap is not None and change.gap[0] <= 0 <= change.gap[1]
        if chance:
            found.headline = f"No change that can be told from chance after {subject.last_step} steps."
        elif change.after == change.before:
            found.headline = "Nothing changed on held-out problems."
        else:
            found.kind, word = (GOOD, "better") if change.after > change.before else (BAD, "worse")
            found.headline = f"The policy got {word}: {change.difference} on held-out problems."
        first, last = change.curve.steps[0], change.curve.steps[-1]
        values = f"{change.shown(0)} at step {first}, {change.shown(-1)} at step {last}"
        sentence = f"{change.label}: {values} ({change.difference})."
        if change.gap is not None:
            low, high = (100 * end for end in change.gap)
            points = f"from {low:+.1f} to {high:+.1f} points" + (": it may be chance" if chance else "")
            sentence += f" Over {change.over} the difference is {points}."
        found.sentences.append(sentence)
    for source in subject.sources():  # of the first one with several k
        k = max(subject.ks(source), default=1)
        many = Change("", subject.validation(source, f"pass@{k}"))
        if k > 1 and len(many.curve) > 1:
            values = f"{percent(many.before)} before, {percent(many.after)} after ({many.difference})"
            found.sentences.append(f"pass@{k}, what the model can find in {k} tries: {values}.")
            break
    found.sentences += _training_sentences(subject)
    return found


def _training_sentences(subject: Subject) -> list[str]:
    out = []
    reward, kl, entropy = (subject.curve(*quantity.names) for quantity in (REWARD, KL, ENTROPY))
    if len(reward) > 1:
        ends = f"{number(reward.values[0])} at the first step, {number(reward.at_end())} at the end"
        out.append(f"Training reward: {ends}.")
    if kl:
        go = subject.curve(KL_OF_AN_ANSWER).at_end()
        whole = f", {number(go)} nats over a whole answer" if go is not None else ""
        out.append(f"Distance from the reference at the end: {number(kl.at_end())} nats a token{whole}.")
    if len(entropy) > 1:
        ends = f"{number(entropy.values[0])} nats a token at the first step, {number(entropy.at_end())} at the end"
        out.append(f"Entropy: {ends}.")
    return out


def of_several(subjects: Sequence[Subject]) -> Conclusion:
    """Which subject is ahead on the held-out problems, and whether that can be told from chance."""
    measured = {subject.name: change for subject in subjects if (change := main_change(subject)) is not None}
    source = common_source([s for s in subjects if s.name in measured]) if len(measured) > 1 else None
    if source is not None:
        changes = {s.name: main_change(s, source) for s in subjects if s.name in measured}
        measured = {name: change for name, change in changes.items() if change is not None}
    if len(measured) < 2:
        found = Conclusion(OPEN, "Not decided: fewer than two of them have two validations.")
    elif source is None:
        each = [f"{name}: {c.label} {c.shown(-1)}." for name, c in measured.items()]
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
    known = [subject for subject in subjects if subject.name in changes]
    ahead, behind = sorted(known, key=lambda s: (changes[s.name].after, s.name), reverse=True)[:2]
    best, second = changes[ahead.name], changes[behind.name]
    overlap, why = _last_gap(behind, ahead, second, best, source)
    times, price = _price(ahead, behind, best, second)
    kind = OPEN
    if best.after == second.after:
        headline = f"{ahead.name} and {behind.name} are equal on the held-out problems."
    elif overlap:
        headline = f"{ahead.name} and {behind.name} cannot be told apart on the held-out problems."
    elif times > 1.1:
        gap = f"{100 * (best.after - second.after):.1f} points" if best.share else number(best.after - second.after)
        headline = f"{ahead.name} is ahead by {gap} at {times:.1f} times the KL."
    else:
        kind, headline = GOOD, f"{ahead.name} is ahead on the held-out problems."
    values = f"{ahead.name} {best.shown(-1)}; {behind.name} {second.shown(-1)}"
    sentences = [f"Last validation, {best.label}: {values}.", why, *price]
    if len({c.curve.steps[-1] for c in changes.values()}) > 1:
        sentences.append("Their last validations are at different steps: compare with care.")
    return Conclusion(kind, headline, sentences)


def _last_gap(behind: Subject, ahead: Subject, second: Change, best: Change, source: str) -> tuple[bool, str]:
    """(whether two subjects cannot be told apart at their last validation, the sentence with the numbers)."""
    if len(behind.runs) == len(ahead.runs) == 1:
        pairs = (behind, second), (ahead, best)
        tables = [subject.runs[0].shares.get(c.curve.steps[-1], {}).get(source, {}) for subject, c in pairs]
        if all(tables) and not set(tables[0]) & set(tables[1]):
            return True, "They have no held-out problem in common."
        found = paired(*tables)
        if found:
            low, high, problems = found
            points = f"from {100 * low:+.1f} to {100 * high:+.1f} points above."
            return low <= 0, f"Over the same {problems} problems {ahead.name} is {points}"
    if best.curve.low and second.curve.high:
        overlap = best.curve.low[-1] <= second.curve.high[-1]
        return overlap, f"Their 95 % intervals {'overlap' if overlap else 'have nothing in common'}."
    return True, "There is no interval to tell them apart by."


def _price(ahead: Subject, behind: Subject, best: Change, second: Change) -> tuple[float, list[str]]:
    """How many times the KL of the second the first one took (0: not known), and sentences: both KLs and objectives."""
    first, other = (subject.curve(KL_OF_AN_ANSWER).at_end() for subject in (ahead, behind))
    if first is None or other is None:
        return 0.0, []
    text = [f"KL of an answer to the reference: {ahead.name} {number(first)}, {behind.name} {number(other)} nats."]
    settings = [run.config.get("algorithm.frpo.kl_coef") for subject in (ahead, behind) for run in subject.runs]
    betas = {float(beta) for beta in settings if beta}
    if len(betas) == 1:
        (beta,) = betas
        weighed = [number(change.after - beta * kl) for change, kl in ((best, first), (second, other))]
        values = f"{ahead.name} {weighed[0]}, {behind.name} {weighed[1]}"
        text.append(f"What kl_coef={beta:g} weighs, held-out mean less {beta:g} times the KL: {values}.")
    return first / other if other > 1e-4 else 0.0, text


def _row(subject: Subject, change: Change | None, common: str | None) -> list[str]:
    sources = subject.sources()
    source = common if common and common in sources else next(iter(sources), "")
    k = max(subject.ks(source), default=1)
    c = subject.validation(source, f"pass@{k}")
    passes = f"pass@{k} {percent(c.values[-1], c.ends(-1))}" if c else "–"
    ends = (number(subject.curve(*quantity.names).at_end()) for quantity in (KL, ENTROPY, LENGTH))
    held_out = [change.shown(place) if change else "–" for place in (0, -1)]
    return [subject.name, str(len(subject.runs)), str(subject.last_step), *held_out, passes, *ends]
