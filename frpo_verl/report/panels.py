"""Which charts a page has, in which order, and what is drawn in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .charts import COLOURS, Chart, Line
from .collect import is_finite, never_finite, source_label
from .metrics import CLIP, ENTROPY, GROUPS, KL, LENGTH, MEMORY, REGULARISER, REWARD, TIME, Metric
from .subjects import Curve, Subject, at_end

QUARTERS = ("q1", "q2", "q3", "q4")
QUARTER_NAMES = ("first quarter", "second quarter", "third quarter", "last quarter")
SOURCES = 4  # data sources that have charts of their own
NESTED = ("timing_s/step", "timing_s/start_profile", "timing_s/stop_profile")


@dataclass
class Section:
    """A heading of the page with its charts."""

    key: str
    title: str
    charts: list[Chart] = field(default_factory=list)


def looks(index: int) -> dict[str, int]:
    """Colour and dash of the n-th subject."""
    return {"colour": index % COLOURS, "dash": index // COLOURS}


def over_steps(metric: Metric, subjects: Sequence[Subject]) -> Chart:
    """The chart of one metric, a line a subject."""
    lines = []
    for i, subject in enumerate(subjects):
        found = subject.curve(*metric.names)
        if found is not None and not (metric.key == "memory_device" and not any(found.values)):
            lines.append(Line(subject.name, found, **looks(i)))
    broken = None if lines else never_finite([run.steps for s in subjects for run in s.runs], metric.names)
    return Chart(
        metric.key, metric.title, metric.unit, lines, metric.text, broken or metric.missing,
        zero=metric.zero, share=metric.share, legend=False,
    )  # fmt: skip


def by_position(kind: str, subjects: Sequence[Subject]) -> Chart:
    """Quarters of the answer: over steps for one subject, at the end of training beside each other for several."""
    title = {"kl": "KL by position in the answer", "entropy": "Entropy by position in the answer"}[kind]
    names = [f"frpo/{kind}_by_position/{q}" for q in QUARTERS]
    chart = Chart(
        f"{kind}_position",
        title,
        "nats a token",
        text="Each answer cut into four quarters of its own length.",
        missing=f"no frpo/{kind}_by_position in the metrics",
        zero=True,
    )
    if len(subjects) == 1:
        for i, name in enumerate(names):
            found = subjects[0].curve(name)
            if found is not None:
                chart.lines.append(Line(QUARTER_NAMES[i], found, colour=i, dash=i))
        return chart
    chart.kind, chart.legend = "position", False
    chart.text += " Mean of the last steps."
    for i, subject in enumerate(subjects):
        ends = [at_end(subject.curve(name)) for name in names]
        points = [(place, end) for place, end in enumerate(ends, 1) if end is not None]
        if points:
            c = Curve([place for place, _ in points], [end for _, end in points])
            chart.lines.append(Line(subject.name, c, marks=True, **looks(i)))
    return chart


def _sources(subjects: Sequence[Subject]) -> list[str]:
    return sorted({source for subject in subjects for source in subject.sources()})[:SOURCES]


def reward_section(subjects: Sequence[Subject]) -> Section:
    """Training reward, held-out reward, pass@k and maj@k."""
    one = len(subjects) == 1
    section = Section("reward", "Reward and validation")
    section.charts.append(over_steps(REWARD, subjects))
    held = Chart(
        "held_out", "Held-out reward", "mean score", text="verl's validation.", share=True, legend=one,
        missing="no validation in the metrics (trainer.test_freq, trainer.val_before_train)",
    )  # fmt: skip
    for source in sorted({s for subject in subjects for run in subject.runs for s in run.held_out})[:SOURCES]:
        for i, subject in enumerate(subjects):
            found = subject.held_out(source)
            if found is not None:
                style = looks(len(held.lines)) if one else looks(i)
                name = source if one else subject.name
                held.lines.append(Line(name, found, marks=True, **style))
    section.charts.append(held)
    missing = "no validation dumps: set trainer.validation_data_dir"
    sources = _sources(subjects)
    if not sources:
        section.charts.append(Chart("passk", "pass@k", "share of problems", missing=missing))
    for n, source in enumerate(sources):
        label = next((source_label(run, source) for s in subjects for run in s.runs if source in s.sources()), source)
        of = f" of {label}" if len(sources) > 1 else ""
        section.charts.append(_passes_over_steps(f"passes{n}", of, source, subjects))
        for kind, words in (("pass", "at least one of k answers is right"), ("maj", "the most frequent of k is right")):
            section.charts.append(_over_k(f"{kind}k{n}", kind, words, of, source, subjects))
    return section


def _passes_over_steps(key: str, of: str, source: str, subjects: Sequence[Subject]) -> Chart:
    chart = Chart(
        key, f"Validation{of} over steps", "share of problems", share=True, legend=len(subjects) == 1,
        text="Bands: 95 % interval over problems; of a group, over its runs.", missing="no mean@n in the dumps",
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        ks = subject.ks(source)
        names = [subject.mean_metric(source) or ""]
        if len(subjects) == 1 and len(ks) > 1:
            names += [f"pass@{ks[-1]}", f"maj@{ks[-1]}"]
        for j, name in enumerate(names):
            found = subject.validation(source, name)
            if found is not None:
                style = {"colour": j, "dash": j} if len(subjects) == 1 else looks(i)
                chart.lines.append(Line(name if len(subjects) == 1 else subject.name, found, marks=True, **style))
    if len(subjects) > 1:
        chart.title = f"Mean accuracy{of} over steps"
    return chart


def _over_k(key: str, kind: str, words: str, of: str, source: str, subjects: Sequence[Subject]) -> Chart:
    one = len(subjects) == 1
    chart = Chart(
        key, f"{kind}@k{of}", "share of problems", kind="k", share=True, legend=one, text=f"{words[0].upper()}{words[1:]}",
        missing=f"no {kind}@k in the dumps" + (" (the reward function returns no pred)" if kind == "maj" else ""),
    )  # fmt: skip
    chart.text += ", before and after." if one else ", at the last validation."
    for i, subject in enumerate(subjects):
        steps = subject.validation_steps(source)
        shown = [steps[0], steps[-1]] if one and len(steps) > 1 else steps[-1:]
        for j, step in enumerate(shown):
            found = subject.over_k(source, kind, step)
            if found is None:
                continue
            if len(subjects) > 4:
                found.low = found.high = None
            style = looks(len(shown) - 1 - j) if one else looks(i)
            name = f"step {step}" if one else subject.name
            chart.lines.append(Line(name, found, marks=True, **style))
    return chart


def verifier_chart(subjects: Sequence[Subject]) -> Chart:
    """Share of validation answers whose grading timed out or failed."""
    chart = Chart(
        "verifier", "Answers that the verifier could not grade", "share of answers", share=True, legend=False,
        text="Timed out or failed, and counted as wrong.",
        missing="no verify_timeout or verify_error in the validation: the reward function does not return them",
    )  # fmt: skip
    for i, subject in enumerate(subjects):
        names = sorted(
            {
                n
                for run in subject.runs
                for data in run.steps.values()
                for n in data
                if "/verify_" in n and "/mean@" in n
            }
        )
        curves = [c for c in map(subject.curve, names) if c is not None]
        if not curves:
            continue
        sources = max(1, len({n.split("/verify_")[0] for n in names}))
        tables = [dict(zip(c.steps, c.values, strict=True)) for c in curves]
        steps = sorted(set.intersection(*(set(table) for table in tables)))
        if steps:
            total = [sum(table[step] for table in tables) / sources for step in steps]
            chart.lines.append(Line(subject.name, Curve(steps, total), marks=True, **looks(i)))
    return chart


def phases_chart(subjects: Sequence[Subject]) -> Chart:
    """Mean time of each phase of a step, after the first step where there are others."""
    chart = Chart(
        "phases", "Time of a step by phase", "seconds, mean", kind="bars",
        text="Without the first step, which loads and compiles; validations and checkpoints spread over all steps.", missing="no timing_s/* in the metrics",
    )  # fmt: skip
    means: list[dict[str, float]] = []
    for subject in subjects:
        sums: dict[str, list[float]] = {}
        for run in subject.runs:
            rows = [data for data in run.steps.values() if "timing_s/step" in data]
            for data in rows[1:] or rows:
                for name, value in data.items():
                    if name.startswith("timing_s/") and name.count("/") == 1 and is_finite(value):
                        sums.setdefault(name, []).append(value)
        count = len(sums.get("timing_s/step", ())) or 1
        means.append({name[9:]: sum(v) / count for name, v in sums.items()})
    if not any(means):
        return chart
    size: dict[str, float] = {}
    for mean in means:
        for name, value in mean.items():
            if f"timing_s/{name}" not in NESTED:
                size[name] = size.get(name, 0.0) + value
    shown = sorted(size, key=lambda name: -size[name])[:COLOURS]
    chart.labels = [subject.name for subject in subjects]
    for name in shown:
        chart.bars[name] = [mean.get(name, 0.0) for mean in means]
    rest = [max(0.0, m.get("step", 0.0) - sum(m.get(name, 0.0) for name in shown)) for m in means]
    chart.bars["rest"] = rest
    return chart


def sections(subjects: Sequence[Subject]) -> list[Section]:
    """The page's sections with charts, in their order."""

    def charts(*metrics: Metric) -> list[Chart]:
        return [over_steps(metric, subjects) for metric in metrics]

    return [
        reward_section(subjects),
        Section("kl", "Distance from the reference", [*charts(*KL), by_position("kl", subjects)]),
        Section("entropy", "Entropy", [*charts(ENTROPY), by_position("entropy", subjects)]),
        Section("regulariser", "Share of the regulariser", charts(*REGULARISER)),
        Section("clip", "Clip fractions", charts(*CLIP)),
        Section("groups", "Groups without variance", charts(GROUPS)),
        Section("length", "Answer length and truncation", charts(*LENGTH)),
        Section("verifier", "Verifier failures", [verifier_chart(subjects)]),
        Section("time", "Step time by phase", [*charts(TIME), phases_chart(subjects)]),
        Section("memory", "Memory", charts(*MEMORY)),
    ]
