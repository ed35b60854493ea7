"""Three ways to write a sum, with longer and longer answers: what each place of the KL loses as answers grow.

    python benchmarks/three_ways_length.py --out docs/results     # sums of three terms of six digits: 8 to 31 tokens
    python benchmarks/three_ways_length.py --figures --out docs/results
    python benchmarks/three_ways_length.py --sums 6x3 12x3        # other sums (digits x terms)

Sums of more digits and terms, the same habits (see `frpo_verl.quickstart.three_ways`): how often each way is right does not
depend on the length, so the best objective stays about the same. A model for each length is warmed up in
`build/three_ways_length`; the study itself is `three_ways.py`'s, beta 0.3, mean baseline. The shortest answers are the
quickstart's: their runs are read from three_ways.json in the same folder. Runs that are there are kept.
Writes three_ways_length.json, three_ways_length.md and three_ways_length.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from horizon import machine
from three_ways import COLORS, Run, Study, interval

from frpo_verl.data.sets import three_ways as data
from frpo_verl.files import write_atomically
from frpo_verl.quickstart import three_ways, ways_model

SHOWN = ("no KL", "future", "local", "k3 loss", "reward")
BETA = 0.3


def study(digits: int, terms: int, folder: Path) -> Study:
    """Data and warmed-up model of one length, made where they are missing."""
    here = folder / f"{digits}x{terms}"
    if not (here / "data/test.parquet").exists():
        shown = ["--digits", str(digits), "--terms", str(terms), "--local_save_dir", str(here / "data")]
        if status := data.main(shown):
            raise SystemExit(status)
    ways_model.build(here / "model", here / "data", ways_model.Settings(max_steps=4000))
    return Study(here)


def quickstart(file: Path) -> dict:
    """What three_ways.py found for the quickstart's problems, in the form of one length here."""
    saved = json.loads(file.read_text())
    same = lambda r: not r["by_std"] and r["beta"] in (0.0, BETA) and (r["steps"], r["lr"]) == (40, 5e-4)  # noqa: E731
    runs = {key: run for key, run in saved["runs"].items() if run["method"] in SHOWN and same(run)}
    start = {**saved["start"], "best": saved["start"]["best"][f"{BETA:g}"]}
    return {"longest": three_ways.longest_answer(), "start": start, "runs": runs}


def regrets(found: dict, method: str) -> list[float]:
    """Best possible objective minus the one reached, for each seed."""
    ends = [run["end"] for run in found["runs"].values() if run["method"] == method]
    return [found["start"]["best"] - (end["pass@1"] - BETA * end["kl"]) for end in ends]


def page(saved: dict) -> str:
    lines = [
        "| longest answer, tokens | method | n | best J - J | pass@1 | KL | shares A / B / C |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(length: int, method: str, ends: list[dict], lost: list[float]) -> str:
        cells = [f"{length}", method, f"{len(ends)}"]
        for values in (lost, [e["pass@1"] for e in ends], [e["kl"] for e in ends]):
            mean, half = interval(values)
            cells.append(f"{mean:.3f}" + (f" ± {half:.3f}" if len(values) > 1 else ""))
        cells.append(" / ".join(f"{x:.2f}" for x in np.mean([e["shares"] for e in ends], 0)))
        return "| " + " | ".join(cells) + " |"

    for found in saved.values():
        start = found["start"]
        lines.append(row(found["longest"], "*at the start*", [start], [start["best"] - start["pass@1"]]))
        for method in SHOWN:
            if ends := [run["end"] for run in found["runs"].values() if run["method"] == method]:
                lines.append(row(found["longest"], method, ends, regrets(found, method)))
    return "\n".join(lines) + "\n"


def picture(saved: dict, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.6), layout="constrained")
    for method in SHOWN[1:]:  # what is lost without a KL is far above the rest
        there = [found for found in saved.values() if any(r["method"] == method for r in found["runs"].values())]
        means, halves = zip(*(interval(regrets(found, method)) for found in there), strict=True)
        lengths = [found["longest"] for found in there]
        axes.errorbar(
            lengths, means, yerr=np.nan_to_num(halves), color=COLORS[method], marker="o", capsize=2, label=method
        )
    axes.set(xlabel="tokens of the longest answer", ylabel="best objective - objective", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sums", nargs="+", default=["6x3"], help="digits x terms (6x3)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--figures", action="store_true", help="train nothing; table and figure of what is there")
    parser.add_argument("--folder", type=Path, default=Path("build/three_ways_length"), help="data and models")
    parser.add_argument("--out", type=Path, default=Path("build/three_ways_length"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = args.out / "three_ways_length.json"
    saved = json.loads(store.read_text()) if store.exists() else {}
    for name in () if args.figures else args.sums:
        digits, terms = map(int, name.split("x"))
        here = study(digits, terms, args.folder)
        if name not in saved:
            start = {**here.examine(here.reference), "best": here.best_objective(BETA)}
            saved[name] = {"longest": three_ways.longest_answer(digits, terms), "start": start, "runs": {}}
        for seed in args.seeds:
            for method in SHOWN:
                run = Run(method, 0.0 if method == "no KL" else BETA, False, seed, args.steps, args.lr)
                if run.key in saved[name]["runs"]:
                    continue
                saved[name]["runs"][run.key] = {**here.run(run), "machine": machine()}
                write_atomically(store, json.dumps(saved) + "\n")
                end = saved[name]["runs"][run.key]["end"]
                print(f"{name} {run.key}: pass@1 {end['pass@1']:.3f} KL {end['kl']:.3f}", flush=True)
    known = args.out / "three_ways.json"
    shown = ({"4x2": quickstart(known)} if known.exists() else {}) | saved
    text = page(shown)
    write_atomically(args.out / "three_ways_length.md", text)
    picture(shown, args.out / "three_ways_length.png")
    print(text)


if __name__ == "__main__":
    main()
