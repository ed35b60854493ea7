"""The divergence table: f(w), f(w)/w and f'(w) as functions of the log-ratio log w = log pi - log ref.

    D_f(pi || ref)(s) = sum_a ref(a|s) f( pi(a|s) / ref(a|s) ),      f convex, f(1) = 0

A sampled token costs f(w)/w (its expectation under pi is D_f) and the gradient of D_f with respect to the policy at
that state is E_pi[ f'(w) * score ]. In the notation of FRPO (arXiv 2601.10201v2, Eq. 4.1 and Theorem 4.1), which
writes F(u) = u f(1/u) with u = ref/pi = 1/w:   f(w)/w = F(u)   and   f'(w) = F(u) - u F'(u).

Every function takes log w (any shape, floating point) and returns a tensor of its shape and dtype, accurate to a few
units of rounding for log w in [-20, 20] in float32: forms in expm1 and log1p, and a series where two equal terms
would cancel. A divergence of one's own needs no more than f, see `Divergence`; `check_divergence` proves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from frpo_verl.methods import names, ranges

TensorFn = Callable[[torch.Tensor], torch.Tensor]
ROOM = 1e30  # largest cost or slope of one token: sums over 10^8 of them stay inside float32


@dataclass(frozen=True)
class Divergence:
    """One row of the table, or a divergence of the user's own.

        >>> my_kl = Divergence("my_kl", "w log w", value=lambda x: x * torch.exp(x))
        >>> log_w = torch.tensor([0.0, 1.0])
        >>> my_kl.cost(log_w), my_kl.slope(log_w), my_kl.slope_at_one
        (tensor([0., 1.]), tensor([0., 1.]), 1.0)

    name: the row's name.
    formula: f(w) in plain text.
    value: log w -> f(w), nats.
    cost: log w -> f(w)/w, the cost of a sampled token: E_pi[f(w)/w] = D_f. Exactly 0 at log w = 0. None: exp(-x) times
        `value`, which loses digits where f(w) is small.
    slope: log w -> f'(w) - f'(1), the coefficient of the token's own score, 0 where the policies agree: the constant
        f'(1) drops out of every expected gradient. Exactly 0 at log w = 0. None: `value` differentiated, `slope_at_one`
        as well.
    slope_at_one: f'(1).
    nonnegative_cost: True says that f(w)/w >= 0 for every single token, not only on average.
    cost_is_slope: True says that `cost` and `slope` are the same function (reverse KL only).
    """

    name: str
    formula: str
    value: TensorFn
    cost: TensorFn = None  # type: ignore[assignment]  # never None after __post_init__
    slope: TensorFn = None  # type: ignore[assignment]
    slope_at_one: float = 0.0
    nonnegative_cost: bool = False
    cost_is_slope: bool = False

    def __post_init__(self) -> None:
        value = self.value
        if self.cost is None:
            object.__setattr__(self, "cost", lambda x: torch.exp(-x) * value(x))
        if self.slope is None:
            at_one = float(_differentiate(value, torch.zeros((), dtype=torch.float64)))
            object.__setattr__(self, "slope_at_one", at_one)
            object.__setattr__(self, "slope", lambda x: torch.where(x == 0, 0.0, _differentiate(value, x) - at_one))


def _differentiate(value: TensorFn, x: torch.Tensor) -> torch.Tensor:
    """f'(w) = df/dx exp(-x), x = log w, by automatic differentiation."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (derivative,) = torch.autograd.grad(value(x).sum(), x)
    return derivative * torch.exp(-x.detach())


def _expm1_minus_x(x: torch.Tensor) -> torch.Tensor:
    """exp(x) - 1 - x >= 0; for |x| < 1/4, where expm1(x) - x cancels, x^2/2 (1 + x/3 + x^2/12 + ...)."""
    one = torch.ones((), dtype=x.dtype, device=x.device)
    series = one
    for k in range(14 if x.dtype == torch.float64 else 7, 2, -1):
        series = torch.addcmul(one, series, x, value=1.0 / k)
    return torch.where(x.abs() < 0.25, x.square().mul(series).mul(0.5), torch.expm1(x) - x)


