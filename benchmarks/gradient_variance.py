"""How noisy the gradient of the regulariser is: k1, k3 and the exact future, with and without a baseline.

    python benchmarks/gradient_variance.py --out docs/figures          # gradient_variance.png

A toy policy over 4 tokens (token 0 = EOS) whose next-token distribution depends on the position and the previous
token; the reference has random logits, the policy the same plus `drift` times a standard normal. Responses are
sampled from the policy up to `horizon` tokens. The estimate of one group of G responses is

    g = (1/G) sum_i sum_t (reg_{i,t} - baseline_{i,t}) * score_{i,t}

and the number shown is G * E|g - E g|^2, the variance per response, averaged over random policies. All four
estimators have the same expectation:

    k1        row reverse_kl,     sum_{j>=t} log w_j
    k3        row reverse_kl_k3,  log w_t + sum_{j>t} (log w_j - 1 + 1/w_j)
    exact     log w_t + sum_{j>t} KL(pi||ref)(s_j), which needs both full distributions at every token
    sequence  row reverse_kl, placement sequence
"""

from __future__ import annotations

import itertools
from pathlib import Path

import records
import torch

from frpo_verl.core.divergences import DIVERGENCES
from frpo_verl.core.groups import position_baseline
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.tokens import Answers, read_answers

VOCABULARY, EOS = 4, 0
ESTIMATORS = ("k1", "k3", "exact", "sequence")
HORIZONS, DRIFTS, GROUPS, GROUP = (1, 2, 4, 8, 16, 32, 64), (0.1, 0.3, 0.7), (2, 4, 8, 16, 32), 8
SEEDS, RESPONSES = 4, 8192  # random policies, and responses sampled for each


