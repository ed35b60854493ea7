"""Optional terms added to a 0/1 reward: DAPO's soft overlong penalty and a format bonus (both off unless asked for).

With either of them the reward is no longer binary, and the reading of group-normalised advantages as the gradient of
2 arcsin(sqrt(p)) no longer holds: standardising a non-binary reward is the gradient of no utility at all.
"""

from __future__ import annotations


def soft_overlong(length: float, max_length: float, buffer: float) -> float:
    """DAPO's soft overlong penalty: 0 up to max_length - buffer, then down linearly to -1 at max_length and beyond.

        penalty = min(0, max(-1, (max_length - buffer - length) / buffer))

    Args:
        length: length of the response, in the unit of the two others.
        max_length: the length at which the penalty reaches -1.
        buffer: the width of the ramp, 0 < buffer <= max_length.

    Raises:
        ValueError: when buffer is not in (0, max_length].

    Reference: DAPO, arXiv 2503.14476, equation 13. Differs from the paper in nothing.
    """
    if not 0 < buffer <= max_length:
        raise ValueError(f"overlong_buffer={buffer}: must be > 0 and <= overlong_max_length={max_length}")
    return min(0.0, max(-1.0, (max_length - buffer - length) / buffer))
