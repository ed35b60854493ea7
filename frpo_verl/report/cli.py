"""`python -m frpo_verl report RUN...`"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from frpo_verl.evaluation import DumpError

from .collect import LAST_STEPS, Run, RunError, as_json, load_run, table

PICTURE = "report.png"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frpo_verl report",
        description="Before and after of a training run as a table, a picture (report.png) and report.json; several "
        "runs are drawn over each other.",
        epilog="A run is the folder with verl's metrics.jsonl (trainer.logger with 'file') and, for pass@k, the dumps "
        "of trainer.validation_data_dir in its subfolder validation/.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folder of a run")
    add(
        "--out",
        type=Path,
        default=None,
        metavar="PNG",
        help="the picture; the .json goes beside it. Default: in the run's folder, or here for several runs",
    )
    add("--name", action="append", default=None, metavar="NAME", help="what to call a run; once for each RUN")
    add("--title", default=None, help="heading of the picture")
    add(
        "--data",
        nargs="+",
        default=None,
        metavar="PARQUET",
        help="data.val_files, to tell several data sources in the dumps apart",
    )
    return parser


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:.0f}"
    if magnitude >= 10:
        return f"{value:.1f}"
    if magnitude >= 0.01 or value == 0:
        return f"{value:.3f}"
    return f"{value:.1e}" if magnitude < 1e-4 else f"{value:.5f}"


def print_table(runs: Sequence[Run], console) -> None:
    """One table: a row a quantity; before, after and change for one run, `before -> after` for several."""
    from rich.table import Table
    from rich.text import Text

    rows: dict[str, dict[int, dict]] = {}
    for i, run in enumerate(runs):
        for row in table(run):
            rows.setdefault(row["label"], {})[i] = row
    grid = Table()
    grid.add_column("")
    if len(runs) == 1:
        for column in ("before", "after", "change"):
            grid.add_column(column, justify="right", no_wrap=True)
    else:
        for run in runs:
            grid.add_column(Text(run.name), justify="right")
    for label, by_run in rows.items():
        if len(runs) == 1:
            before, after = by_run[0]["before"], by_run[0]["after"]
            change = _number(None if after is None else after - before)
            cells = [_number(before), _number(after), change if change.startswith("-") else f"+{change}"]
        else:
            cells = [
                f"{_number(by_run[i]['before'])} → {_number(by_run[i]['after'])}" if i in by_run else "-"
                for i in range(len(runs))
            ]
        grid.add_row(Text(label), *cells)
    steps = ", ".join(str(run.last_step) for run in runs)
    console.print(Text(f"{', '.join(run.name for run in runs)}: {steps} steps", style="bold"), soft_wrap=True)
    console.print(grid)
    console.print(
        Text(
            f"held-out: first and last validation; the rest: first step and mean of the last {LAST_STEPS}; "
            "entropy and KL in nats a token, length in tokens",
            style="dim",
        ),
        soft_wrap=True,
    )
    for run in runs:
        for note in run.notes:
            console.print(Text(f"{run.name}: {note}"), soft_wrap=True)


def write_json(path: Path, content: dict) -> None:
    """Write JSON under a temporary name, then rename it; nan and inf become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after one line on standard error."""
    parser = build_parser()
    options = parser.parse_args(argv)
    names = options.name or [None] * len(options.runs)
    if len(names) != len(options.runs):
        parser.error(f"--name was given {len(names)} times for {len(options.runs)} runs: give it once for each RUN")
    try:
        runs = [load_run(path, options.data, name) for path, name in zip(options.runs, names, strict=True)]
        out = options.out or (runs[0].folder / PICTURE if len(runs) == 1 else Path(PICTURE))
        out = out.expanduser()
        if not out.suffix:
            out = out.with_suffix(".png")
        from .plot import draw, save

        save(draw(runs, options.title), out)
        write_json(out.with_suffix(".json"), {"runs": [as_json(run) for run in runs]})
    except (RunError, DumpError) as error:
        print(f"report: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"report: error: cannot write {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 2
    from rich.console import Console

    console = Console()
    print_table(runs, console)
    console.print(f"picture: {out}\nfigures: {out.with_suffix('.json')}", highlight=False, soft_wrap=True, markup=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
