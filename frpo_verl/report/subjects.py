"""What a line on the page stands for: one run, or several of one kind (seeds) as their mean and its interval."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from .collect import TrainingRun, of_source
from .configuration import comparable
from .curves import Curve, pool

_NUMBERED = re.compile(r"[-_. ]?(?:seed|s|run)?[-_=]?\d+$", re.I)


@dataclass
class Subject:
    """One run, or the runs of a group: what they have measured."""

    name: str
    runs: list[TrainingRun]

    @property
    def last_step(self) -> int:
        """The last step that all runs of it have reached."""
        return min(run.last_step for run in self.runs)

    def curve(self, *names: str) -> Curve:
        """The first of the metrics that every run of it has, finite values only; else an empty one.

        A mean over fewer runs would be compared with the next one's.
        """
        found = (pool([run.series.get(name, Curve()) for run in self.runs]) for name in names)
        return next((c for c in found if c), Curve())

    def validation(self, source: str, metric: str) -> Curve:
        """HELD_OUT or one of `summarize`'s metrics over the validations: its interval over problems, of a group over runs."""
        return self.curve(of_source(source, metric))

    def held_out_sources(self) -> list[str]:
        """Data sources that verl logs a validation reward of."""
        return sorted({source for run in self.runs for source in run.held_out})

    def sources(self) -> list[str]:
        """Data sources in the dumps of any of its runs."""
        return sorted({source for run in self.runs for result in run.validations.values() for source in result})

    def label(self, source: str) -> str:
        """A dump's data source for people: the only one of the metrics where the dump does not say."""
        if not source.startswith("("):
            return source
        logged = self.runs[0].held_out
        return next(iter(logged)) if len(logged) == 1 else "all sources"

    def _metrics(self, source: str) -> list[dict[str, Any]]:
        results = (result for run in self.runs for result in run.validations.values())
        return [result[source]["metrics"] for result in results if source in result]

    def mean_metric(self, source: str) -> str:
        """The name of the mean@n of a data source; "" if there is none."""
        return next((name for found in self._metrics(source) for name in found if name.startswith("mean")), "")

    def ks(self, source: str) -> list[int]:
        """The k of pass@k that are known at every validation of the source."""
        known = [{int(name[5:]) for name in found if name.startswith("pass@")} for found in self._metrics(source)]
        return sorted(set.intersection(*known)) if known else []

    def over_k(self, source: str, kind: str, step: int) -> Curve:
        """pass@k or maj@k over k at one validation."""
        found = Curve(points=True)
        for k in self.ks(source):
            c = self.validation(source, f"{kind}@{k}")
            if step in c.steps:
                place = c.steps.index(step)
                found.add(k, c.values[place], *(c.ends(place) or ()))
        return found

    def validation_steps(self, source: str) -> list[int]:
        """Steps at which every run of it has validated the source."""
        each = [{step for step, result in run.validations.items() if source in result} for run in self.runs]
        return sorted(set.intersection(*each))


def subjects_of(runs: Sequence[TrainingRun], grouped: bool = False, named: bool = False) -> list[Subject]:
    """Each run for itself, or the runs of one kind together, in the order of their first ones.

    Of one kind are runs with the same ``--name``, where names were given; else runs whose configurations differ in
    nothing but seeds and the folders they write to; else, where a configuration is missing, runs whose folders are
    called the same apart from a number at the end: frpo-seed2, frpo_s2, frpo-2. Subjects of one name get " (2)",
    " (3)", ... behind it.
    """
    stems = [run.name if named else _NUMBERED.sub("", run.name) or run.name for run in runs]
    groups: dict[object, list[int]] = {}
    for i, run in enumerate(runs):
        key: object = stems[i] if grouped else i
        if grouped and not named and all(other.config for other in runs):
            key = repr(sorted(comparable(run.config, seeds=False).items()))
        groups.setdefault(key, []).append(i)
    subjects: dict[str, Subject] = {}
    for members in groups.values():
        name = runs[members[0]].name if len(members) == 1 else stems[members[0]]
        numbered = (f"{name} ({i})" for i in count(2))
        free = next(text for text in chain([name], numbered) if text not in subjects)
        subjects[free] = Subject(free, [runs[i] for i in members])
    return list(subjects.values())
