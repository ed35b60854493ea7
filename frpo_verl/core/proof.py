"""The proof for a divergence: its functions against one another, and its gradient by enumeration.

E sum_t reg_t grad log pi(a_t|s_t) = grad E sum_t D_f(s_t)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from frpo_verl.core.divergences import Divergence, finite_up_to
from frpo_verl.core.enumeration import (
    enumerate_trajectories,
    gradient,
    log_prob,
    objective,
    policy_gradient,
    random_logits,
    relative_error,
)
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.tokens import read_answers


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what, whether it holds, and the figures in one line."""

    name: str
    ok: bool
    text: str


def check_divergence(divergence: Divergence) -> list[Finding]:
    """Look whether a divergence is what `Divergence` asks for; all of it must hold for a correct gradient.

    Args:
        divergence: a row of the table, or one's own.

    Returns:
        findings in the order f(1) = 0, convexity, cost = f/w, slope = f' - f'(1), exact zeros, the sign of the cost,
        dtype and shape, expected gradient by enumeration, finite range. A function that raises gives one finding.
    """
    checks = (
        ("f(1) = 0", _zero_at_one),
        ("f is convex", _convex),
        ("cost = f(w)/w", _cost),
        ("slope = f'(w) - f'(1)", _slope),
        ("exactly 0 where the policies agree", _exact_zeros),
        ("sign of the cost", _sign),
        ("dtype and shape are kept", _dtype_and_shape),
        ("expected gradient, enumerated", _expected_gradient),
        ("finite range", _finite_range),
    )
    findings = []
    for name, check in checks:
        try:
            ok, text = check(divergence)
        except Exception as error:  # the user's own code
            ok, text = False, f"raised {type(error).__name__}: {' '.join(str(error).split())}"
        findings.append(Finding(name, ok, text))
    return findings


def _grid() -> torch.Tensor:
    """log w on both sides of 0, sorted, without 0 itself: f need not be smooth there."""
    half = torch.linspace(0.02, 6.0, 300, dtype=torch.float64)
    return torch.cat([-half.flip(0), half])


def _derivative(f: Divergence, x: torch.Tensor) -> torch.Tensor:
    """f'(w), by automatic differentiation of the value in log w."""
    x = x.detach().requires_grad_()
    (derivative,) = torch.autograd.grad(f.value(x).sum(), x)
    return derivative * torch.exp(-x.detach())


def _largest_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float(((got - want).abs() / want.abs().clamp(min=1e-3)).amax())


def _zero_at_one(f: Divergence) -> tuple[bool, str]:
    value = float(f.value(torch.zeros(1, dtype=torch.float64)))
    return abs(value) < 1e-12, f"f(1) = {value:.3g}"


def _convex(f: Divergence) -> tuple[bool, str]:
    w = _grid().exp()
    chords = f.value(w.log()).diff() / w.diff()
    rises = chords.diff() / (1 + chords[1:].abs() + chords[:-1].abs())
    worst = int(rises.argmin())
    ok = bool((rises > -1e-9).all())
    return ok, "slopes of chords rise" if ok else f"the slope of chords falls near w = {float(w[worst + 1]):.4g}"


def _cost(f: Divergence) -> tuple[bool, str]:
    x = _grid()
    error = _largest_error(f.cost(x), f.value(x) * torch.exp(-x))
    return error < 1e-9, f"largest relative error {error:.2g}"


def _slope(f: Divergence) -> tuple[bool, str]:
    x = _grid()
    error = _largest_error(f.slope(x) + f.slope_at_one, _derivative(f, x))
    return (
        error < 1e-8,
        f"largest relative error {error:.2g} against automatic differentiation, f'(1) = {f.slope_at_one:g}",
    )


def _exact_zeros(f: Divergence) -> tuple[bool, str]:
    zeros = [torch.zeros(1037, dtype=dtype) for dtype in (torch.float32, torch.float64)]
    ok = all(not bool(function(x).any()) for x in zeros for function in (f.cost, f.slope))
    return (
        ok,
        "cost and slope are 0 at log w = 0" if ok else "cost or slope is not 0 at log w = 0: masked tokens would count",
    )


def _sign(f: Divergence) -> tuple[bool, str]:
    lowest = float(f.cost(_grid()).amin())
    if f.nonnegative_cost:
        return lowest >= 0, f"said to be nonnegative, smallest {lowest:.3g}"
    return True, f"smallest {lowest:.3g}"


def _dtype_and_shape(f: Divergence) -> tuple[bool, str]:
    for dtype in (torch.float32, torch.float64):
        for shape in ((), (3,), (2, 5), (0, 4)):
            x = torch.full(shape, 0.3, dtype=dtype)
            for name, function in (("value", f.value), ("cost", f.cost), ("slope", f.slope)):
                y = function(x)
                if y.dtype != dtype or y.shape != x.shape:
                    return False, f"{name} of {dtype} {shape} is {y.dtype} {tuple(y.shape)}"
    return True, "float32 and float64, any shape"


def _expected_gradient(f: Divergence) -> tuple[bool, str]:
    """Of 3 tokens, up to 4 of them, every trajectory."""
    toy, worst = enumerate_trajectories(3, 4), 0.0
    for seed in range(3):
        ref = random_logits(toy, 2 * seed)
        logits = (ref + random_logits(toy, 2 * seed + 1)).requires_grad_()
        answers = read_answers(log_prob(toy, logits).detach(), log_prob(toy, ref), toy.mask)
        estimate = policy_gradient(toy, logits, regularize(answers, Regularizer(divergence=f)))
        truth = gradient(objective(toy, logits, ref, f.value), logits)
        worst = max(worst, relative_error(estimate, truth), key=lambda x: (x != x, x))
    return worst < 1e-9, f"relative error {worst:.2g} over 3 random policies"


def _finite_range(f: Divergence) -> tuple[bool, str]:
    bound = finite_up_to(f)
    return bound > 0, f"cost and slope stay finite in float32 for |log w| <= {bound:.4g}: no larger log_ratio_clip"
