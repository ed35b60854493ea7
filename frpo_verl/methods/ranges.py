"""Every range of a number that a user can type, once: the settings and the core check against the same object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Range:
    """An interval of numbers, said in words by `str`.

    low, high: the ends; infinite ends are never included.
    low_open, high_open: leave the end itself out.
    but_not: single numbers inside that are left out.
    whole: whole numbers only.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    but_not: tuple[float, ...] = ()
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        number = float(value)
        if not math.isfinite(number):
            return False
        above = number > self.low if self.low_open else number >= self.low
        below = number < self.high if self.high_open else number <= self.high
        return above and below and number not in self.but_not and (not self.whole or number == int(number))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        if math.isinf(self.low) and math.isinf(self.high):
            text = kind
        elif math.isinf(self.high):
            text = f"{kind} {'>' if self.low_open else '>='} {self.low:g}"
        else:
            ends = f"{'(' if self.low_open else '['}{self.low:g}, {self.high:g}{')' if self.high_open else ']'}"
            text = f"{'a whole number' if self.whole else 'a number'} in {ends}"
        return text + (f" other than {' and '.join(f'{n:g}' for n in self.but_not)}" if self.but_not else "")

    def check(self, name: str, value: object) -> None:
        """Raise ValueError, naming the argument, the value and the range, unless the value lies inside."""
        if value not in self:
            raise ValueError(f"{name}={value!r}: must be {self}")


KL_COEF = Range(low=0)
SCHEDULE_STEPS = Range(low=1, whole=True)
KL_TARGET = Range(low=0, low_open=True)  # nats of a response
KL_HORIZON = Range(low=1)  # steps
THRESHOLD = Range()  # of a reward
ALPHA = Range(-2, 4, but_not=(0, 1))  # beyond, w^alpha at |log w| = 20 leaves float32's range in a long sum
DISCOUNT = Range(0, 1)
STEP_LENGTH = Range(low=1, whole=True)
LOG_RATIO_CLIP = Range(0, 80, low_open=True)
PREFERENCE_WEIGHT = Range(0, 1)
CLIP_LOW = Range(0, 1, low_open=True)
CLIP_HIGH = Range(low=0, low_open=True)
DUAL_CLIP = Range(low=1, low_open=True)
BETA = Range(low=0, low_open=True)
CLIP_DELTA = Range(0, 700, low_open=True)  # nats; beyond, a ratio bound leaves the range of a double
CLIP_PROBABILITY = Range(0, 1, low_open=True, high_open=True)  # no two probabilities are further apart


def clip_delta(measure: str) -> Range:
    """The range of `delta` under a measure of the clip."""
    return CLIP_PROBABILITY if measure == "prob_tv" else CLIP_DELTA
