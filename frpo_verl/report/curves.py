"""Values over steps: running means, means over runs with their interval, and what "at the end" is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

CONFIDENCE = 0.95
SMOOTH_FROM = 20  # steps, from which on a training metric is shown as a running mean
#: share of the steps, and at least how many of them, that "at the end" is the mean of
LAST_SHARE, LAST_LEAST = 0.05, 5


@dataclass
class Curve:
    """Values over steps (or over k, or quarters of an answer), false if there are none; low and high are the ends of an
    interval, or empty."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    name: str = ""  # of the metric
    points: bool = False  # few and exact, as of validations: drawn with marks, never smoothed
    smooth: bool = False  # a running mean already

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return iter(zip(self.steps, self.values, strict=True))

    def add(self, step: int, value: float, *ends: float) -> None:
        """One more value, with the ends of its interval where it has one."""
        self.steps.append(step)
        self.values.append(value)
        self.low += ends[:1]
        self.high += ends[1:]

    def ends(self, place: int) -> tuple[float, float] | None:
        """The interval at one of its points."""
        return (self.low[place], self.high[place]) if self.low else None

    def smoothed(self) -> Curve:
        """A running mean of a long noisy curve."""
        if self.points or self.smooth or len(self) < SMOOTH_FROM:
            return self
        return replace(self, values=smooth(self.values, len(self) / 40), smooth=True)

    def last_count(self) -> int:
        """How many of the last steps "at the end" is the mean of."""
        return max(1, min(len(self), max(LAST_LEAST, math.ceil(len(self) * LAST_SHARE))))

    def at_end(self) -> float | None:
        """Mean of a training metric over the last steps."""
        return float(np.mean(self.values[-self.last_count() :])) if self else None


def smooth(values: Sequence[float], sigma: float) -> list[float]:
    """Centred Gaussian mean of width ``sigma`` (in points), its weights renormalised at the ends."""
    from scipy.ndimage import gaussian_filter1d

    rows = np.array([values, np.ones(len(values))], dtype=float)
    mean, weight = gaussian_filter1d(rows, sigma, mode="constant", radius=math.ceil(3 * sigma))
    return list(mean / weight)


def pool(curves: Sequence[Curve]) -> Curve:
    """Mean and Student's interval over runs, at the steps that all of them have.

        mean -+ t(n - 1) * s / sqrt(n)

    The runs are smoothed before: the interval is that of their courses, without the noise of a step.
    """
    if len(curves) == 1:
        return curves[0]
    from scipy.stats import t

    tables = [dict(c.smoothed()) for c in curves]
    common = sorted(set.intersection(*map(set, tables)))
    values = np.array([[table[step] for step in common] for table in tables])
    mean, n = values.mean(0), len(curves)
    half = t.ppf(0.5 + CONFIDENCE / 2, n - 1) * values.std(0, ddof=1) / math.sqrt(n)
    smoothed, points = all(c.smoothed().smooth for c in curves), all(c.points for c in curves)
    return Curve(common, mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), points=points, smooth=smoothed)