def _js_cost(x: torch.Tensor) -> torch.Tensor:
    # f/w = log(2w/(1+w)) - (1/w) log((1+w)/2): both terms are x/2 near w = 1. Terms of order x^2 instead:
    # f/w = -(x/2) expm1(-x) - (1 + 1/w) log cosh(x/2),    cosh(x/2)^2 = 1 + expm1(-x)^2 / (4/w)
    u, m = torch.exp(-x), torch.expm1(-x)
    log_cosh = torch.log1p(m.square() / (4.0 * u)).mul(0.5)
    return -0.5 * x * m - (1.0 + u) * log_cosh


def _squared_sinh(x: torch.Tensor) -> torch.Tensor:
    return torch.sinh(0.5 * x).square().mul(4.0)  # (w - 1)^2 / w


def _alpha(alpha: float) -> Divergence:
    scale = 1.0 / (alpha * (alpha - 1.0))
    above_one = alpha - 1.0

    def value(x: torch.Tensor) -> torch.Tensor:
        # f = w ((w^b - 1 - b x) / b + 1/w - 1 + x) / a, b = a - 1: near a = 1 the two terms below cancel, these do not
        if abs(above_one) < 0.1:
            return torch.exp(x) * (_expm1_minus_x(above_one * x) / above_one + _expm1_minus_x(-x)) / alpha
        return scale * (_expm1_minus_x(alpha * x) - alpha * _expm1_minus_x(x))

    return Divergence(
        "alpha",
        f"(w^a - a w - 1 + a) / (a (a - 1)), a = {alpha:g}",
        value=value,
        slope=lambda x: torch.expm1((alpha - 1.0) * x) / (alpha - 1.0),
        nonnegative_cost=True,
    )


def _alpha_missing(_: torch.Tensor) -> torch.Tensor:
    raise ValueError("divergence alpha has no order: build it with get_divergence('alpha', alpha=...)")


_ROWS = (
    Divergence(
        "reverse_kl",
        "w log w",
        value=lambda x: x * torch.exp(x),
        cost=lambda x: x,
        slope=lambda x: x,
        slope_at_one=1.0,
        cost_is_slope=True,
    ),
    Divergence(
        "reverse_kl_k3",
        "w log w - w + 1",
        value=lambda x: torch.exp(x) * _expm1_minus_x(-x),
        cost=lambda x: _expm1_minus_x(-x),
        slope=lambda x: x,
        nonnegative_cost=True,
    ),
    Divergence(
        "forward_kl",
        "-log w",
        value=lambda x: -x,
        slope=lambda x: -torch.expm1(-x),
        slope_at_one=-1.0,
    ),
    Divergence(
        "forward_kl_k3",
        "w - 1 - log w",
        value=_expm1_minus_x,
        slope=lambda x: -torch.expm1(-x),
        nonnegative_cost=True,
    ),
    Divergence(
        "js",
        "w log w - (w + 1) log((w + 1)/2)",
        value=lambda x: torch.exp(x) * _js_cost(x),
        cost=_js_cost,
        slope=lambda x: -torch.log1p(0.5 * torch.expm1(-x)),
        nonnegative_cost=True,
    ),
    Divergence(
        "jeffreys",
        "(w - 1) log w",
        value=lambda x: x * torch.expm1(x),
        cost=lambda x: -x * torch.expm1(-x),
        slope=lambda x: x - torch.expm1(-x),
        nonnegative_cost=True,
    ),
    Divergence(
        "pearson_chi2",
        "(w - 1)^2",
        value=lambda x: torch.expm1(x).square(),
        cost=_squared_sinh,
        slope=lambda x: 2.0 * torch.expm1(x),
        nonnegative_cost=True,
    ),
    Divergence(
        "neyman_chi2",
        "(w - 1)^2 / w",
        value=_squared_sinh,
        cost=lambda x: torch.expm1(-x).square(),
        slope=lambda x: -torch.expm1(-2.0 * x),
        nonnegative_cost=True,
    ),
    Divergence(
        "squared_hellinger",
        "(sqrt w - 1)^2",
        value=lambda x: torch.expm1(0.5 * x).square(),
        cost=lambda x: torch.expm1(-0.5 * x).square(),
        slope=lambda x: -torch.expm1(-0.5 * x),
        nonnegative_cost=True,
    ),
    Divergence(
        "total_variation",
        "|w - 1| / 2",
        value=lambda x: 0.5 * torch.expm1(x).abs(),
        cost=lambda x: 0.5 * torch.expm1(-x).abs(),
        slope=lambda x: 0.5 * torch.sign(x),
        nonnegative_cost=True,
    ),
    Divergence(
        "alpha",
        "(w^a - a w - 1 + a) / (a (a - 1))",
        value=_alpha_missing,
        cost=_alpha_missing,
        slope=_alpha_missing,
        nonnegative_cost=True,
    ),
)
DIVERGENCES: dict[str, Divergence] = {row.name: row for row in _ROWS}


