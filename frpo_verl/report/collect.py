"""Read the folder of a run: verl's metrics file or event files, its dumps, and the configuration it was started with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from frpo_verl.evaluation import DumpError, Record, Sources, read_records, summarize
from frpo_verl.files import read_json

from .answers import FOLDER as ANSWERS_FOLDER
from .answers import Answer, numbered, parsed_lines, read_answers
from .configuration import Configuration, find_configuration
from .curves import Curve
from .environment import read_environment
from .loggers import Steps, as_number, event_files, read_events, read_wandb, wandb_files
from .quantities import HELD_OUT, IN_TABLE, TRUNCATED

METRICS_FILE = "metrics.jsonl"
BEST_FILE = "best_objective.json"  # {"kl_coef", "best"}: the best reward - kl_coef KL of an answer, where it is known
VALIDATION_FOLDERS = ("validation", "val")
LAST_POSSIBLE_STEP = 2**53

#: data source -> `summarize`'s result
Summary: TypeAlias = dict[str, dict[str, Any]]
#: data source -> problem -> share of its answers that are right
Shares: TypeAlias = dict[str, dict[str, float]]

#: of dumps that were read before: --watch reads a folder many times
_summaries: dict[tuple, tuple[Summary, Shares]] = {}
_HELD_OUT = re.compile(r"^val-(?:core|aux)/(?P<source>.+)/(?P<variable>acc|reward)/mean@(?P<n>\d+)$")


class RunError(Exception):
    """A run that cannot be reported on; the message is one line for the user."""


@dataclass
class TrainingRun:
    """What a run has left behind."""

    name: str
    folder: Path
    steps: Steps = field(default_factory=dict)  # every number that was logged, not finite ones included
    series: dict[str, Curve] = field(
        default_factory=dict
    )  # by metric, also `of_source`'s: what is finite, nothing empty
    held_out: dict[str, Curve] = field(default_factory=dict)  # data source -> mean validation reward
    validations: dict[int, Summary] = field(default_factory=dict)  # by step
    shares: dict[int, Shares] = field(default_factory=dict)  # by step
    dumps: Path | None = None  # folder of the validation dumps
    config: Configuration = field(default_factory=Configuration)
    environment: dict[str, Any] | None = None
    best: tuple[float, float] | None = None  # kl_coef, and the best possible reward - kl_coef KL of an answer
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)  # what is not there at all: said on the page only
    notes: list[str] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """The last step that any metric or validation was recorded for."""
        return max([step for step, data in self.steps.items() if data] + list(self.validations), default=0)


def of_source(source: str, metric: str) -> str:
    """The name of a validation's series: HELD_OUT, or one of `summarize`'s metrics of a data source."""
    return f"report/{metric}/{source}"


def metric_files(folder: Path) -> list[Path]:
    """The run's metrics files in the order of writing: earlier parts metrics.1.jsonl, ..., then metrics.jsonl."""
    parts = {p.name.split(".")[1]: p for p in folder.glob("metrics.*.jsonl")}
    files = [parts[number] for number in sorted(filter(str.isdigit, parts), key=int)]
    newest = folder / METRICS_FILE
    return files + ([newest] if newest.is_file() else [])


def read_metrics(files: Iterable[Path]) -> Steps:
    """step -> its numbers, as far as the files can be read; see `read_parts`."""
    return read_parts(files)[0]


def read_parts(files: Iterable[Path]) -> tuple[Steps, bool, list[str]]:
    """(step -> its numbers, whether the run was started over, notes) of metrics files in the order of writing.

    A step that was written again (after a resume) keeps the last value of each name; a file that begins at step 0 or 1 is a
    run that was started over, and what earlier files hold is left out. A line that is cut off or is not verl's {"step", "data"}
    is passed over, as are values that are no number. null is how verl writes a number that is not finite: it is read as nan.
    """
    steps: Steps = {}
    started_over = False
    notes: list[str] = []
    for file in files:
        rows, passed, error = parsed_lines(file, _step_of)
        if error is not None:
            notes.append(f"left out {file.name}: {error.strerror or error}")
        if rows and rows[0][0] <= 1 < max(steps, default=0):
            notes.append(f"{file.name} starts over: {len(steps)} steps of earlier starts are left out")
            steps, started_over = {}, True
        for step, data in rows:
            steps.setdefault(step, {}).update(data)
        if passed:
            many = "1 line" if passed == 1 else f"{passed} lines"
            notes.append(f"{file.name}: {many} passed over, cut off or not verl's")
    return dict(sorted(steps.items())), started_over, notes


