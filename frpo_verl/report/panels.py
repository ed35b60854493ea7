"""Which charts a page has, in which order, and what is drawn in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .charts import Chart
from .collect import never_finite
from .curves import Curve
from .quantities import CLIP, ENTROPY, GROUPS, KL, KL3, LENGTH, MEMORY, REGULARISER, REWARD, TIME, TRUNCATION, Quantity
from .subjects import Subject

QUARTERS = {"q1": "first quarter", "q2": "second quarter", "q3": "third quarter", "q4": "last quarter"}
SOURCES = 4  # data sources that have charts of their own


@dataclass
class PageSection:
    """A heading of the page with its charts."""

    key: str
    title: str
    charts: list[Chart] = field(default_factory=list)


def over_steps(quantity: Quantity, subjects: Sequence[Subject]) -> Chart:
    """The chart of one quantity, a line a subject."""
    chart = Chart(
        quantity.key, quantity.title, quantity.unit, text=quantity.hint, missing=quantity.absent(),
        zero=quantity.zero, share=quantity.share, legend=False,
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        found = subject.curve(*quantity.names)
        if found is not None and (any(found.values) or quantity.key != "memory_device"):
            chart.add(found, subject.name, i, marks=False)
    if chart.empty:
        steps = [run.steps for subject in subjects for run in subject.runs]
        chart.missing = never_finite(steps, quantity.names) or chart.missing
    return chart


def by_position(kind: str, subjects: Sequence[Subject]) -> Chart:
    """Quarters of the answer: over steps for one subject, at the end of training beside each other for several."""
    title = {"kl": "KL by position in the answer", "entropy": "Entropy by position in the answer"}[kind]
    chart = Chart(
        f"{kind}_position", title, "nats a token", text="Each answer cut into four quarters of its own length.",
        missing=f"no frpo/{kind}_by_position in the metrics", zero=True,
    )  # fmt: skip
    names = [f"frpo/{kind}_by_position/{q}" for q in QUARTERS]
    if len(subjects) == 1:
        for i, (name, words) in enumerate(zip(names, QUARTERS.values(), strict=True)):
            chart.add(subjects[0].curve(name), words, i, i, marks=False)
        return chart
    chart.kind, chart.legend = "position", False
    chart.text += " Mean of the last steps."
    for i, subject in enumerate(subjects):
        points = [(place, end) for place, name in enumerate(names, 1) if (end := subject.at_end(name)) is not None]
        if points:
            chart.add(Curve([place for place, _ in points], [end for _, end in points]), subject.name, i)
    return chart


def sources_of(subjects: Sequence[Subject]) -> list[tuple[str, str]]:
    """Data sources of the dumps that have charts, each with its name for people."""
    sources = sorted({source for subject in subjects for source in subject.sources()})[:SOURCES]
    runs = [run for subject in subjects for run in subject.runs]
    return [(source, next(run.label(source) for run in runs if source in run.sources())) for source in sources]


def held_out(subjects: Sequence[Subject]) -> Chart:
    """verl's validation reward: a line a data source for one subject, a line a subject and source for several."""
    one = len(subjects) == 1
    chart = Chart(
        "held_out", "Held-out reward", "mean score", text="verl's validation.", share=True, legend=one,
        missing="no validation in the metrics (trainer.test_freq, trainer.val_before_train)",
    )  # fmt: skip
    for source in sorted({s for subject in subjects for s in subject.held_out_sources()})[:SOURCES]:
        for i, subject in enumerate(subjects):
            look = (source, len(chart.lines)) if one else (subject.name, i)
            chart.add(subject.held_out(source), *look)
    return chart


def reward_section(subjects: Sequence[Subject]) -> PageSection:
    """Training reward, held-out reward, pass@k and maj@k."""
    charts = [over_steps(REWARD, subjects), held_out(subjects)]
    sources = sources_of(subjects)
    if not sources:
        missing = "no validation dumps: set trainer.validation_data_dir"
        charts.append(Chart("passk", "pass@k", "share of problems", missing=missing))
    for n, (source, label) in enumerate(sources):
        of = f" of {label}" if len(sources) > 1 else ""
        charts.append(_passes_over_steps(f"passes{n}", of, source, subjects))
        charts += [over_k(f"{kind}k{n}", kind, of, source, subjects) for kind in ("pass", "maj")]
    return PageSection("reward", "Reward and validation", charts)


def _passes_over_steps(key: str, of: str, source: str, subjects: Sequence[Subject]) -> Chart:
    one = len(subjects) == 1
    chart = Chart(
        key, f"Validation{of} over steps" if one else f"Mean accuracy{of} over steps", "share of problems", share=True, legend=one,
        text="Bands: 95 % interval over problems; of a group, over its runs.", missing="no mean@n in the dumps",
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        ks, mean = subject.ks(source), subject.mean_metric(source) or ""
        if not one:
            chart.add(subject.validation(source, mean), subject.name, i)
            continue
        for j, name in enumerate([mean, f"pass@{ks[-1]}", f"maj@{ks[-1]}"] if len(ks) > 1 else [mean]):
            chart.add(subject.validation(source, name), name, j, j)
    return chart


def over_k(key: str, kind: str, of: str, source: str, subjects: Sequence[Subject]) -> Chart:
    """pass@k or maj@k over k: before and after for one subject, at the last validation for several."""
    one = len(subjects) == 1
    words = {"pass": "At least one of k answers is right", "maj": "The most frequent of k is right"}[kind]
    chart = Chart(
        key, f"{kind}@k{of}", "share of problems", kind="k", share=True, legend=one,
        text=words + (", before and after." if one else ", at the last validation."),
        missing=f"no {kind}@k in the dumps" + (" (the reward function returns no pred)" if kind == "maj" else ""),
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        steps = subject.validation_steps(source)
        shown = [steps[0], steps[-1]] if one and len(steps) > 1 else steps[-1:]
        for j, step in enumerate(shown):
            found = subject.over_k(source, kind, step)
            if found is not None and len(subjects) > 4:
                found.low = found.high = None
            look = (f"step {step}", len(shown) - 1 - j) if one else (subject.name, i)
            chart.add(found, *look)
    return chart


def sections(subjects: Sequence[Subject]) -> list[PageSection]:
    """The page's sections with charts, in their order."""

    def charts(*quantities: Quantity) -> list[Chart]:
        return [over_steps(quantity, subjects) for quantity in quantities]

    return [
        reward_section(subjects),
        PageSection("kl", "Distance from the reference", [*charts(KL, KL3), by_position("kl", subjects)]),
        PageSection("entropy", "Entropy", [*charts(ENTROPY), by_position("entropy", subjects)]),
        PageSection("regulariser", "Share of the regulariser", charts(*REGULARISER)),
        PageSection("clip", "Clip fractions", charts(*CLIP)),
        PageSection("groups", "Groups without variance", charts(GROUPS)),
        PageSection("length", "Answer length and truncation", charts(LENGTH, TRUNCATION)),
        PageSection("time", "Time and memory", charts(*TIME, *MEMORY)),
    ]
