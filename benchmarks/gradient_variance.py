"""How noisy the gradient of the regulariser is: k1, k3 and the exact future, with and without a baseline.

    python benchmarks/gradient_variance.py [--figure docs/figures/gradient_variance.png] [--json FILE]

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

import argparse
import json

import torch

from frpo_verl.core.divergences import DIVERGENCES
from frpo_verl.core.groups import position_baseline
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.tokens import Answers, read_answers
from frpo_verl.files import write_atomically

VOCABULARY, EOS = 4, 0
ESTIMATORS = ("k1", "k3", "exact", "sequence")


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


def variance(horizon: int, drift: float, size: int, seeds: int, responses: int) -> dict[str, float]:
    """Variance per response of each estimator, without ("k1") and with ("k1+b") the position baseline."""
    out: dict[str, float] = {}
    for seed in range(seeds):
        toy = Toy(horizon, drift, seed)
        groups = responses // size
        before, token, mask = toy.sample(groups * size)
        ids = torch.arange(groups * size).div(size, rounding_mode="floor")
        visited = toy.kl[torch.arange(horizon).expand_as(before), before][mask]
        out["kl_per_token"] = out.get("kl_per_token", 0.0) + visited.mean().item() / seeds
        answers, found = regularizers(toy, before, token, mask, ids)
        for name, reg in found.items():
            centred = reg - position_baseline(reg, answers)
            for label, weight in ((name, reg), (name + "+b", centred)):
                g = group_gradients(toy, before, token, weight, groups)
                out[label] = out.get(label, 0.0) + size * g.var(0).sum().item() / seeds
    return out


def measure(args: argparse.Namespace) -> list[dict]:
    from rich.progress import track

    cases = [(h, d, args.group) for d in args.drifts for h in args.horizons]
    cases += [(args.horizons[-1], d, g) for d in args.drifts for g in args.groups if g != args.group]
    rows = []
    for horizon, drift, size in track(cases, description="sampling"):
        numbers = variance(horizon, drift, size, args.seeds, args.responses)
        rows.append({"horizon": horizon, "drift": drift, "group": size, **numbers})
    return rows


def show(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="variance per response; +b: with the position baseline; the rest relative to exact")
    relatives = ("k1", "k3", "sequence", "exact+b", "k1+b", "k3+b", "sequence+b")
    for name in ("drift", "KL/token", "horizon", "G", "exact", *relatives):
        table.add_column(name, justify="right")
    for r in sorted(rows, key=lambda r: (r["drift"], r["horizon"], r["group"])):
        numbers = [f"{r['kl_per_token']:.4f}", str(r["horizon"]), str(r["group"]), f"{r['exact']:.3g}"]
        table.add_row(f"{r['drift']:g}", *numbers, *(f"{r[name] / r['exact']:.2f}" for name in relatives))
    Console(width=118).print(table)


def draw(rows: list[dict], args: argparse.Namespace) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colour = {"k1": "#c0392b", "k3": "#2471a3", "exact": "#333333", "sequence": "#b7950b"}
    n = len(args.drifts)
    figure, axes = plt.subplots(2, n, figsize=(4.2 * n, 7.2), squeeze=False)
    for column, drift in enumerate(args.drifts):
        mine = [r for r in rows if r["drift"] == drift]
        over_horizon = sorted((r for r in mine if r["group"] == args.group), key=lambda r: r["horizon"])
        over_group = sorted((r for r in mine if r["horizon"] == args.horizons[-1]), key=lambda r: r["group"])
        for name in ESTIMATORS:
            for suffix, style in (("", "-"), ("+b", "--")):
                x, y = zip(*[(r["horizon"], r[name + suffix]) for r in over_horizon], strict=True)
                axes[0, column].plot(x, y, style, marker="o", ms=3, color=colour[name], label=name + suffix)
            x, y = zip(*[(r["group"], r[name + "+b"] / r[name]) for r in over_group], strict=True)
            axes[1, column].plot(x, y, "--", marker="o", ms=3, color=colour[name], label=name)
        axes[0, column].set(xscale="log", yscale="log", xlabel="horizon (tokens)", title=f"drift {drift:g}")
        axes[1, column].set(xscale="log", xlabel=f"group size (horizon {args.horizons[-1]})")
        axes[1, column].axhline(1.0, color="grey", lw=0.8)
        for axis, ticks in ((axes[0, column], args.horizons), (axes[1, column], args.groups)):
            axis.grid(alpha=0.3)
            axis.set_xticks(ticks, [str(t) for t in ticks])
            axis.minorticks_off()
    axes[0, 0].set_ylabel(f"gradient variance per response (G = {args.group})")
    axes[1, 0].set_ylabel("variance with / without position baseline")
    axes[0, 0].legend(fontsize=8, ncol=2)
    figure.tight_layout()
    write_atomically(args.figure, lambda path: figure.savefig(path, dpi=110, format="png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--drifts", type=float, nargs="+", default=[0.1, 0.3, 0.7])
    parser.add_argument("--group", type=int, default=8, help="responses of one prompt")
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 4, 8, 16, 32], help="at the longest horizon")
    parser.add_argument("--seeds", type=int, default=4, help="random policies")
    parser.add_argument("--responses", type=int, default=8192, help="sampled for each policy")
    parser.add_argument("--figure", default=None)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    rows = measure(args)
    show(rows)
    if args.figure:
        draw(rows, args)
    if args.json:
        write_atomically(args.json, json.dumps({"arguments": vars(args), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
