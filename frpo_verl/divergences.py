"""The divergence table: f(w), f'(w) and f(w)/w as functions of the log-ratio log w = log pi - log ref.

    D_f(pi || ref)(s) = sum_a ref(a|s) f( pi(a|s) / ref(a|s) ),      f convex, f(1) = 0

A sampled token costs f(w)/w (its expectation under pi is D_f) and the gradient of D_f with respect to the
policy at that state is E_pi[ f'(w) * score ]. In the notation of FRPO (arXiv 2601.10201v2, Eq. 4.1 and
Theorem 4.1), which writes F(u) = u f(1/u) with u = ref/pi = 1/w:   f(w)/w = F(u)   and   f'(w) = F(u) - u
F'(u).

Every function takes log w (any shape, floating point) and returns a tensor of its shape and dtype, accurate
to a few units of rounding for log w in [-20, 20] in float32: forms in expm1 and log1p, and a series where two
equal terms would cancel.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["ALPHA_MAX", "ALPHA_MIN", "DIVERGENCES", "Divergence", "get_divergence"]

ALPHA_MIN, ALPHA_MAX = -2.0, 4.0  # beyond, w^alpha at |log w| = 20 leaves float32's range in a long sum

TensorFn = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Divergence:
    """One row of the table.

    Attributes:
        name: the row's name.
        value: log w -> f(w), nats.
        future: log w -> f(w)/w, the cost of a sampled token: E_pi[f(w)/w] = D_f. Exactly 0 at log w = 0.
        centered_local: log w -> f'(w) - f'(1). Exactly 0 at log w = 0.
        slope_at_one: f'(1), an action-independent constant: it drops out of every expected gradient.
        nonnegative_future: True when f(w)/w >= 0 for every single token, not only on average.
        future_equals_local: True when f(w)/w and f'(w) - f'(1) are the same function (reverse KL only).
        formula: f(w) in plain text.
    """

    name: str
    value: TensorFn
    future: TensorFn
    centered_local: TensorFn
    slope_at_one: float
    nonnegative_future: bool
    formula: str
    future_equals_local: bool = False

    def local(self, log_w: torch.Tensor) -> torch.Tensor:
        """log w -> f'(w), the coefficient of the token's own score in the gradient of D_f at its state.

        Advantages and losses use `centered_local`, which is 0, not f'(1), where the policies agree.
        """
        return self.centered_local(log_w) + self.slope_at_one


def _expm1_minus_x(x: torch.Tensor) -> torch.Tensor:
    """exp(x) - 1 - x >= 0; for |x| < 1/4, where expm1(x) - x cancels, x^2/2 (1 + x/3 + x^2/12 + ...)."""
    one = torch.ones((), dtype=x.dtype, device=x.device)
    series = one
    for k in range(14 if x.dtype == torch.float64 else 7, 2, -1):
        series = torch.addcmul(one, series, x, value=1.0 / k)
    return torch.where(x.abs() < 0.25, x.square().mul(series).mul(0.5), torch.expm1(x) - x)


def _js_future(x: torch.Tensor) -> torch.Tensor:
    # f/w = log(2w/(1+w)) - (1/w) log((1+w)/2): both terms are x/2 near w = 1. Terms of order x^2 instead:
    # f/w = -(x/2) expm1(-x) - (1 + 1/w) log cosh(x/2),    cosh(x/2)^2 = 1 + expm1(-x)^2 / (4/w)
    u, m = torch.exp(-x), torch.expm1(-x)
    log_cosh = torch.log1p(m.square() / (4.0 * u)).mul(0.5)
    return -0.5 * x * m - (1.0 + u) * log_cosh


def _squared_sinh(x: torch.Tensor) -> torch.Tensor:
    return torch.sinh(0.5 * x).square().mul(4.0)  # (w - 1)^2 / w


def _alpha(alpha: float) -> Divergence:
    scale = 1.0 / (alpha * (alpha - 1.0))

    def value(x: torch.Tensor) -> torch.Tensor:
        return scale * (_expm1_minus_x(alpha * x) - alpha * _expm1_minus_x(x))

    return Divergence(
        name="alpha",
        value=value,
        future=lambda x: torch.exp(-x) * value(x),
        centered_local=lambda x: torch.expm1((alpha - 1.0) * x) / (alpha - 1.0),
        slope_at_one=0.0,
        nonnegative_future=True,
        formula=f"(w^a - a w - 1 + a) / (a (a - 1)), a = {alpha:g}",
    )


def _alpha_missing(_: torch.Tensor) -> torch.Tensor:
    raise ValueError("divergence alpha has no order: build it with get_divergence('alpha', alpha=...)")


def _rows() -> dict[str, Divergence]:
    rows = (
        Divergence(
            "reverse_kl",
            value=lambda x: x * torch.exp(x),
            future=lambda x: x,
            centered_local=lambda x: x,
            slope_at_one=1.0,
            nonnegative_future=False,
            formula="w log w",
            future_equals_local=True,
        ),
        Divergence(
            "reverse_kl_k3",
            value=lambda x: torch.exp(x) * _expm1_minus_x(-x),
            future=lambda x: _expm1_minus_x(-x),
            centered_local=lambda x: x,
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="w log w - w + 1",
        ),
        Divergence(
            "forward_kl",
            value=lambda x: -x,
            future=lambda x: -x * torch.exp(-x),
            centered_local=lambda x: -torch.expm1(-x),
            slope_at_one=-1.0,
            nonnegative_future=False,
            formula="-log w",
        ),
        Divergence(
            "forward_kl_k3",
            value=_expm1_minus_x,
            future=lambda x: torch.exp(-x) * _expm1_minus_x(x),
            centered_local=lambda x: -torch.expm1(-x),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="w - 1 - log w",
        ),
        Divergence(
            "js",
            value=lambda x: torch.exp(x) * _js_future(x),
            future=_js_future,
            centered_local=lambda x: -torch.log1p(0.5 * torch.expm1(-x)),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="w log w - (w + 1) log((w + 1)/2)",
        ),
        Divergence(
            "jeffreys",
            value=lambda x: x * torch.expm1(x),
            future=lambda x: -x * torch.expm1(-x),
            centered_local=lambda x: x - torch.expm1(-x),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="(w - 1) log w",
        ),
        Divergence(
            "pearson_chi2",
            value=lambda x: torch.expm1(x).square(),
            future=_squared_sinh,
            centered_local=lambda x: 2.0 * torch.expm1(x),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="(w - 1)^2",
        ),
        Divergence(
            "neyman_chi2",
            value=_squared_sinh,
            future=lambda x: torch.expm1(-x).square(),
            centered_local=lambda x: -torch.expm1(-2.0 * x),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="(w - 1)^2 / w",
        ),
        Divergence(
            "squared_hellinger",
            value=lambda x: torch.expm1(0.5 * x).square(),
            future=lambda x: torch.expm1(-0.5 * x).square(),
            centered_local=lambda x: -torch.expm1(-0.5 * x),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="(sqrt w - 1)^2",
        ),
        Divergence(
            "total_variation",
            value=lambda x: 0.5 * torch.expm1(x).abs(),
            future=lambda x: 0.5 * torch.expm1(-x).abs(),
            centered_local=lambda x: 0.5 * torch.sign(x),
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="|w - 1| / 2",
        ),
        Divergence(
            "alpha",
            value=_alpha_missing,
            future=_alpha_missing,
            centered_local=_alpha_missing,
            slope_at_one=0.0,
            nonnegative_future=True,
            formula="(w^a - a w - 1 + a) / (a (a - 1))",
        ),
    )
    return {row.name: row for row in rows}


DIVERGENCES: dict[str, Divergence] = _rows()


def get_divergence(name: str, alpha: float | None = None) -> Divergence:
    """The row of the table called `name`; for `alpha`, the row of that order.

        alpha:   f(w) = (w^a - a w - 1 + a) / (a (a - 1)),   a -> 1 is reverse_kl_k3, a -> 0 is forward_kl_k3

    Args:
        name: a key of DIVERGENCES.
        alpha: the order a, in [-2, 4] without 0 and 1; required for `alpha`, refused for the other rows.

    Raises:
        ValueError: unknown name (the nearest known one is named), or alpha missing, not needed, 0, 1 or out
            of range.
    """
    if name not in DIVERGENCES:
        near = difflib.get_close_matches(str(name), DIVERGENCES, n=1, cutoff=0.0)
        raise ValueError(f"divergence={name!r} is unknown: did you mean {near[0]!r}? Known: {', '.join(DIVERGENCES)}")
    if name != "alpha":
        if alpha is not None:
            raise ValueError(
                f"alpha={alpha!r} is only read by divergence 'alpha', not by {name!r}: "
                "remove it or set divergence=alpha"
            )
        return DIVERGENCES[name]
    number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not number or not math.isfinite(alpha) or not ALPHA_MIN <= alpha <= ALPHA_MAX or alpha in (0, 1):
        raise ValueError(
            f"alpha={alpha!r}: divergence 'alpha' needs a number in [{ALPHA_MIN:g}, {ALPHA_MAX:g}] "
            "other than 0 and 1 (for these limits use forward_kl_k3 and reverse_kl_k3)"
        )
    return _alpha(float(alpha))
