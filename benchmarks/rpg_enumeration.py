"""Which reading of RPG is right: every answer of a small language enumerated in float64, no sampling.

    python benchmarks/rpg_enumeration.py

Prints, for each way the public code departs from the paper, the relative error of its expected gradient from
the gradient of the stated objective (0 = exact). Answers of up to 3 tokens over 3 symbols; policy, old and
reference all different; mean over 8 draws of the three.
"""

import math
import sys
from pathlib import Path

import records
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from toys import Toy, gradient  # noqa: E402

from frpo_verl.core.losses.kl_terms import local_kl  # noqa: E402
from frpo_verl.core.losses.rpg import rpg_loss  # noqa: E402
from frpo_verl.core.losses.terms import read_loss_inputs  # noqa: E402

OPEN = dict(clip_low=None, clip_high=None, dual_clip_c=None)
SEEDS = range(8)


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got - exact).norm() / exact.norm())


class Draw:
    def __init__(self, seed: int):
        self.toy = toy = Toy(seed)
        self.old_table, self.ref_table = toy.table(0.8), toy.table(0.8)
        self.table = toy.table(0.5, near=self.old_table).requires_grad_()
        self.sampling = toy.probability(self.old_table)[:, None]
        self.log_prob = toy.log_prob(self.table, 0.0)
        self.old, self.ref = toy.log_prob(self.old_table, 0.0), toy.log_prob(self.ref_table, 0.0)
        self.w, self.to_ref = (self.log_prob - self.old).exp(), (self.log_prob - self.ref).exp()

    def tokens(self, per_token: torch.Tensor) -> torch.Tensor:
        """Gradient of the expectation over answers of old, summed over tokens."""
        kept = torch.where(self.toy.mask, per_token, 0.0)
        return gradient((self.sampling * kept).sum(), self.table)

    def local(self, function, anchor: torch.Tensor) -> torch.Tensor:
        """Gradient of a full-vocabulary divergence(pi, anchor) at the states of old."""
        per_state = function(torch.softmax(self.table, -1), torch.softmax(anchor, -1)).sum(-1)
        return gradient((self.toy.state_visits(self.old_table) * per_state).sum(), self.table)

    def rpg(self, level: str, **kwargs) -> torch.Tensor:
        reward = self.toy.reward[:, None].expand(self.toy.mask.shape)
        inputs = read_loss_inputs(log_prob=self.log_prob, old_log_prob=self.old, advantages=reward, mask=self.toy.mask)
        terms = rpg_loss(inputs, level=level, **OPEN, **kwargs)
        rows = terms.sequence_loss if level == "sequence" else terms.token_loss.sum(-1)
        return gradient((self.sampling[:, 0] * rows).sum(), self.table)


def reverse(p, q):
    return p * (p / q).log()


def forward(p, q):
    return q * (q / p).log()


def penalties(d: Draw) -> dict[str, float]:
    w, log_w = d.w, d.w.log()
    to_old = {"fkl": d.local(forward, d.old_table), "rkl": d.local(reverse, d.old_table)}
    jeffreys = (to_old["fkl"] + to_old["rkl"]) / 2
    to_ref = d.local(reverse, d.ref_table)
    u = 1 / d.to_ref
    k3 = u - 1 - u.log()
    raw = d.to_ref * d.to_ref.log()
    return {
        "fkl: -log w": error(d.tokens(-log_w), to_old["fkl"]),
        "ufkl: w - log w - 1": error(d.tokens(w - log_w - 1), to_old["fkl"]),
        "rkl: w log w": error(d.tokens(w * log_w), to_old["rkl"]),
        "urkl: w (log w - 1) + 1": error(d.tokens(w * (log_w - 1) + 1), to_old["rkl"]),
        "rpg_js as coded, (w log w + log w) / 2, against Jeffreys / 2": error(
            d.tokens((w * log_w + log_w) / 2), jeffreys
        ),
        "rpg_js as its comment says, (w log w - log w) / 2": error(d.tokens((w * log_w - log_w) / 2), jeffreys),
        "fixed reference as coded, w log w with w = pi/ref": error(d.tokens(raw), to_ref),
        "fixed reference here, rho log(pi/ref)": error(d.tokens(w * d.to_ref.log()), to_ref),
        "k3(ref/pi) without rho": error(d.tokens(k3), to_ref),
        "k3(ref/pi) with stopped rho": error(d.tokens(w.detach() * k3), to_ref),
        "k3(ref/pi) with rho (`k3_is`)": error(
            d.tokens(local_kl(d.log_prob, d.ref, "k3_is", old_log_prob=d.old)), to_ref
        ),
    }


