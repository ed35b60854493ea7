"""Read the folder of a run: verl's metrics file or event files, its dumps, and the configuration it was started with."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frpo_verl.evaluation import DumpError, Record, Sources, read_records, summarize

from .answers import FOLDER as ANSWERS_FOLDER
from .answers import Answer, read_answers
from .configuration import Configuration, find_configuration
from .environment import read_environment
from .tensorboard import event_files, read_events

METRICS_FILE = "metrics.jsonl"
VALIDATION_FOLDERS = ("validation", "val")

#: quantity -> metric names that hold it, the best first
KEYS = {
    "reward": ("critic/score/mean", "critic/rewards/mean"),
    "entropy": ("actor/entropy", "actor/entropy_loss"),
    "kl_to_ref": ("frpo/kl_to_ref/k1", "actor/reward_kl_penalty", "actor/kl_loss"),
    "kl_to_ref_k3": ("frpo/kl_to_ref/k3",),
    "response_length": ("response_length/mean",),
}
#: share of the answers that reached data.max_response_length, put among the metrics of a step by `add_truncation`
TRUNCATED = "report/truncated"
LAST_POSSIBLE_STEP = 2**53
#: number of last steps over which a training metric is averaged for "after"
LAST_STEPS = 5

_summaries: dict[
    tuple, tuple[dict[str, Any], dict]
] = {}  # of dumps that were read before: --watch reads a folder many times
_HELD_OUT = re.compile(r"^val-(?:core|aux)/(?P<source>.+)/(?P<variable>acc|reward)/mean@(?P<n>\d+)$")


class RunError(Exception):
    """A run that cannot be reported on; the message is one line for the user."""


@dataclass
class Run:
    """One run. ``series`` maps a quantity to its [(step, value)] in the order of the steps; ``held_out`` maps a data
    source to the same of the mean validation reward; ``validations`` maps a step to `summarize`'s result; ``steps``
    maps a step to every number that was logged for it, not finite ones included."""

    name: str
    folder: Path
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)  # quantity -> metric name it was read from
    held_out: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    validations: dict[int, dict[str, Any]] = field(default_factory=dict)
    shares: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)  # step -> source -> problem -> right
    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    dumps: Path | None = None  # folder of the validation dumps
    config: Configuration | None = None
    environment: dict[str, Any] | None = None
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)  # what is not there at all: said on the page only
    notes: list[str] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """The last step that any metric or validation was recorded for."""
        return max([step for step, data in self.steps.items() if data] + list(self.validations), default=0)


def metric_files(folder: Path) -> list[Path]:
    """The run's metrics files in the order of writing: earlier parts metrics.1.jsonl, metrics.2.jsonl, ..., then
    metrics.jsonl."""
    parts = [p for p in folder.glob("metrics.*.jsonl") if p.name.split(".")[1].isdigit()]
    files = sorted(parts, key=lambda p: int(p.name.split(".")[1]))
    newest = folder / METRICS_FILE
    return files + ([newest] if newest.is_file() else [])


def read_metrics(files: Iterable[Path], notes: list[str] | None = None) -> dict[int, dict[str, float]]:
    """step -> its numbers. A step that was written again (after a resume) keeps the last value of each name; a file that begins
    at step 0 or 1 is a run that was started over, and what earlier files hold is left out. A line that is cut off or is not verl's {"step", "data"} is passed over, as are values that are no number. null is how
    verl writes a number that is not finite: it is read as nan.

    Args:
        files: in the order of writing.
        notes: takes a line for each file of which something was passed over.
    """
    return _read_metrics(files, notes)[0]


def _read_metrics(files: Iterable[Path], notes: list[str] | None) -> tuple[dict[int, dict[str, float]], bool]:
    """The steps of `read_metrics`, and whether the run was started over."""
    steps: dict[int, dict[str, float]] = {}
    started_over = False
    for file in files:
        passed, begun = 0, False
        try:
            with open(file, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        row = json.loads(line)
                        step, data = int(row["step"]), row["data"].items()
                        if abs(step) > LAST_POSSIBLE_STEP:
                            raise ValueError(step)
                    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                        passed += bool(line.strip())
                        continue
                    if not begun and step <= 1 and max(steps, default=0) > 1:
                        if notes is not None:
                            notes.append(f"{file.name} starts over: {len(steps)} steps of earlier starts are left out")
                        steps.clear()
                        started_over = True
                    begun = True
                    kept = steps.setdefault(step, {})
                    for name, value in data:
                        if value is None:
                            kept[name] = math.nan
                        elif isinstance(value, (int, float)) and not isinstance(value, bool):
                            kept[name] = _as_float(value)
        except OSError as error:
            if notes is None:
                raise
            notes.append(f"left out {file.name}: {error.strerror or error}")
        if passed and notes is not None:
            many = "1 line" if passed == 1 else f"{passed} lines"
            notes.append(f"{file.name}: {many} passed over, cut off or not verl's")
    return dict(sorted(steps.items())), started_over


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def curve(steps: dict[int, dict[str, float]], name: str) -> list[tuple[int, float]]:
    """[(step, value)] of one metric; values that are not finite are left out."""
    return [(s, data[name]) for s, data in steps.items() if name in data and is_finite(data[name])]


def is_finite(value: float) -> bool:
    """Whether a value can be drawn and squared; beyond float32 by far it is as good as infinite."""
    return abs(value) <= 1e100


def never_finite(runs: Iterable[dict[int, dict[str, float]]], names: Iterable[str]) -> str | None:
    """A line on the first of the metrics that was logged, where none of its values is finite; else None."""
    tables = list(runs)
    for name in names:
        values = [data[name] for steps in tables for data in steps.values() if name in data]
        if values:
            return None if any(map(is_finite, values)) else f"{name}: all {len(values)} values are nan or inf"
    return None


def add_truncation(steps: dict[int, dict[str, float]], limit: Any) -> None:
    """Add the share of truncated answers to each step: `frpo/cut_off_frac` where it is logged.

    verl's `response_length/clip_ratio` is the share of answers as long as the longest of the batch: where that one is
    shorter than ``limit``, data.max_response_length, none was cut off.
    """
    for data in steps.values():
        share, longest = data.get("response_length/clip_ratio"), data.get("response_length/max")
        if share is not None:
            known = isinstance(limit, int) and longest is not None and longest < limit
            data[TRUNCATED] = 0.0 if known else data.get("frpo/cut_off_frac", share)


def held_out_curves(steps: dict[int, dict[str, float]]) -> dict[str, list[tuple[int, float]]]:
    """data source -> [(step, mean validation reward)], from verl's val-*/SOURCE/reward/mean@N, else .../acc/mean@N."""
    names: dict[str, dict[str, str]] = {}  # source -> variable -> metric name
    for data in steps.values():
        for name in data:
            match = _HELD_OUT.match(name)
            if match:
                names.setdefault(match["source"], {})[match["variable"]] = name
    found = {source: curve(steps, by.get("reward") or by["acc"]) for source, by in sorted(names.items())}
    return {source: points for source, points in found.items() if points}