def _step_of(row: Any) -> tuple[int, dict[str, float]]:
    """Step and numbers of one of verl's lines."""
    step, data = int(row["step"]), row["data"].items()
    if abs(step) > LAST_POSSIBLE_STEP:
        raise ValueError(step)
    return step, {name: found for name, value in data if (found := as_number(value)) is not None}


def series_of(steps: Steps) -> dict[str, Curve]:
    """The curve of each metric; values that are not finite are left out."""
    found: dict[str, Curve] = {}
    for step, data in steps.items():
        for name, value in data.items():
            if is_finite(value):
                found.setdefault(name, Curve(name=name)).add(step, value)
    return found


def is_finite(value: float) -> bool:
    """Whether a value can be drawn and squared; beyond float32 by far it is as good as infinite."""
    return abs(value) <= 1e100


def never_finite(runs: list[Steps], names: Iterable[str]) -> str | None:
    """A line on the first of the metrics that was logged, where no value of any of them is finite; else None."""
    values = {name: [data[name] for steps in runs for data in steps.values() if name in data] for name in names}
    logged = next((name for name in values if values[name]), None)
    if logged is None or any(is_finite(value) for found in values.values() for value in found):
        return None
    return f"{logged}: all {len(values[logged])} values are nan or inf"


def add_truncation(steps: Steps, limit: Any) -> None:
    """Add the share of truncated answers to each step: `frpo/cut_off_frac` where it is logged.

    verl's `response_length/clip_ratio` is the share of answers as long as the longest of the batch: where that one is
    shorter than ``limit``, data.max_response_length, none was cut off.
    """
    for data in steps.values():
        share, longest = data.get("response_length/clip_ratio"), data.get("response_length/max")
        if share is not None:
            known = isinstance(limit, int) and longest is not None and longest < limit
            data[TRUNCATED] = 0.0 if known else data.get("frpo/cut_off_frac", share)


def held_out_curves(series: dict[str, Curve]) -> dict[str, Curve]:
    """data source -> mean validation reward, from verl's val-*/SOURCE/reward/mean@N, else .../acc/mean@N."""
    found: dict[str, Curve] = {}
    for wanted in ("acc", "reward"):  # which takes the place of the former
        for name, c in series.items():
            match = _HELD_OUT.match(name)
            if match and match["variable"] == wanted:
                found[match["source"]] = replace(c, points=True)
    return dict(sorted(found.items()))


def validation_series(validations: dict[int, Summary]) -> dict[str, Curve]:
    """Each of `summarize`'s metrics over steps, by `of_source`."""
    found: dict[str, Curve] = {}
    for step, result in validations.items():
        for source, summary in result.items():
            for metric, m in summary["metrics"].items():
                c = found.setdefault(of_source(source, metric), Curve(points=True))
                c.add(step, m["value"], m["low"], m["high"])
    return found


def share_right(records: Iterable[Record]) -> Shares:
    """data source -> problem -> the share of its answers that are right."""
    grades: dict[str, dict[str, list[bool]]] = {}
    for record in records:
        grades.setdefault(record.data_source, {}).setdefault(record.problem, []).append(record.correct)
    return {source: {p: sum(g) / len(g) for p, g in problems.items()} for source, problems in grades.items()}


