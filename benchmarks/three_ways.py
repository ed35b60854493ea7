"""Three ways to write a sum: what each KL placement does to a tiny language model, in one process.

    make quickstart                                      # its data and its warmed-up model are used
    python benchmarks/three_ways.py                      # the core: every placement at beta 0.3, mean baseline
    python benchmarks/three_ways.py --sets core std beta variants --seeds 1 2 3
    python benchmarks/three_ways.py --figures            # train nothing; tables and figures of what is there

Every run starts at the quickstart's model. A step samples 8 answers to each of 16 problems at temperature 1, takes the
log-probs of model and reference, and sends them through verl's `compute_advantage` (with the plugin's estimators) and
verl's `ppo_loss`; Adam as verl's recipes set it, one update for each batch, gradient norm clipped to 1. Only sampling
is this file's own (batched, with a key-value cache), which is why a step takes half a second and not four.

At the end 64 held-out problems get 32 answers each: pass@1 and pass@16 (unbiased), KL(pi || ref) and entropy of a whole
answer (both summed over the vocabulary at each position of sampled answers), the shares of the three ways (exact
probabilities of the first token) and how often each way is right. J = pass@1 - beta KL; the best J that any policy can
reach is known, the mean over problems of beta log(1 - P + P exp(1 / beta)), P = chance of a right answer at the start.
Every run is kept with its curve in three_ways.json and is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from horizon import machine

from frpo_verl.evaluation import pass_at_k
from frpo_verl.files import write_atomically
from frpo_verl.quickstart import three_ways
from frpo_verl.quickstart.tokenizer import load_tokenizer
from frpo_verl.quickstart.warm_start import template_parts
from frpo_verl.quickstart.ways_model import read_problems, success_by_way

QUICKSTART = Path("build/quickstart")
PROMPTS, ANSWERS = 16, 8
TEST, SAMPLES = 64, 32

# name -> (estimator, its section, kl_loss_type)
METHODS = {
    "no KL": ("grpo", {}, None),
    "future": ("frpo", {}, None),
    "future, position": ("frpo", {"baseline": "position"}, None),
    "sequence, position": ("frpo", {"placement": "sequence", "baseline": "position"}, None),
    "local": ("frpo", {"placement": "local"}, None),
    "k2 loss": ("grpo", {}, "mse"),
    "k3 loss": ("grpo", {}, "low_var_kl"),
    "reward": ("frpo", {"placement": "reward"}, None),
}


@dataclass(frozen=True)
class Run:
    method: str
    beta: float
    by_std: bool
    seed: int
    steps: int
    lr: float

    @property
    def key(self) -> str:
        name = self.method.replace(", ", "-").replace(" ", "_")
        return f"{name}-beta{self.beta:g}-{'std' if self.by_std else 'mean'}-{self.steps}x{self.lr:g}-seed{self.seed}"


def planned(sets: list[str], seeds: list[int], steps: int, lr: float) -> list[Run]:
    rows = {
        "core": [(m, 0.3, False) for m in ("no KL", "future", "local", "k3 loss", "reward")],
        "std": [(m, 0.3, True) for m in ("no KL", "future", "local", "k3 loss", "reward")],
        "beta": [(m, beta, False) for beta in (0.1, 1.0) for m in ("future", "local", "k3 loss")],
        "variants": [(m, 0.3, False) for m in ("future, position", "sequence, position", "k2 loss")],
    }
    return [
        Run(method, 0.0 if method == "no KL" else beta, by_std, seed, steps, lr)
        for name in sets
        for seed in seeds
        for method, beta, by_std in rows[name]
    ]


# ------------------------------------------------------------------------------------------------------ the model


@torch.no_grad()
def sample(
    model, prompts: torch.Tensor, length: int, eos: int, pad: int, generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers (N, length) at temperature 1, padded after the end marker, and their mask."""
    from transformers import DynamicCache

    cache, tokens, done = DynamicCache(), prompts, torch.zeros(len(prompts), dtype=torch.bool)
    answer = torch.full((len(prompts), length), pad)
    for t in range(length):
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        answer[:, t] = torch.where(done, pad, drawn)
        done = done | (drawn == eos)
        if done.all():
            break
        tokens = answer[:, t : t + 1]
    ended = torch.cumsum(answer == eos, 1) - (answer == eos).long() > 0
    return answer, ~ended


