"""Values over steps: running means, means over runs with their interval, and what "at the end" is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

CONFIDENCE = 0.95
SMOOTH_FROM = 20  # steps, from which on a training metric is shown as a running mean
#: share of the steps, and at least how many of them, that "at the end" is the mean of
LAST_SHARE, LAST_LEAST = 0.05, 5


@dataclass
class Curve:
    """Values over steps (or over k); low and high are the ends of an interval, or None."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    low: list[float] | None = None
    high: list[float] | None = None
    smooth: bool = False  # a running mean already

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return iter(zip(self.steps, self.values, strict=True))

    def ends(self, place: int) -> tuple[float, float] | None:
        """The interval at one of its points."""
        return (self.low[place], self.high[place]) if self.low and self.high else None


def smooth(values: Sequence[float], sigma: float) -> list[float]:
    """Centred Gaussian mean of width ``sigma`` (in points), its weights renormalised at the ends."""
    from scipy.ndimage import gaussian_filter1d

    rows = np.array([values, np.ones(len(values))], dtype=float)
    mean, weight = gaussian_filter1d(rows, sigma, mode="constant", radius=math.ceil(3 * sigma))
    return list(mean / weight)


def smoothed(c: Curve) -> Curve:
    """A running mean of a long noisy curve."""
    if c.smooth or len(c) < SMOOTH_FROM:
        return c
    return Curve(c.steps, smooth(c.values, len(c) / 40), c.low, c.high, smooth=True)


def pool(curves: Sequence[Curve]) -> Curve:
    """Mean and Student's interval over runs, at the steps that all of them have.

    mean -+ t(n - 1) * s / sqrt(n)
    """
    if len(curves) == 1:
        return curves[0]
    from scipy.stats import t

    common = sorted(set.intersection(*(set(c.steps) for c in curves)))
    tables = [dict(c) for c in curves]
    values = np.array([[table[step] for step in common] for table in tables]).reshape(len(curves), len(common))
    mean = values.mean(0)
    n = len(curves)
    half = t.ppf(0.5 + CONFIDENCE / 2, n - 1) * values.std(0, ddof=1) / math.sqrt(n)
    ends = (mean - half).tolist(), (mean + half).tolist()
    return Curve(common, mean.tolist(), *ends, smooth=all(c.smooth for c in curves))


def last_count(points: int) -> int:
    """How many of the last steps "at the end" is the mean of."""
    return max(1, min(points, max(LAST_LEAST, math.ceil(points * LAST_SHARE))))


def at_end(c: Curve | None) -> float | None:
    """Mean of a training metric over the last steps."""
    return float(np.mean(c.values[-last_count(len(c)) :])) if c is not None and len(c) else None
