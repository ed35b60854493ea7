"""Numbers as people read them."""

from __future__ import annotations

import math

__all__ = ["interval", "number", "percent"]


def number(value: float | None) -> str:
    """Three figures that can be read."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e6:
        return f"{value:.2e}"
    if value == int(value) or size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 0.01:
        return f"{value:.3f}"
    return f"{value:.1e}" if size < 1e-3 else f"{value:.4f}"


def interval(low: float, high: float) -> str:
    """The ends of an interval of shares, in percent."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def percent(value: float, ends: tuple[float, float] | None = None) -> str:
    """A share in percent, with its interval where there is one."""
    return f"{100 * value:.1f}{' ' + interval(*ends) if ends else ''} %"