def log_probs(model, prompts: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """(N, T, V) log-probabilities before each token of the answers."""
    logits = model(input_ids=torch.cat([prompts, answers], 1), use_cache=False).logits
    return logits[:, prompts.shape[1] - 1 : -1].log_softmax(-1)


def pick(table: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return table.gather(-1, tokens[..., None])[..., 0]


class Study:
    """Model, reference and problems of the quickstart, and what a run does with them."""

    def __init__(self, folder: Path):
        from transformers import AutoModelForCausalLM

        self.tokenizer = load_tokenizer(folder / "model")
        self.reference = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
        self.train = read_problems(folder / "data/train.parquet")
        self.test = read_problems(folder / "data/test.parquet")[:TEST]
        self.eos, self.pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        first = self.train[0]
        self.length = three_ways.longest_answer(first.digits, len(first.terms))
        self.marks = self.tokenizer.convert_tokens_to_ids(list(three_ways.WAYS))

    def prompts(self, problems, repeat: int) -> torch.Tensor:
        before, between, _ = template_parts(self.tokenizer)
        texts = [before + p.question + between for p in problems]
        ids = torch.tensor(self.tokenizer(texts, add_special_tokens=False)["input_ids"])  # all of one length
        return ids.repeat_interleave(repeat, 0)

    def rewards(self, problems, answers: torch.Tensor, repeat: int) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return torch.tensor([float(three_ways.is_right(t, problems[i // repeat])) for i, t in enumerate(texts)])

    @torch.no_grad()
    def examine(self, model) -> dict:
        """Every figure of a model on the held-out problems."""
        prompts = self.prompts(self.test, SAMPLES)
        generator = torch.Generator().manual_seed(99)
        answers, mask = sample(model, prompts, self.length, self.eos, self.pad, generator)
        right = self.rewards(self.test, answers, SAMPLES)
        kl, entropy, ways = [], [], []
        for rows in torch.arange(len(prompts)).split(512):
            pi, ref = (
                log_probs(model, prompts[rows], answers[rows]),
                log_probs(self.reference, prompts[rows], answers[rows]),
            )
            kl.append((pi.exp() * (pi - ref)).sum(-1) * mask[rows])
            entropy.append(-(pi.exp() * pi).sum(-1) * mask[rows])
            ways.append(pi[:, 0, self.marks].exp())
        kl, entropy, counts = torch.cat(kl), torch.cat(entropy), right.view(TEST, SAMPLES).sum(1).int().tolist()
        by_way = {w: right[answers[:, 0] == mark] for w, mark in zip(three_ways.WAYS, self.marks, strict=True)}
        return {
            "pass@1": statistics.mean(pass_at_k(SAMPLES, c, 1) for c in counts),
            "pass@16": statistics.mean(pass_at_k(SAMPLES, c, 16) for c in counts),
            "kl": kl.sum(1).mean().item(),
            "entropy": entropy.sum(1).mean().item(),
            "length": mask.sum(1).float().mean().item(),
            "shares": torch.cat(ways).mean(0).tolist(),
            "right_by_way": [x.mean().item() if len(x) else math.nan for x in by_way.values()],
            "kl_by_position": (kl.sum(0) / len(kl)).tolist(),
        }

    def best_objective(self, beta: float) -> float:
        """max over policies of E[pass rate - beta KL(pi || reference)] on the held-out problems."""
        chances = []
        for problem in self.test:
            ways = success_by_way(self.reference, self.tokenizer, [problem]).values()
            chances.append(sum(share * right for share, right in ways))
        return statistics.mean(beta * math.log(1 - p + p * math.exp(1 / beta)) for p in chances)

    def run(self, run: Run) -> dict:
        """Train as `run` says; the curve and the last model's figures."""
        began = time.process_time()
        model, step = copy.deepcopy(self.reference).train(), Step(run)
        optimizer = torch.optim.AdamW(model.parameters(), lr=run.lr, betas=(0.9, 0.999), weight_decay=0.01)
        generator = torch.Generator().manual_seed(run.seed)
        order = torch.randperm(len(self.train), generator=generator)
        curve = []
        for i in range(run.steps):
            chosen = [self.train[j] for j in order[torch.arange(i * PROMPTS, (i + 1) * PROMPTS) % len(order)].tolist()]
            prompts = self.prompts(chosen, ANSWERS)
            answers, mask = sample(model, prompts, self.length, self.eos, self.pad, generator)
            reward = self.rewards(chosen, answers, ANSWERS)
            with torch.no_grad():
                ref = pick(log_probs(self.reference, prompts, answers), answers)
            table = log_probs(model, prompts, answers)
            current = pick(table, answers)
            loss = step(prompts, answers, mask, reward, current, ref)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                delta = (current.detach() - ref) * mask
                entropy = -(table.exp() * table).sum(-1) * mask
                shares = [(answers[:, 0] == mark).float().mean().item() for mark in self.marks]
            curve.append({"reward": reward.mean().item(), "kl": delta.sum(1).mean().item(),
                          "entropy": entropy.sum(1).mean().item(), "shares": shares})  # fmt: skip
        result = {**asdict(run), "curve": curve, "end": self.examine(model.eval())}
        return {**result, "cpu_seconds": round(time.process_time() - began, 1)}


class Step:
    """One batch through verl's `compute_advantage` and `ppo_loss`."""

    def __init__(self, run: Run):
        from omegaconf import OmegaConf
        from verl.utils.config import omega_conf_to_dataclass

        self.estimator, section, kl_loss = METHODS[run.method]
        section = {"kl_coef": run.beta, **section} if self.estimator == "frpo" else {}
        self.by_std = run.by_std
        self.algorithm = OmegaConf.create({"norm_adv_by_std_in_grpo": run.by_std, "frpo": section})
        actor = {"_target_": "verl.workers.config.FSDPActorConfig", "strategy": "fsdp2", "rollout_n": ANSWERS,
                 "ppo_micro_batch_size_per_gpu": PROMPTS * ANSWERS, "use_kl_loss": kl_loss is not None,
                 "kl_loss_coef": run.beta, "kl_loss_type": kl_loss or "low_var_kl"}  # fmt: skip
        self.actor = omega_conf_to_dataclass(OmegaConf.create(actor))

    def __call__(self, prompts, answers, mask, reward, current, ref) -> torch.Tensor:
        from tensordict import TensorDict
        from verl import DataProto
        from verl.trainer.ppo.ray_trainer import compute_advantage
        from verl.utils import tensordict_utils as tu
        from verl.workers.utils.losses import ppo_loss

        lengths = mask.sum(1)
        scores = torch.zeros_like(ref)
        scores[torch.arange(len(scores)), lengths - 1] = reward
        old = current.detach()
        batch = {"token_level_rewards": scores, "response_mask": mask.long(), "old_log_probs": old}
        if self.estimator == "frpo":
            batch["ref_log_prob"] = ref
        data = DataProto.from_dict(tensors=batch, non_tensors={"uid": np.arange(len(scores)) // ANSWERS})
        data = compute_advantage(data, self.estimator, norm_adv_by_std_in_grpo=self.by_std, config=self.algorithm)

        def nested(x):
            return torch.nested.as_nested_tensor(
                [row[:n] for row, n in zip(x, lengths.tolist(), strict=True)], layout=torch.jagged
            )

        columns = {"prompts": torch.nested.as_nested_tensor(list(prompts), layout=torch.jagged),
                   "responses": nested(answers), "response_mask": nested(mask.long()), "old_log_probs": nested(old),
                   "advantages": nested(data.batch["advantages"]), "ref_log_prob": nested(ref)}  # fmt: skip
        micro = TensorDict(columns, batch_size=len(scores))
        tu.assign_non_tensor(micro, dp_size=1, batch_num_tokens=int(lengths.sum()), global_batch_size=len(scores))
        blank, end = torch.zeros(prompts.shape[1] - 1), torch.zeros(1)
        flat = torch.cat([x for row, n in zip(current, lengths.tolist(), strict=True) for x in (blank, row[:n], end)])
        return ppo_loss(self.actor, {"log_probs": flat}, micro)[0]


# ------------------------------------------------------------------------------------------------------ reporting


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval over seeds (Student's t); nan for one value."""
    from scipy.stats import t

    if len(values) < 2:
        return values[0], math.nan
    return statistics.mean(values), float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(
        len(values)
    )


def grouped(results: list[dict]) -> dict[tuple, list[dict]]:
    """(steps, lr, by_std, beta, method) -> runs of every seed."""
    found: dict[tuple, list[dict]] = {}
    for r in results:
        found.setdefault((r["steps"], r["lr"], r["by_std"], r["beta"], r["method"]), []).append(r)
    return dict(sorted(found.items(), key=lambda item: (*item[0][:4], list(METHODS).index(item[0][4]))))


def table(results: list[dict], start: dict) -> str:
    text = ["| normalised | beta | method | n | J | pass@1 | pass@16 | KL | entropy | shares A / B / C | right A / B / C |",
            "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip

    def cells(ends: list[dict], beta: float) -> str:
        out = []
        ends = [{**e, "J": e["pass@1"] - beta * e["kl"]} for e in ends]
        for key in ("J", "pass@1", "pass@16", "kl", "entropy"):
            mean, half = interval([e[key] for e in ends])
            out.append(f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}"))
        for key in ("shares", "right_by_way"):
            out.append(" / ".join(f"{np.nanmean(x):.2f}" for x in np.array([e[key] for e in ends], dtype=float).T))
        return " | ".join(out)

    text.append(f"| | | *at the start* | 1 | {cells([start], 0.3)} |")
    for beta, best in start["best"].items():
        text.append(f"| | {beta} | *best possible* | | {best:.3f} | | | | | | |")
    for (_, _, by_std, beta, method), runs in grouped(results).items():
        shown = f"{beta:g}" if beta else ""
        found = cells([r["end"] for r in runs], beta or 0.3)
        text.append(f"| {'std' if by_std else 'mean'} | {shown} | {method} | {len(runs)} | {found} |")
    return "\n".join(text) + "\n"


COLORS = {"no KL": "#888888", "future": "#00798c", "future, position": "#2ec4b6", "sequence, position": "#66a182",
          "local": "#d1495b", "k2 loss": "#f4978e", "k3 loss": "#edae49", "reward": "#6b4e9b"}  # fmt: skip


def frontier(axes, results: list[dict], start: dict, x: str, y: str, by_std: bool = False) -> None:
    """One point for each method and beta of three seeds or more, their mean with 95 % intervals."""
    markers = {0.0: "x", 0.1: "v", 0.3: "o", 1.0: "^"}
    axes.scatter(start[x], start[y], color="black", marker="*", s=60, zorder=3)
    axes.annotate("start", (start[x], start[y]), xytext=(5, -9), textcoords="offset points", fontsize=7)
    seen = set()
    for (_, _, std, beta, method), runs in grouped(results).items():
        if std == by_std and len(runs) >= 3:
            (mx, dx), (my, dy) = interval([r["end"][x] for r in runs]), interval([r["end"][y] for r in runs])
            axes.errorbar(
                mx, my, xerr=None if math.isnan(dx) else dx, yerr=None if math.isnan(dy) else dy, color=COLORS[method],
                marker=markers.get(beta, "s"), markersize=5, capsize=2, linestyle="", label=None if method in seen else method,
            )  # fmt: skip
            seen.add(method)
    axes.set(xlabel={"kl": "KL(pi || ref) of an answer, nats", "entropy": "entropy of an answer, nats"}[x], ylabel=y)
    axes.grid(alpha=0.3)


def level_lines(axes, beta: float, best: float) -> None:
    """Where J = pass@1 - beta KL is the best possible (solid; no policy lies above it), and 0.1 and 0.2 less."""
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    for less, style in ((0.0, "-"), (0.1, ":"), (0.2, ":")):
        ends = (max(0.0, low), high)
        axes.plot(ends, [best - less + beta * x for x in ends], color="black", linewidth=0.7, linestyle=style, zorder=0)
    axes.set(xlim=(low, high), ylim=(bottom, min(1.02, max(top, 1.01))))


def pictures(results: list[dict], start: dict, folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(9.5, 7), layout="constrained")
    for row, y in zip(axes, ("pass@1", "pass@16"), strict=True):
        for ax, x in zip(row, ("kl", "entropy"), strict=True):
            frontier(ax, results, start, x, y)
            if (x, y) == ("kl", "pass@1"):
                level_lines(ax, 0.3, start["best"]["0.3"])
    axes[0][0].legend(fontsize=7, frameon=False)
    figure.suptitle(
        "mean baseline; circles beta 0.3, triangles down 0.1 and up 1; 95 % intervals over seeds", fontsize=9
    )
    figure.savefig(folder / "three_ways_frontier.png", dpi=150)
    plt.close(figure)

    shown = {k[4]: v for k, v in grouped(results).items() if not k[2] and k[3] in (0.0, 0.3)}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for i, (method, runs) in enumerate({"start": [{"end": start}], **shown}.items()):
        bottom = 0.0
        for way, color, share in zip(
            three_ways.WAYS,
            ("#d9d9d9", "#9ecae1", "#08519c"),
            np.mean([r["end"]["shares"] for r in runs], 0),
            strict=True,
        ):
            left.barh(i, share, left=bottom, color=color, label=f"way {way}" if i == 0 else None)
            bottom += share
        if method != "start":
            right.plot(np.mean([r["end"]["kl_by_position"] for r in runs], 0), color=COLORS[method], label=method)
    left.set_yticks(range(len(shown) + 1), ["start", *shown])
    left.invert_yaxis()
    left.set(xlabel="share of the first character", xlim=(0, 1))
    left.legend(fontsize=7, loc="upper right")
    right.set(xlabel="position in the answer", ylabel="KL(pi || ref), nats", yscale="symlog")
    right.set_yscale("symlog", linthresh=0.01)
    right.grid(alpha=0.3)
    right.legend(fontsize=7, frameon=False, loc="lower left", ncols=2)
    figure.savefig(folder / "three_ways_shares.png", dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=("core", "std", "beta", "variants"), default=["core"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--figures", action="store_true", help="train nothing; tables and figures of what is there")
    parser.add_argument("--quickstart", type=Path, default=QUICKSTART, help="folder with data/ and model/")
    parser.add_argument("--out", type=Path, default=Path("build/three_ways"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = args.out / "three_ways.json"
    saved = json.loads(store.read_text()) if store.exists() else {"runs": {}}
    runs = [] if args.figures else planned(args.sets, args.seeds, args.steps, args.lr)
    runs = [run for run in runs if run.method in args.methods and run.key not in saved["runs"]]
    study = Study(args.quickstart) if runs or "start" not in saved else None
    if "start" not in saved:
        best = {f"{beta:g}": study.best_objective(beta) for beta in (0.1, 0.3, 1.0)}
        saved["start"] = {**study.examine(study.reference), "best": best}
    for run in runs:
        saved["runs"][run.key] = {**study.run(run), "machine": machine()}
        write_atomically(store, json.dumps(saved) + "\n")
        end = saved["runs"][run.key]["end"]
        print(f"{run.key}: pass@1 {end['pass@1']:.3f} pass@16 {end['pass@16']:.3f} KL {end['kl']:.3f} shares "
              f"{[round(x, 2) for x in end['shares']]}, {saved['runs'][run.key]['cpu_seconds']} s", flush=True)  # fmt: skip
    write_atomically(store, json.dumps(saved) + "\n")
    results = [r for r in saved["runs"].values() if (r["steps"], r["lr"]) == (args.steps, args.lr)]
    text = table(results, saved["start"])
    write_atomically(args.out / "three_ways.md", text)
    pictures(results, saved["start"], args.out)
    print(text)


if __name__ == "__main__":
    main()