class Toy:
    """Logits (T, V, V): position, previous token, next token."""

    def __init__(self, horizon: int, drift: float, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        shape = (horizon, VOCABULARY, VOCABULARY)
        ref = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        ref[..., EOS] -= torch.log(torch.tensor(max(horizon, 2) / 2.0))  # half of the responses end by themselves
        logits = ref + drift * torch.randn(shape, generator=self.generator, dtype=torch.float64)
        self.log_pi, self.log_ref = logits.log_softmax(-1), ref.log_softmax(-1)
        self.kl = (self.log_pi.exp() * (self.log_pi - self.log_ref)).sum(-1)  # (T, V): KL(pi||ref) at each state

    def sample(self, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Previous tokens, tokens and mask, each (rows, T)."""
        before, tokens, alive = [], [], []
        last, on = torch.ones(rows, dtype=torch.int64), torch.ones(rows, dtype=torch.bool)
        for t in range(self.log_pi.shape[0]):
            token = torch.multinomial(self.log_pi[t, last].exp(), 1, generator=self.generator).squeeze(1)
            before.append(last)
            tokens.append(token)
            alive.append(on)
            last, on = token, on & (token != EOS)
        return torch.stack(before, 1), torch.stack(tokens, 1), torch.stack(alive, 1)


def group_gradients(toy: Toy, before, token, weight, groups: int) -> torch.Tensor:
    """(groups, T * V * V) mean over each group of sum_t weight_t * d log pi(a_t|s_t) / d logits."""
    rows, horizon = token.shape
    size = rows // groups
    t = torch.arange(horizon).expand(rows, horizon)
    score = torch.nn.functional.one_hot(token, VOCABULARY).double() - toy.log_pi[t, before].exp()
    group = torch.arange(rows).div(size, rounding_mode="floor")[:, None]
    index = (group * horizon + t) * VOCABULARY + before
    flat = torch.zeros(groups * horizon * VOCABULARY, VOCABULARY, dtype=torch.float64)
    flat.index_add_(0, index.flatten(), (weight[..., None] * score / size).reshape(-1, VOCABULARY))
    return flat.reshape(groups, -1)


def regularizers(toy: Toy, before, token, mask, ids) -> tuple[Answers, dict[str, torch.Tensor]]:
    t = torch.arange(token.shape[1]).expand(token.shape)
    answers = read_answers(toy.log_pi[t, before, token], toy.log_ref[t, before, token], mask, group=ids)
    kl = torch.where(mask, toy.kl[t, before], 0.0)
    return answers, {
        "k1": regularize(answers, Regularizer()),
        "k3": regularize(answers, Regularizer(divergence=DIVERGENCES["reverse_kl_k3"])),
        "exact": torch.where(mask, answers.delta + kl.flip(-1).cumsum(-1).flip(-1) - kl, 0.0),
        "sequence": regularize(answers, Regularizer(placement="sequence")),
    }


def variance(horizon: int, drift: float, size: int) -> dict[str, float]:
    """Variance per response of each estimator, without ("k1") and with ("k1+b") the position baseline."""
    out: dict[str, float] = {}
    for seed in range(SEEDS):
        toy = Toy(horizon, drift, seed)
        groups = RESPONSES // size
        before, token, mask = toy.sample(groups * size)
        ids = torch.arange(groups * size).div(size, rounding_mode="floor")
        visited = toy.kl[torch.arange(horizon).expand_as(before), before][mask]
        out["kl_per_token"] = out.get("kl_per_token", 0.0) + visited.mean().item() / SEEDS
        answers, found = regularizers(toy, before, token, mask, ids)
        for name, reg in found.items():
            centred = reg - position_baseline(reg, answers)
            for label, weight in ((name, reg), (name + "+b", centred)):
                g = group_gradients(toy, before, token, weight, groups)
                out[label] = out.get(label, 0.0) + size * g.var(0).sum().item() / SEEDS
    return out


def measure() -> list[dict]:
    cases = [(h, d, GROUP) for d, h in itertools.product(DRIFTS, HORIZONS)]
    cases += [(HORIZONS[-1], d, g) for d, g in itertools.product(DRIFTS, GROUPS) if g != GROUP]
    return [{"horizon": h, "drift": d, "group": g, **variance(h, d, g)} for h, d, g in cases]


def table(measured: list[dict]) -> str:
    """Variance per response; +b: with the position baseline; all but `exact` relative to it."""
    relatives, rows = ("k1", "k3", "sequence", "exact+b", "k1+b", "k3+b", "sequence+b"), []
    for r in sorted(measured, key=lambda r: (r["drift"], r["horizon"], r["group"])):
        case = f"{r['drift']:g}", f"{r['kl_per_token']:.4f}", r["horizon"], r["group"], f"{r['exact']:.3g}"
        rows.append([*case, *(f"{r[name] / r['exact']:.2f}" for name in relatives)])
    return records.table(["drift", "KL/token", "horizon", "G", "exact", *relatives], rows)


def draw(rows: list[dict], file: Path) -> None:
    colour = {"k1": "#c0392b", "k3": "#2471a3", "exact": "#333333", "sequence": "#b7950b"}
    size = (4.2 * len(DRIFTS), 7.2)
    with records.figure(file, 2, len(DRIFTS), size=size, dpi=110, squeeze=False) as axes:
        for column, drift in enumerate(DRIFTS):
            above, below = axes[:, column]
            mine = [r for r in rows if r["drift"] == drift]
            over_horizon = sorted((r for r in mine if r["group"] == GROUP), key=lambda r: r["horizon"])
            over_group = sorted((r for r in mine if r["horizon"] == HORIZONS[-1]), key=lambda r: r["group"])
            for name, (suffix, style) in itertools.product(ESTIMATORS, (("", "-"), ("+b", "--"))):
                x, y = zip(*[(r["horizon"], r[name + suffix]) for r in over_horizon], strict=True)
                above.plot(x, y, style, marker="o", ms=3, color=colour[name], label=name + suffix)
            for name in ESTIMATORS:
                x, y = zip(*[(r["group"], r[name + "+b"] / r[name]) for r in over_group], strict=True)
                below.plot(x, y, "--", marker="o", ms=3, color=colour[name], label=name)
            above.set(xscale="log", yscale="log", xlabel="horizon (tokens)", title=f"drift {drift:g}")
            below.set(xscale="log", xlabel=f"group size (horizon {HORIZONS[-1]})")
            below.axhline(1.0, color="grey", lw=0.8)
            for axis, ticks in ((above, HORIZONS), (below, GROUPS)):
                axis.grid(alpha=0.3)
                axis.set_xticks(ticks, [str(t) for t in ticks])
                axis.minorticks_off()
        axes[0, 0].set_ylabel(f"gradient variance per response (G = {GROUP})")
        axes[1, 0].set_ylabel("variance with / without position baseline")
        axes[0, 0].legend(fontsize=8, ncol=2)


def main() -> None:
    args = records.parser(__doc__, "build", kept=False).parse_args()
    rows = measure()
    print(table(rows))
    draw(rows, args.out / "gradient_variance.png")


if __name__ == "__main__":
    main()
