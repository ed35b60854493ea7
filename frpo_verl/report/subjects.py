"""What a line on the page stands for: one run, or several of one kind (seeds) as their mean and its interval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, count

from .collect import TrainingRun
from .configuration import comparable
from .curves import Curve, at_end, pool, smoothed

_NUMBERED = re.compile(r"[-_. ]?(?:seed|s|run)?[-_=]?\d+$", re.I)


def _pooled(curves: Sequence[Curve]) -> Curve | None:
    """None unless all have a point in common: a mean over fewer runs would be compared with the next one's."""
    pooled = pool(curves) if all(len(c) for c in curves) else None
    return pooled if pooled is not None and len(pooled) else None


@dataclass
class Subject:
    """One run, or the runs of a group."""

    name: str
    runs: list[TrainingRun] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """The last step that all runs of it have reached."""
        return min(run.last_step for run in self.runs)

    def curve(self, *names: str) -> Curve | None:
        """The first of the metrics that every run of it has logged, finite values only.

        The runs of a group are smoothed before they are pooled: the interval is that of their courses, without the noise
        of a step.
        """
        for name in names:
            each = [run.curve(name) for run in self.runs]
            found = _pooled(each if len(each) == 1 else [smoothed(c) for c in each])
            if found is not None:
                return found
        return None

    def at_end(self, *names: str) -> float | None:
        """Mean over the last steps of the first of the metrics that every run of it has logged."""
        return at_end(self.curve(*names))

    def held_out(self, source: str) -> Curve | None:
        """Mean validation reward of a data source, as verl logs it."""
        return _pooled([run.held_out.get(source, Curve()) for run in self.runs])

    def held_out_sources(self) -> list[str]:
        """Data sources that verl logs a validation reward of."""
        return sorted({source for run in self.runs for source in run.held_out})

    def validation(self, source: str, metric: str) -> Curve | None:
        """One of `summarize`'s metrics over the validations: its interval over problems, of a group over runs."""
        return _pooled([run.validation(source, metric) for run in self.runs])

    def mean_metric(self, source: str) -> str | None:
        """The name of the mean@n of a data source."""
        results = (result.get(source, {}) for run in self.runs for result in run.validations.values())
        names = (name for result in results for name in result.get("metrics", {}))
        return next((name for name in names if name.startswith("mean")), None)

    def sources(self) -> list[str]:
        """Data sources in the dumps of any of its runs."""
        return sorted({source for run in self.runs for source in run.sources()})

    def ks(self, source: str) -> list[int]:
        """The k of pass@k that all its runs know at all their validations."""
        return sorted(set.intersection(*(set(run.ks(source)) for run in self.runs)))

    def over_k(self, source: str, kind: str, step: int) -> Curve | None:
        """pass@k or maj@k over k at one validation."""
        found = [(k, self.validation(source, f"{kind}@{k}")) for k in self.ks(source)]
        points = [(k, c, c.steps.index(step)) for k, c in found if c is not None and step in c.steps]
        if not points:
            return None
        ends = [end for _, c, i in points if (end := c.ends(i))]
        low, high = ([end[side] for end in ends] or None for side in (0, 1))
        return Curve([k for k, _, _ in points], [c.values[i] for _, c, i in points], low, high)

    def validation_steps(self, source: str) -> list[int]:
        """Steps at which every run of it has validated the source."""
        each = [{s for s, result in run.validations.items() if source in result} for run in self.runs]
        return sorted(set.intersection(*each))


def group(runs: Sequence[TrainingRun], named: bool) -> list[Subject]:
    """The runs of one kind together, in the order of their first ones.

    Of one kind are runs with the same ``--name``, where names were given; else runs whose configurations differ in
    nothing but seeds and the folders they write to; else, where a configuration is missing, runs whose folders are
    called the same apart from a number at the end: frpo-seed2, frpo_s2, frpo-2.
    """
    stems = {run.name: run.name if named else _NUMBERED.sub("", run.name) or run.name for run in runs}
    by_config = not named and all(run.config is not None for run in runs)
    groups: dict[object, list[TrainingRun]] = {}
    for run in runs:
        key: object = stems[run.name]
        if by_config and run.config is not None:
            key = repr(sorted(comparable(run.config, seeds=False).items()))
        groups.setdefault(key, []).append(run)
    return _told_apart([(g[0].name if len(g) == 1 else stems[g[0].name], g) for g in groups.values()])


def alone(runs: Sequence[TrainingRun]) -> list[Subject]:
    """Every run for itself."""
    return _told_apart([(run.name, [run]) for run in runs])


def _told_apart(members: Sequence[tuple[str, list[TrainingRun]]]) -> list[Subject]:
    """Subjects, those of one name with " (2)", " (3)", ... behind it."""
    subjects: dict[str, Subject] = {}
    for name, runs in members:
        numbered = (f"{name} ({i})" for i in count(2))
        free = next(text for text in chain([name], numbered) if text not in subjects)
        subjects[free] = Subject(free, runs)
    return list(subjects.values())
