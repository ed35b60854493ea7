"""What the studies share: methods and their colours, records on disk, intervals, tables, figures, the command line."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frpo_verl.files import write_atomically

# name -> (estimator, its section, kl_loss_type)
METHODS = {
    "no KL": ("grpo", {}, None),
    "future": ("frpo", {}, None),
    "future, position": ("frpo", {"baseline": "position"}, None),
    "sequence": ("frpo", {"placement": "sequence"}, None),
    "sequence, position": ("frpo", {"placement": "sequence", "baseline": "position"}, None),
    "future k3": ("frpo", {"divergence": "reverse_kl_k3"}, None),
    "future forward": ("frpo", {"divergence": "forward_kl"}, None),
    "future forward k3": ("frpo", {"divergence": "forward_kl_k3"}, None),
    "local": ("frpo", {"placement": "local"}, None),
    "k2 loss": ("grpo", {}, "mse"),
    "k3 loss": ("grpo", {}, "low_var_kl"),
    "reward": ("frpo", {"placement": "reward"}, None),
    "reward to go": ("frpo", {"placement": "reward_to_go"}, None),  # the paper's strategy (c)
    "future, remaining": ("frpo", {"baseline": "remaining"}, None),  # the paper's Table 2
    "GAE": ("gae", {}, None),  # verl's critic and its KL in the reward; whitened over the batch, by_std or not
}
COLORS = {
    "no KL": "#888888", "future": "#00798c", "future, position": "#2ec4b6", "sequence": "#a3b18a",
    "sequence, position": "#66a182", "future k3": "#3a86ff", "future forward": "#8ecae6", "future forward k3": "#023e8a",
    "local": "#d1495b", "k2 loss": "#f4978e", "k3 loss": "#edae49", "reward": "#6b4e9b", "GAE": "#7f5539",
    "reward to go": "#b56576", "future, remaining": "#90be6d",
}  # fmt: skip


def machine() -> dict:
    """Where figures were computed."""
    import torch
    import verl

    try:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {"processor": f"{os.cpu_count()} cores, {platform.machine()}", "python": platform.python_version(),
            "torch": torch.__version__, "verl": verl.__version__, "commit": commit}  # fmt: skip


def parser(doc: str, out: str | None = None, kept: bool = True) -> argparse.ArgumentParser:
    """`--help` prints the page; with the folder for what is written, and, where runs are kept, an option to compute none."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if out and kept:
        made.add_argument(
            "--table", "--figures", action="store_true", help="compute nothing; print and draw what is there"
        )
    if out:
        made.add_argument("--out", type=Path, default=Path(out), help="folder of what is written")
    return made


def read(file: Path, **empty: Any) -> dict:
    """A record as it was left; `empty` where there is none."""
    return json.loads(file.read_text()) if file.exists() else empty


def write(file: Path, record: Any, indent: int | None = 1) -> None:
    write_atomically(file, json.dumps(record, indent=indent) + "\n")


def digits(record: Any, number: int) -> Any:
    """The same with so many digits."""
    return json.loads(json.dumps(record), parse_float=lambda x: float(f"{float(x):.{number}g}"))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval over seeds (Student's t); nan for one value."""
    from scipy.stats import t

    if len(values) < 2:
        return values[0], math.nan
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), half


def shown(values: Sequence[float]) -> str:
    mean, half = interval(values)
    return f"{mean:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown."""
    first, *others = (f"| {' | '.join(map(str, line))} |\n" for line in (head, *rows))
    return "".join([first, "|---" * len(head) + "|\n", *others])


@contextmanager
def figure(file: Path, *shape: int, size: tuple[float, float], dpi: int = 150, **more: Any) -> Iterator[Any]:
    """The axes of a figure (array of `shape`), which is written afterwards."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    made, axes = plt.subplots(*shape, figsize=size, layout="constrained", **more)
    yield axes
    file.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(file, dpi=dpi)
    plt.close(made)


def results_by(results: Iterable[dict], *names: str) -> dict[tuple, list[dict]]:
    """(values under these names, method) -> the runs of every seed; 0 where a run has no such name."""
    found: dict[tuple, list[dict]] = {}
    for r in results:
        found.setdefault((*(r.get(name, 0) for name in names), r["method"]), []).append(r)
    return dict(sorted(found.items(), key=lambda item: (*item[0][:-1], list(METHODS).index(item[0][-1]))))
