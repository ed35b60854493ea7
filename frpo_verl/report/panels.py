"""Which charts a page has, in which order, and what is drawn in them."""

from __future__ import annotations

from collections.abc import Sequence

from .charts import Chart
from .collect import never_finite
from .curves import Curve
from .quantities import HELD_OUT, SECTIONS, Quantity
from .subjects import Subject

QUARTERS = {"q1": "first quarter", "q2": "second quarter", "q3": "third quarter", "q4": "last quarter"}
POSITIONS = {"kl": "KL by position in the answer", "entropy": "Entropy by position in the answer"}
SOURCES = 4  # data sources that have charts of their own


def over_steps(quantity: Quantity, subjects: Sequence[Subject]) -> Chart:
    """The chart of one quantity, a line a subject."""
    q = quantity
    chart = Chart(q.key, q.title, q.unit, text=q.hint, missing=q.absent(), zero=q.zero, share=q.share)
    for i, subject in enumerate(subjects):
        found = subject.curve(*q.names)
        if any(found.values) or q.key != "memory_device":
            chart.add(found, subject.name, i)
    if not chart.lines:
        steps = [run.steps for subject in subjects for run in subject.runs]
        chart.missing = never_finite(steps, q.names) or chart.missing
    return chart


def by_position(kind: str, subjects: Sequence[Subject]) -> Chart:
    """Quarters of the answer: over steps for one subject, at the end of training beside each other for several."""
    chart = Chart(
        f"{kind}_position", POSITIONS[kind], "nats a token", text="Each answer cut into four quarters of its own length.",
        missing=f"no frpo/{kind}_by_position in the metrics", zero=True,
    )  # fmt: skip
    names = {f"frpo/{kind}_by_position/{q}": words for q, words in QUARTERS.items()}
    if len(subjects) == 1:
        for i, (name, words) in enumerate(names.items()):
            chart.add(subjects[0].curve(name), words, i, i)
        return chart
    chart.kind = "position"
    chart.text += " Mean of the last steps."
    for i, subject in enumerate(subjects):
        ends = Curve(points=True)
        for place, name in enumerate(names, 1):
            end = subject.curve(name).at_end()
            if end is not None:
                ends.add(place, end)
        chart.add(ends, subject.name, i)
    return chart


def sources_of(subjects: Sequence[Subject]) -> dict[str, str]:
    """Data sources of the dumps that have charts, each with its name for people."""
    sources = sorted({source for subject in subjects for source in subject.sources()})[:SOURCES]
    return {source: next(s.label(source) for s in subjects if source in s.sources()) for source in sources}


def held_out(subjects: Sequence[Subject]) -> Chart:
    """verl's validation reward: a line a data source for one subject, a line a subject and source for several."""
    chart = Chart(
        "held_out", "Held-out reward", "mean score", text="verl's validation.", share=True,
        missing="no validation in the metrics (trainer.test_freq, trainer.val_before_train)",
    )  # fmt: skip
    for source in sorted({source for subject in subjects for source in subject.held_out_sources()})[:SOURCES]:
        for i, subject in enumerate(subjects):
            look = (source, len(chart.lines)) if len(subjects) == 1 else (subject.name, i)
            chart.add(subject.validation(source, HELD_OUT), *look)
    return chart


def over_validations(key: str, of: str, source: str, subjects: Sequence[Subject]) -> Chart:
    """The mean over steps, with pass@k and maj@k of the largest k for one subject."""
    one = len(subjects) == 1
    chart = Chart(
        key, f"Validation{of} over steps" if one else f"Mean accuracy{of} over steps", "share of problems", share=True,
        text="Bands: 95 % interval over problems; of a group, over its runs.", missing="no mean@n in the dumps",
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        mean, k = subject.mean_metric(source), max(subject.ks(source), default=1)
        if not one:
            chart.add(subject.validation(source, mean), subject.name, i)
            continue
        for j, name in enumerate([mean, f"pass@{k}", f"maj@{k}"] if k > 1 else [mean]):
            chart.add(subject.validation(source, name), name, j, j)
    return chart


def over_k(key: str, kind: str, of: str, source: str, subjects: Sequence[Subject]) -> Chart:
    """pass@k or maj@k over k: before and after for one subject, at the last validation for several."""
    one = len(subjects) == 1
    words = {"pass": "At least one of k answers is right", "maj": "The most frequent of k is right"}[kind]
    chart = Chart(
        key, f"{kind}@k{of}", "share of problems", kind="k", share=True,
        text=words + (", before and after." if one else ", at the last validation."),
        missing=f"no {kind}@k in the dumps" + (" (the reward function returns no pred)" if kind == "maj" else ""),
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        steps = subject.validation_steps(source)
        shown = [steps[0], steps[-1]] if one and len(steps) > 1 else steps[-1:]
        for j, step in enumerate(shown):
            found = subject.over_k(source, kind, step)
            if len(subjects) > 4:
                found.low, found.high = [], []
            look = (f"step {step}", len(shown) - 1 - j) if one else (subject.name, i)
            chart.add(found, *look)
    return chart


def validations(subjects: Sequence[Subject]) -> list[Chart]:
    """Held-out reward, pass@k and maj@k."""
    charts = [held_out(subjects)]
    sources = sources_of(subjects)
    if not sources:
        missing = "no validation dumps: set trainer.validation_data_dir"
        charts.append(Chart("passk", "pass@k", "share of problems", missing=missing))
    for n, (source, label) in enumerate(sources.items()):
        of = f" of {label}" if len(sources) > 1 else ""
        charts.append(over_validations(f"passes{n}", of, source, subjects))
        charts += [over_k(f"{kind}k{n}", kind, of, source, subjects) for kind in ("pass", "maj")]
    return charts


def sections(subjects: Sequence[Subject]) -> list[tuple[str, str, list[Chart]]]:
    """(key, title, charts) of the page's sections with charts, in their order."""
    found = [
        (key, title, [over_steps(quantity, subjects) for quantity in quantities])
        for key, (title, quantities) in SECTIONS.items()
    ]
    for key, _, charts in found:
        if key == "reward":
            charts += validations(subjects)
        elif key in POSITIONS:
            charts.append(by_position(key, subjects))
    return found
