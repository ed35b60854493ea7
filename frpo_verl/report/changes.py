"""How a held-out measure changed from the first validation to the last, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from frpo_verl.evaluation import confidence_interval
from frpo_verl.evaluation.figures import number, percent

from .subjects import Curve, Subject, pool


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


def paired(first: dict[str, float], second: dict[str, float]) -> tuple[float, float, int] | None:
    """(low, high, problems): 95 % interval over the problems that both have, of second minus first on the same one."""
    common = sorted(set(first) & set(second))
    if len(common) < 2:
        return None
    low, high = confidence_interval(np.array([[second[p] - first[p]] for p in common]))
    return float(low[0]), float(high[0]), len(common)


def change_of(label: str, c: Curve | None) -> Change | None:
    """The change along a curve of two points or more."""
    if c is None or len(c) < 2:
        return None
    share = min(c.values) >= 0 and max(c.values) <= 1
    return Change(label, (c.steps[0], c.steps[-1]), c.values[0], c.values[-1], (c.ends(0), c.ends(-1)), share)


def _add_gap(change: Change, subject: Subject, source: str) -> None:
    """The interval of the difference: over problems for one run, over the runs for a group."""
    tables = [[run.shares.get(step, {}).get(source, {}) for step in change.steps] for run in subject.runs]
    if len(tables) == 1:
        found = paired(*tables[0])
        if found:
            change.gap, change.over = found[:2], f"the same {found[2]} problems"
    elif all(table for pair in tables for table in pair):
        means = [[float(np.mean(list(table.values()))) for table in pair] for pair in tables]
        ends = pool([Curve([0], [last - first]) for first, last in means]).ends(0)
        change.gap, change.over = ends, f"{len(means)} runs"


def main_change(subject: Subject, only: str | None = None) -> Change | None:
    """The first data source's mean@n from the dumps, else verl's held-out reward, else None; of ``only`` if that is given."""
    for source in subject.sources() if only is None else [only]:
        name = subject.mean_metric(source)
        label = f"{name} on {subject.runs[0].label(source)}"
        change = change_of(label, subject.validation(source, name or ""))
        if change is not None:
            _add_gap(change, subject, source)
            return change
    for source in subject.held_out_sources() if only is None else [only]:
        change = change_of(f"held-out reward on {source}", subject.held_out(source))
        if change is not None:
            return change
    return None


def common_source(subjects: Sequence[Subject]) -> str | None:
    """The first data source by which all of them can be measured."""
    ways = [
        [s for s in subject.sources() if main_change(subject, s)]
        or [s for s in subject.held_out_sources() if main_change(subject, s)]
        for subject in subjects
    ]
    return next((s for s in ways[0] if all(s in other for other in ways)), None)


def last_gap(behind: Subject, ahead: Subject, changes: tuple[Change, Change], source: str) -> tuple[bool, str]:
    """(whether two subjects cannot be told apart at their last validation, the sentence with the numbers).

    Args:
        changes: of the one behind and of the one ahead.
    """
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
