"""The picture: reward, pass@k, entropy and KL to the reference, as on the page; and what the KL buys, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .charts import STYLE, Chart, draw_on, legend
from .curves import smooth
from .panels import held_out, over_k, over_steps, sources_of
from .quantities import ENTROPY, KL, KL_OF_AN_ANSWER, LENGTH, REWARD
from .subjects import Subject

# Okabe and Ito's colours, told apart with any kind of colour vision
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_PICTURE_STYLE = STYLE | {
    "backend": "Agg",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#999999",
    "grid.color": "#E8E8E8",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
}


def charts(subjects: Sequence[Subject]) -> list[Chart]:
    """The four charts: training and held-out reward in one, pass@k of all data sources in one."""
    one = len(subjects) == 1
    training, held = over_steps(REWARD, subjects), held_out(subjects)
    for line in training.lines if one else []:
        line.label = "training"
    for line in held.lines:
        line.dash = 2
        if one:
            line.label = f"held-out {line.label}" if len(held.lines) > 1 else "held-out"
            line.colour += len(training.lines)
    title = "Reward" if one or not held.lines else "Reward (dotted: held-out)"
    reward = replace(training, title=title, lines=[*training.lines, *held.lines])
    missing = "no validation dumps\n(trainer.validation_data_dir)"
    passes = Chart("passk", "pass@k on the held-out problems", "", kind="k", share=True, missing=missing)
    sources = sources_of(subjects)
    for n, (source, name) in enumerate(sources.items()):
        for line in over_k("passk", "pass", "", source, subjects).lines:
            line.label += f" ({name})" if len(sources) > 1 else ""
            line.dash = n
            passes.lines.append(line)
    entropy = replace(over_steps(ENTROPY, subjects), title="Entropy (nats a token)")
    return [reward, passes, entropy, replace(over_steps(KL, subjects), title="KL to the reference (nats a token)")]


def course(subject: Subject) -> tuple[list[float], list[float]]:
    """(KL of an answer, training reward) step by step, both running means; empty where one is missing."""
    kl, reward = dict(subject.curve(KL_OF_AN_ANSWER)), dict(subject.curve(*REWARD.names))
    common = sorted(kl.keys() & reward.keys())
    if not common:
        return [], []
    sigma = max(1.0, len(common) / 40)
    return smooth([kl[step] for step in common], sigma), smooth([reward[step] for step in common], sigma)


def _draw_courses(axis: Any, subjects: Sequence[Subject]) -> None:
    """Reward against KL of an answer; the line of the best possible objective where a run's folder tells it."""
    axis.set_title("What the KL buys: reward by KL")
    for line, subject in zip(legend(s.name for s in subjects), subjects, strict=True):
        axis.plot(*course(subject), marker="o", markersize=2.5, **line.look(SERIES))
    axis.set_xlim(left=min(0.0, axis.get_xlim()[0]))
    low, high = axis.get_ylim()
    for beta, best in sorted({run.best for subject in subjects for run in subject.runs if run.best}):
        ends = axis.get_xlim()
        axis.plot(ends, [best + beta * x for x in ends], color="black", linewidth=1, linestyle="--",
                  label=f"best possible reward - {beta:g} KL")  # fmt: skip
        axis.set(xlim=ends, ylim=(low, max(high, min(1.02, best + beta * ends[1]))))
        axis.legend(loc="lower right")
    axis.set_xlabel("KL to the reference, nats an answer")


def draw(subjects: Sequence[Subject], title: str | None = None) -> Any:
    """matplotlib's figure of one or several subjects; a panel without data says so."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    one = len(subjects) == 1
    buys = any(course(subject)[0] for subject in subjects)
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_PICTURE_STYLE}):
        figure: Any = Figure(figsize=(15.2 if buys else 10.4, 7.2), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        shown = charts(subjects)
        axes = list(figure.subplots(2, 3 if buys else 2).flat)
        if buys:
            _draw_courses(axes.pop(2), subjects)
            shown.append(replace(over_steps(LENGTH, subjects), title="Length of the answers (tokens)"))
        for axis, chart in zip(axes, shown, strict=True):
            axis.set_title(chart.title)
            if not chart.lines:
                axis.text(0.5, 0.5, chart.missing, transform=axis.transAxes, ha="center", va="center", color="#999999")
                axis.set(xticks=[], yticks=[])
                continue
            draw_on(axis, chart, SERIES)
            if one and len(chart.lines) > 1:
                axis.legend(loc="best")
        heading = title or (f"{subjects[0].name}, {subjects[0].last_step} steps" if one else None)
        if heading:
            figure.suptitle(heading, x=0.012, ha="left", fontsize=13, color="#333333")
        if not one:
            names = [subject.name for subject in subjects]
            lines = [Line2D([], [], linewidth=3, **line.look(SERIES)) for line in legend(names)]
            place = f"outside {'lower' if heading else 'upper'} center"
            figure.legend(lines, names, loc=place, ncols=min(len(lines), 4), fontsize=10)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.03, hspace=0.04)
        return figure