def levels(d: Draw) -> dict[str, float]:
    pi, old = d.toy.probability(d.table), d.toy.probability(d.old_table)
    out = {}
    for variant, divergence in (("ufkl", forward), ("urkl", reverse)):
        for beta in (0.0, 0.5):
            objective = (pi * d.toy.reward).sum() - beta * divergence(pi, old).sum()
            exact = -gradient(objective, d.table)
            for level in ("sequence", "token"):
                got = d.rpg(level, variant=variant, kl_coef=beta)
                out[f"{variant}, beta {beta}, level {level}"] = error(got, exact)
    return out


def gates() -> dict[str, int]:
    """Grid points where a clip rule gives another gradient than the paper's, by the sign of A'."""
    beta, low, high, c = 0.1, 0.2, 0.28, 10.0
    w, advantage = torch.cartesian_prod(torch.logspace(-3, 3, 49, base=math.e), torch.linspace(-2, 2, 21)).T
    regularized = advantage - beta * w.log()

    def alive(positive):
        return torch.where(positive, w <= 1 + high, (w >= 1 - low) & (w <= c))

    paper = alive(regularized >= 0)
    log_prob = w.log()[:, None].requires_grad_()
    zeros, ones = torch.zeros_like(log_prob), torch.ones_like(log_prob)
    inputs = read_loss_inputs(log_prob=log_prob, old_log_prob=zeros, advantages=advantage[:, None], mask=ones)
    terms = rpg_loss(inputs, variant="urkl", reinforce=True, kl_coef=beta, clip_low=low, clip_high=high, dual_clip_c=c)
    (grad,) = torch.autograd.grad(terms.token_loss.sum(), log_prob)
    return {
        "points": len(w),
        "here": int(((grad[:, 0] != 0) != (paper & (regularized != 0))).sum()),
        "sign of the raw advantage": int((alive(advantage >= 0) != paper).sum()),
        "clip_ppo_v3, the two rules swapped": int((alive(regularized < 0) != paper).sum()),
    }


def clamp_threshold(penalty) -> float:
    """The ratio above which a penalty exceeds 10, where the public code's clamp ends its gradient."""
    low, high = 1.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if penalty(middle) > 10 else (middle, high)
    return low


def main() -> None:
    records.parser(__doc__).parse_args()
    draws = [Draw(seed) for seed in SEEDS]
    tables = {
        "relative error of the expected gradient, token level, states of old": penalties,
        "against the objective as stated (sequence level): relative error": levels,
    }
    for title, function in tables.items():
        found = [function(d) for d in draws]
        rows = ([name, f"{sum(row[name] for row in found) / len(draws):.2g}"] for name in found[0])
        print(records.table([title, ""], rows))
    print(
        records.table(
            ["clip rules that differ from the paper's, grid of ratio x advantage, beta 0.1", ""], gates().items()
        )
    )
    bounds = {
        "rkl": lambda w: w * math.log(w), "urkl": lambda w: w * (math.log(w) - 1) + 1, "ufkl": lambda w: w - math.log(w) - 1,
    }  # fmt: skip
    rows = ([name, f"{clamp_threshold(penalty):.2f}"] for name, penalty in bounds.items())
    print(records.table(["ratio above which a penalty clamped at 10 has no gradient", ""], rows))


if __name__ == "__main__":
    main()
