"""`python -m frpo_verl report RUN...`"""

from __future__ import annotations

import argparse
import sys
import time
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from frpo_verl.arguments import number
from frpo_verl.evaluation import DumpError

from .build import PAGE, build
from .collect import RunError, TrainingRun, load_run
from .index import Index, find_runs

WATCH = 30  # seconds


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frpo_verl report",
        description="One page (report.html) on a training run, or on several beside each other, with a picture "
        "(report.png), the figures (report.json) and a table here.",
        epilog="A run is the folder with verl's metrics.jsonl (trainer.logger with 'file') or event files ('tensorboard') "
        "and, for pass@k and answers, the dumps of trainer.validation_data_dir in its subfolder validation/.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    runs = "folder of a run; one folder of runs: an index page and a page of each run"
    add("runs", nargs="+", metavar="RUN", help=runs)
    out = (
        "the page (.html) or the picture (.png); the others go beside it under the same name. Default: in the run's "
        "folder, or here for several runs"
    )
    add("--out", type=Path, metavar="FILE", help=out)
    add("--name", action="append", metavar="NAME", help="what to call a run; once for each RUN")
    add("--title", help="heading of page and picture")
    data = "data.val_files, to tell several data sources in the dumps apart"
    add("--data", nargs="+", metavar="PARQUET", help=data)
    group = (
        "runs that differ in their seed only become one line, their mean with its interval: runs of the same --name, else "
        "of the same settings, else of the same folder name but for a number at its end"
    )
    add("--group", action="store_true", help=group)
    watched = f"write again every so many seconds (default: {WATCH}), until Ctrl-C; an open page reloads itself"
    seconds = number(
        lambda text: float(text) if "." in text else int(text),
        lambda value: 1 <= value <= 86400,
        "from 1 to 86400 seconds",
    )
    add("--watch", type=seconds, nargs="?", const=WATCH, metavar="SECONDS", help=watched)
    add("--open", action="store_true", help="open the page in a browser")
    return parser


def targets(runs: Sequence[str], out: Path | None) -> tuple[Path, Path]:
    """The page and the picture: named after --out, else report.* in the run's folder, or here for several."""
    if out is None:
        first = Path(runs[0]).expanduser()
        out = (Path() if len(runs) > 1 else first.parent if first.is_file() else first) / PAGE
    out = out.expanduser()
    ending = out.suffix if out.suffix not in ("", ".html", ".htm", ".json") else ".png"
    return out if out.suffix == ".htm" else out.with_suffix(".html"), out.with_suffix(ending)


def write(options: argparse.Namespace, page: Path, picture: Path) -> tuple[list[TrainingRun], list[str]]:
    """Read the runs and write page, picture and figures once; returns the runs and a line for each that cannot be shown.

    Raises RunError where none can.
    """
    runs, notes = [], []
    for path, name in zip(options.runs, options.name or [None] * len(options.runs), strict=True):
        try:
            runs.append(load_run(path, options.data, name))
        except RunError as error:
            notes.append(str(error))
    if not runs and not options.watch:
        raise RunError("; ".join(notes))
    if runs or page.parent.is_dir():  # else watched before it has begun, or mistyped: the folder is not made
        settings = {"title": options.title, "grouped": options.group, "named": bool(options.name)}
        build(runs, page, picture, notes=notes, reload=options.watch, **settings)
    return runs, notes


def watch(page: Path, seconds: float, again: Callable[[], str], show: bool) -> int:
    """Write again and again until Ctrl-C; `again` returns what is said of it."""
    print(f"report: {page}, written every {seconds} s; Ctrl-C stops", flush=True)
    opened = False
    try:
        while True:
            started = time.monotonic()
            try:
                said = again()
            except OSError as error:  # a file that vanished, a full disk: the next time it may be well
                said = f"cannot read or write {error.filename}: {error.strerror or error}"
            if show and not opened and page.exists():
                opened = webbrowser.open(page.resolve().as_uri())
            print(f"{time.strftime('%H:%M:%S')}  {said}", flush=True)
            time.sleep(max(0.0, seconds - (time.monotonic() - started)))
    except KeyboardInterrupt:
        return 0


def _steps(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {step}" for name, step in pairs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after one line on standard error."""
    parser = build_parser()
    options = parser.parse_args(argv)
    page, picture = targets(options.runs, options.out)
    folder = Path(options.runs[0]).expanduser()
    several = len(options.runs) == 1 and bool(find_runs(folder))
    if several and (options.name or options.group):
        given = "--name" if options.name else "--group"
        parser.error(f"{given} does nothing for {options.runs[0]}, a folder of runs: give the runs themselves")
    named, many = len(options.name or options.runs), len(options.runs)
    if named != many:
        parser.error(f"--name was given {named} times for {many} runs: give it once for each RUN")
    index = Index(folder, page, options.title, options.data, options.watch)

    def again() -> str:
        if several or (many == 1 and find_runs(folder)):  # a watched folder may be empty at first
            return _steps(index.write())
        runs, notes = write(options, page, picture)
        return _steps((run.name, run.last_step) for run in runs) or "; ".join(notes)

    try:
        if options.watch:
            return watch(page, options.watch, again, options.open)
        if several:
            print(f"runs:    {again()}\npage:    {page}")
        else:
            from .facts import show

            runs, notes = write(options, page, picture)
            figures = page.with_suffix(".json")
            show(runs, [*notes, f"picture: {picture}", f"figures: {figures}", f"page:    {page}"])
    except (RunError, DumpError) as error:
        print(f"report: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"report: error: cannot read or write {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 2
    if options.open and not webbrowser.open(page.resolve().as_uri()):
        print("no browser to open it with")
    return 0
