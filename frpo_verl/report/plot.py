"""The picture of one run, or of several over each other: reward, pass@k, entropy, KL to the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frpo_verl.files import write_atomically

from .collect import KEYS, Run, dump_sources, source_label

# Okabe and Ito's colours, told apart with any kind of colour vision
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BEFORE = "#8C8C8C"
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8E8E8",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
}


def smooth(values: Sequence[float], sigma: float) -> list[float]:
    """Centred Gaussian mean of width ``sigma`` (in points), its weights renormalised at the ends; 0 changes nothing."""
    if sigma <= 0 or not len(values):
        return list(values)
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    inside = slice(reach, reach + len(values))
    total = np.convolve(values, weights)[inside]
    return list(total / np.convolve(np.ones(len(values)), weights)[inside])


def _train_curve(axis, points, colour, label=None, with_raw=True) -> None:
    steps, values = zip(*points, strict=True)
    sigma = 0.0 if len(points) < 12 else len(points) / 30
    if sigma and with_raw:
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
    marker = "o" if len(points) == 1 else None
    axis.plot(steps, smooth(values, sigma), color=colour, label=label, marker=marker, markersize=4)


def _reward(axis, runs: Sequence[Run], colours) -> None:
    axis.set_title("Reward")
    single = len(runs) == 1
    lowest, highest = 0.0, 1.0
    for run, colour in zip(runs, colours, strict=True):
        if "reward" in run.series:
            _train_curve(axis, run.series["reward"], colour, "training" if single else None, with_raw=single)
            values = [v for _, v in run.series["reward"]]
            lowest, highest = min(lowest, *values), max(highest, *values)
        many = len(run.held_out) > 1
        for i, (source, points) in enumerate(run.held_out.items()):
            steps, values = zip(*points, strict=True)
            label = f"held-out {source}" if many else "held-out"
            dark = "#222222" if single else colour
            axis.plot(
                steps,
                values,
                color=dark,
                linestyle=(0, (1, 1.6)),
                linewidth=1.2,
                marker="osD^v"[i % 5],
                markersize=5.5,
                markerfacecolor="white",
                markeredgewidth=1.6,
                label=label if single else None,
                zorder=3,
            )
            lowest, highest = min(lowest, *values), max(highest, *values)
    if not single:
        axis.plot([], [], color="#555555", label="training")
        axis.plot(
            [], [], color="#555555", linestyle=(0, (1, 1.6)), marker="o", markerfacecolor="white", label="held-out"
        )
    if highest <= 1.0 and lowest >= 0.0:
        axis.set_ylim(0, _top(axis))
    axis.set_xlabel("step")


def _top(axis) -> float:
    """A share's upper limit: what the data needs and some air, at most a little above 1."""
    return min(1.02, max(0.1, axis.dataLim.y1 * 1.12))


def _pass_at_k(axis, runs: Sequence[Run], colours) -> None:
    axis.set_title("pass@k on the held-out problems")
    axis.set_xlabel("k (answers tried)")
    single = len(runs) == 1
    all_ks: set[int] = set()
    for run, colour in zip(runs, colours, strict=True):
        for i, source in enumerate(dump_sources(run)):
            steps = [step for step, result in run.validations.items() if source in result]
            suffix = f" ({source_label(run, source)})" if len(dump_sources(run)) > 1 else ""
            line = ("-", (0, (5, 2)), (0, (1, 1.5)))[i % 3]
            shown = [(steps[0], BEFORE), (steps[-1], colour)] if len(steps) > 1 else [(steps[0], colour)]
            for step, shade in shown:
                metrics = run.validations[step][source]["metrics"]
                ks = sorted(int(name[5:]) for name in metrics if name.startswith("pass@"))
                if not ks:
                    continue
                all_ks.update(ks)
                columns = [[metrics[f"pass@{k}"][part] for k in ks] for part in ("value", "low", "high")]
                first = step == steps[0] and len(steps) > 1
                label = ("before" if first else "after") + f", step {step}{suffix}" if single else None
                axis.plot(ks, columns[0], color=shade, linestyle=line, marker="o", markersize=4, label=label)
                if single:
                    axis.fill_between(ks, columns[1], columns[2], color=shade, alpha=0.13, linewidth=0)
    if not all_ks:
        return
    if not single:
        axis.plot([], [], color=BEFORE, label="before")
        axis.plot([], [], color="#555555", marker="o", markersize=4, label="after (run's colour)")
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(all_ks), [str(k) for k in sorted(all_ks)])
    axis.minorticks_off()
    axis.set_ylim(0, _top(axis))


def _quantity(axis, runs: Sequence[Run], colours, quantity: str, title: str, from_zero: bool) -> None:
    axis.set_title(title)
    axis.set_xlabel("step")
    usual = KEYS[quantity][0]
    for run, colour in zip(runs, colours, strict=True):
        points = run.series.get(quantity)
        if points:
            other = run.keys[quantity] if run.keys[quantity] != usual else None
            _train_curve(axis, points, colour, other, with_raw=len(runs) == 1)
    if from_zero and axis.has_data():
        axis.axhline(0, color="#BBBBBB", linewidth=1, zorder=1)


def draw(runs: Sequence[Run], title: str | None = None, labels: Sequence[str] | None = None):
    """The figure of one or several runs; a panel without data says so. Runs with the same label share a colour."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    if not runs:
        raise ValueError("runs: give at least one")
    labels = [run.name for run in runs] if labels is None else list(labels)
    by_label = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(labels))}
    colours = [by_label[label] for label in labels]
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "text.parse_math": False, "backend": "Agg"}):
        figure = Figure(figsize=(10.4, 7.2), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 2)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)
        _reward(axes[0, 0], runs, colours)
        _pass_at_k(axes[0, 1], runs, colours)
        _quantity(axes[1, 0], runs, colours, "entropy", "Entropy (nats per token)", from_zero=False)
        _quantity(axes[1, 1], runs, colours, "kl_to_ref", "KL to the reference (nats per token)", from_zero=True)
        missing = {
            axes[0, 0]: "no reward in the metrics",
            axes[0, 1]: "no validation dumps\n(trainer.validation_data_dir)",
            axes[1, 0]: "no entropy in the metrics",
            axes[1, 1]: "no KL in the metrics",
        }
        for axis, text in missing.items():
            if not axis.has_data():
                axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#999999")
                axis.set_xticks([])
                axis.set_yticks([])
                continue
            if axis is not axes[0, 1]:
                axis.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
            if axis.get_legend_handles_labels()[1]:
                axis.legend(loc="best")
        heading = title or (f"{runs[0].name}, {runs[0].last_step} steps" if len(runs) == 1 else None)
        if heading:
            figure.suptitle(heading, x=0.012, ha="left", fontsize=13, color="#333333")
        if len(runs) > 1:
            lines = [Line2D([], [], color=c, linewidth=3) for c in by_label.values()]
            columns = min(len(by_label), 4)
            place = f"outside {'lower' if heading else 'upper'} center"
            figure.legend(lines, list(by_label), loc=place, ncols=columns, fontsize=10)
        return figure


def save(figure, path: str | Path) -> Path:
    """Write the figure to ``path`` (png, or what the ending says) under a temporary name, then rename it."""
    ending = Path(path).suffix[1:] or "png"
    return write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending))