def read_validations(
    folder: Path, data: Iterable[str | Path] | None = None
) -> tuple[dict[int, tuple[Summary, Shares]], list[str]]:
    """(step -> `summarize` and `share_right` of its dump, notes) from the folder that trainer.validation_data_dir named.

    A dump that cannot be read (it is still being written, or cut off by a kill) is left out with a note.
    """
    files = [Path(file) for file in data] if data else []
    sources = Sources(files) if files else None
    results: dict[int, tuple[Summary, Shares]] = {}
    notes = []
    for step, file in numbered(folder).items():
        try:
            state = file.stat()
            key = (file.resolve(), state.st_mtime_ns, state.st_size, *files)
            if key not in _summaries:
                records = read_records(file, sources=sources)
                _summaries[key] = summarize(records), share_right(records)
            results[step] = _summaries[key]
        except (DumpError, ValueError, OSError, TypeError, AttributeError, RecursionError) as error:
            notes.append(f"left out a validation dump: {error if isinstance(error, DumpError) else repr(error)}")
    return results, notes


def read_best(folder: Path) -> tuple[float, float] | None:
    """(kl_coef, best) of a folder's BEST_FILE, None where it has none."""
    try:
        content = read_json(folder / BEST_FILE)
        return float(content["kl_coef"]), float(content["best"])
    except (ValueError, KeyError, TypeError):
        return None


def _named_folder(config: Configuration, key: str) -> Path | None:
    """A folder that the configuration names, where it exists from here."""
    named = config.get(key)
    path = Path(str(named)).expanduser()
    return path if named and path.is_dir() else None


def _logged(folder: Path, config: Configuration) -> tuple[Steps, list[str]] | None:
    """(steps, notes) from the files of verl's other loggers, in the run's folder or where they write from here."""
    named = [config.get(key) for key in ("trainer.project_name", "trainer.experiment_name")]
    project, name = map(str, named) if all(named) else (None, None)
    events = event_files(folder)
    if not events and project and name:
        events = event_files(Path("tensorboard_log", project, name))
    if events:
        return read_events(events)
    found = wandb_files(folder)
    many = len({file.stem for file in found})
    if many > 1:
        raise RunError(f"RUN {folder}: files of {many} runs of Weights & Biases: give one's folder")
    if found:
        return read_wandb(found)
    steps, notes = read_wandb(wandb_files(Path("wandb")), project, name) if name else ({}, [])
    return (steps, notes) if steps else None


def load_run(path: str | Path, data: Iterable[str | Path] | None = None, name: str | None = None) -> TrainingRun:
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
    config, missing = find_configuration(folder)
    run = TrainingRun(name or folder.resolve().name, folder, config=config, remarks=missing)
    run.environment, run.best = read_environment(folder), read_best(folder)
    files = [path] if path.is_file() else metric_files(folder)
    logged = None if files else _logged(folder, config)
    run.dumps = next((folder / d for d in VALIDATION_FOLDERS if (folder / d).is_dir()), None)
    if not files and logged is None and run.dumps is None:
        raise RunError(f"RUN {path}: neither {METRICS_FILE} nor validation/ in it; is it the folder of a run?")
    run.steps, started_over, run.notes = read_parts(files)
    if logged is not None:
        run.steps, run.notes = logged
    run.notes += filter(None, (never_finite([run.steps], quantity.names) for quantity in IN_TABLE))
    add_truncation(run.steps, config.get("data.max_response_length"))
    run.series = series_of(run.steps)
    run.held_out = held_out_curves(run.series)
    run.series |= {of_source(source, HELD_OUT): c for source, c in run.held_out.items()}
    run.dumps = run.dumps or _named_folder(config, "trainer.validation_data_dir")
    if run.dumps is not None:
        found, notes = read_validations(run.dumps, data)
        if started_over:  # dumps of a later step are the earlier start's
            found = {step: result for step, result in found.items() if step <= max(run.steps)}
        run.validations = {step: summary for step, (summary, _) in found.items()}
        run.shares = {step: shares for step, (_, shares) in found.items()}
        run.series |= validation_series(run.validations)
        run.notes += notes
    inside = folder / ANSWERS_FOLDER
    run.answers, notes = read_answers(inside if inside.is_dir() else _named_folder(config, "answers_dir") or inside)
    run.notes += notes
    if not any(run.steps.values()) and not run.validations:
        raise RunError(f"RUN {path}: no step in it yet; wait for the first one, or see train.log for what stopped it")
    return run