def get_divergence(name: str, alpha: float | None = None) -> Divergence:
    """The row of the table called `name`; for `alpha`, the row of that order.

        alpha:   f(w) = (w^a - a w - 1 + a) / (a (a - 1)),   a -> 1 is reverse_kl_k3, a -> 0 is forward_kl_k3

    Args:
        name: a key of DIVERGENCES.
        alpha: the order a; required for `alpha`, refused for the other rows.

    Raises:
        ValueError: unknown name (the nearest known one is named), or alpha missing, not needed or out of range.

    Examples:
        >>> get_divergence("js").cost(torch.tensor([-1.0, 0.0, 1.0]))
        tensor([0.4125, 0.0000, 0.1518])
        >>> get_divergence("alpha", 2.0).formula
        '(w^a - a w - 1 + a) / (a (a - 1)), a = 2'
        >>> get_divergence("revers_kl")
        Traceback (most recent call last):
        ValueError: divergence='revers_kl' is unknown (did you mean 'reverse_kl'?); known: reverse_kl, reverse_kl_k3, ...
    """
    if name not in DIVERGENCES:
        near = names.nearest(name, DIVERGENCES)
        raise ValueError(f"divergence={name!r} is unknown{near}; known: {', '.join(DIVERGENCES)}")
    if name != "alpha":
        if alpha is not None:
            raise ValueError(
                f"alpha={alpha!r} is only read by divergence 'alpha', not by {name!r}: "
                "remove it or set divergence=alpha"
            )
        return DIVERGENCES[name]
    if alpha is None:
        raise ValueError(f"alpha=None: divergence 'alpha' needs its order, {ranges.ALPHA}")
    ranges.ALPHA.check("alpha", alpha)
    return _alpha(float(alpha))


@torch.no_grad()
def finite_up_to(divergence: Divergence, bound: float = 80.0) -> float:
    """The largest |log w| up to which a token's cost and slope stay finite in float32, with room for sums.

        max { b <= bound : |cost(x)| and |slope(x)| < 1e30 for all |x| <= b }         on a grid, then by bisection

    Args:
        divergence: a row of the table or one's own.
        bound: where to stop looking, nats.

    Returns:
        nats; 0 if the functions are not finite anywhere.
    """

    def fits(size: torch.Tensor) -> torch.Tensor:
        x = torch.stack([size, -size])
        worst = torch.maximum(divergence.cost(x).abs(), divergence.slope(x).abs()).amax(0)
        return worst < ROOM  # False for NaN as well

    grid = torch.linspace(0, bound, 1025)
    ok = fits(grid)
    if bool(ok.all()):
        return float(bound)
    first = int((~ok).int().argmax())
    if first == 0:
        return 0.0
    low, high = float(grid[first - 1]), float(grid[first])
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(fits(torch.tensor([middle]))) else (low, middle)
    return low