def share_right(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    """data source -> problem -> the share of its answers that are right."""
    grades: dict[str, dict[str, list[bool]]] = {}
    for record in records:
        grades.setdefault(record.data_source, {}).setdefault(record.problem, []).append(record.correct)
    return {source: {p: sum(g) / len(g) for p, g in problems.items()} for source, problems in grades.items()}


def read_validations(
    folder: Path, data: Iterable[str | Path] | None = None
) -> tuple[dict[int, tuple[dict[str, Any], dict]], list[str]]:
    """(step -> `summarize` and `share_right` of its dump, notes) from the folder that trainer.validation_data_dir named.

    A dump that cannot be read (it is still being written, or cut off by a kill) is left out with a note.
    """
    data = [Path(file) for file in data] if data else []
    sources = Sources(data) if data else None
    results: dict[int, tuple[dict[str, Any], dict]] = {}
    notes = []
    for file in sorted((p for p in folder.glob("*.jsonl") if p.stem.isdigit()), key=lambda p: int(p.stem)):
        try:
            state = file.stat()
            key = (file.resolve(), state.st_mtime_ns, state.st_size, *data)
            if key not in _summaries:
                records = read_records(file, sources=sources)
                _summaries[key] = summarize(records), share_right(records)
            results[int(file.stem)] = _summaries[key]
        except (DumpError, ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
            notes.append(f"left out a validation dump: {error if isinstance(error, DumpError) else repr(error)}")
    return results, notes


def _named_folder(config: Configuration | None, key: str) -> Path | None:
    """A folder that the configuration names, where it exists from here."""
    named = config.get(key) if config else None
    path = Path(str(named)).expanduser() if named else None
    return path if path is not None and path.is_dir() else None


def _tensorboard_folder(config: Configuration | None) -> Path:
    """Where verl's `tensorboard` logger writes, seen from the folder that the run was started in."""
    names = [config.get(key) if config else None for key in ("trainer.project_name", "trainer.experiment_name")]
    return Path("tensorboard_log", *map(str, names)) if all(names) else Path("tensorboard_log", "(none)")


def load_run(path: str | Path, data: Iterable[str | Path] | None = None, name: str | None = None) -> Run:
    """Read one run.

    Args:
        path: the folder of the run (or the metrics file in it).
        data: parquet files of data.val_files, to tell the data sources in the dumps apart.
        name: what to call it; default: the folder's name.

    Raises RunError where there is no run, or nothing in it.
    """
    path = Path(path).expanduser()
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise RunError(f"RUN {path}: no such folder; give the folder of a run, such as runs/quickstart")
    files = [path] if path.is_file() else metric_files(folder)
    config, note = find_configuration(folder)
    events = [] if files else event_files(folder) or event_files(_tensorboard_folder(config))
    dumps = next((folder / d for d in VALIDATION_FOLDERS if (folder / d).is_dir()), None)
    if not files and not events and dumps is None:
        raise RunError(f"RUN {path}: neither {METRICS_FILE} nor validation/ in it; is it the folder of a run?")
    run = Run(name=name or folder.resolve().name, folder=folder)
    run.steps, started_over = _read_metrics(files, run.notes)
    if events:
        run.steps, notes = read_events(events)
        run.notes += notes
    for quantity, candidates in KEYS.items():
        for key in candidates:
            points = curve(run.steps, key)
            if points:
                run.series[quantity], run.keys[quantity] = points, key
                break
        else:
            broken = never_finite([run.steps], candidates)
            run.notes += [broken] if broken else []
    run.held_out = held_out_curves(run.steps)
    run.config = config
    run.environment = read_environment(folder)
    add_truncation(run.steps, run.config.get("data.max_response_length") if run.config else None)
    run.dumps = dumps or _named_folder(run.config, "trainer.validation_data_dir")
    if run.dumps is not None:
        found, notes = read_validations(run.dumps, data)
        if started_over:  # dumps of a later step are the earlier start's
            found = {step: result for step, result in found.items() if step <= max(run.steps)}
        run.validations = {step: summary for step, (summary, _) in found.items()}
        run.shares = {step: shares for step, (_, shares) in found.items()}
        run.notes += notes
    inside = folder / ANSWERS_FOLDER
    run.answers, notes = read_answers(inside if inside.is_dir() else _named_folder(config, "answers_dir") or inside)
    run.notes += notes
    run.remarks += [note] if note else []
    if not any(run.steps.values()) and not run.validations:
        raise RunError(f"RUN {path}: no step in it yet; wait for the first one, or see train.log for what stopped it")
    return run


def before_after(points: list[tuple[int, float]], last: int = 1) -> tuple[float, float | None] | None:
    """(first value, mean of the last ``last`` values after it); (value, None) for one point, None for none."""
    if not points:
        return None
    tail = [value for _, value in points[1:][-last:]]
    return points[0][1], sum(tail) / len(tail) if tail else None


def validation_metric(run: Run, source: str, name: str) -> list[tuple[int, float]]:
    """[(step, value)] of one of `summarize`'s metrics for one data source."""
    found = ((step, result.get(source, {}).get("metrics", {}).get(name)) for step, result in run.validations.items())
    return [(step, metric["value"]) for step, metric in found if metric is not None]


def pass_ks(run: Run, source: str) -> list[int]:
    """The k of which pass@k is known for a data source at every validation that has the source."""
    per_step = [
        {int(name[5:]) for name in result[source]["metrics"] if name.startswith("pass@")}
        for result in run.validations.values()
        if source in result
    ]
    return sorted(set.intersection(*per_step)) if per_step else []


def dump_sources(run: Run) -> list[str]:
    """Data sources that occur in the validation dumps."""
    return sorted({source for result in run.validations.values() for source in result})


def source_label(run: Run, source: str) -> str:
    """A dump's data source for people: the only one of the metrics where the dump does not say."""
    if not source.startswith("("):
        return source
    return next(iter(run.held_out)) if len(run.held_out) == 1 else "all sources"


def table(run: Run) -> list[dict[str, Any]]:
    """Rows {"quantity", "label", "before", "after"}, ``after`` None until there is one.

    Held-out figures come from the first and the last validation, training figures from the first step and as the mean
    of the last LAST_STEPS.
    """
    rows = []

    def add(quantity: str, label: str, pair: tuple[float, float | None] | None) -> None:
        if pair is not None:
            rows.append({"quantity": quantity, "label": label, "before": pair[0], "after": pair[1]})

    many = len(run.held_out) > 1
    for source, points in run.held_out.items():
        add(f"held_out_reward/{source}", "held-out reward" + (f" ({source})" if many else ""), before_after(points))
    sources = dump_sources(run)
    for source in sources:
        ks = pass_ks(run, source)
        suffix = f" ({source_label(run, source)})" if len(sources) > 1 else ""
        for k in sorted({ks[0], ks[len(ks) // 2], ks[-1]} if ks else ()):
            pair = before_after(validation_metric(run, source, f"pass@{k}"))
            add(f"pass@{k}/{source}", f"held-out pass@{k}{suffix}", pair)
    for quantity, label in (
        ("reward", "training reward"),
        ("entropy", "entropy"),
        ("kl_to_ref", "KL to reference"),
        ("kl_to_ref_k3", "KL to reference, k3"),
        ("response_length", "response length"),
    ):
        add(quantity, label, before_after(run.series.get(quantity, []), LAST_STEPS))
    return rows


def as_json(run: Run) -> dict[str, Any]:
    """All that the table and the picture show, as JSON types."""
    return {
        "name": run.name,
        "folder": str(run.folder),
        "last_step": run.last_step,
        "table": table(run),
        "metric_names": run.keys,
        "series": {name: [list(p) for p in points] for name, points in run.series.items()},
        "held_out_reward": {name: [list(p) for p in points] for name, points in run.held_out.items()},
        "validations": {str(step): result for step, result in run.validations.items()},
        "notes": run.notes,
        "environment": run.environment,
    }
