"""`python -m frpo_verl passk FILE...`"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .dumps import DumpError, Sources, find_dumps, read_records
from .summary import summarize

EPILOG = (
    "pass@k is the unbiased 1 - C(n-c,k)/C(n,k) over n >= k samples of a problem; maj@k is the chance that "
    "the majority of k of them is correct. --bootstrap adds the score from draws with replacement that the "
    "FRPO paper reports: it is biased low, strongly where n is near k. Intervals are over problems."
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frpo_verl passk",
        description="mean@n, pass@k, maj@k of graded samples: verl's validation dumps or jsonl (id, correct)",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "files",
        nargs="+",
        metavar="FILE",
        help="a .jsonl file, or a folder of them (trainer.validation_data_dir)",
    )
    add(
        "--k",
        type=_ks,
        default=None,
        metavar="K,K,...",
        help="default: 1,2,4,... up to the samples of a problem",
    )
    add(
        "--data",
        nargs="+",
        default=None,
        metavar="PARQUET",
        help="data.val_files, to name the data sources of a dump",
    )
    add(
        "--samples",
        type=_positive,
        default=None,
        metavar="N",
        help="samples a problem should have: missing ones are wrong",
    )
    add(
        "--merge",
        action="store_true",
        help="pool the samples of all files (of one policy); default: a report a file",
    )
    add(
        "--bootstrap",
        nargs="?",
        type=_positive,
        const=1000,
        default=0,
        metavar="DRAWS",
        help="add the with-replacement score",
    )
    add(
        "--correct-key",
        "--correct_key",
        default=None,
        metavar="KEY",
        help="the grade; default: acc, correct, is_correct, score",
    )
    add(
        "--threshold",
        type=float,
        default=None,
        metavar="T",
        help="a grade of at least T is correct; default: only 1 is",
    )
    add("--confidence", type=_share, default=0.95, help="of the intervals; default: %(default)s")
    add(
        "--resamples",
        type=_positive,
        default=2000,
        help="of the problems, for the intervals; default: %(default)s",
    )
    add("--seed", type=int, default=0, help="of intervals and bootstrap; default: %(default)s")
    add(
        "--json",
        default=None,
        metavar="OUT",
        help="also write everything there ('-': to standard output, no table)",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def _ks(text: str) -> list[int]:
    return [_positive(part.strip()) for part in text.split(",")]


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, not {text!r}")
    return value


def evaluate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One report a file (or one in all with --merge); raises DumpError or ValueError."""
    files = [file for path in options.files for file in find_dumps(path)]
    sources = Sources(options.data) if options.data else None
    read = [
        read_records(file, correct_key=options.correct_key, threshold=options.threshold, sources=sources)
        for file in files
    ]
    if options.merge:
        steps = sorted({r.step for records in read for r in records if r.step is not None})
        if len(steps) > 1:
            raise DumpError(
                f"--merge: the files hold steps {steps}, that is different policies; give those of one step"
            )
        groups = [(", ".join(map(str, files)), [record for records in read for record in records])]
    else:
        groups = [(str(file), records) for file, records in zip(files, read, strict=True)]
    reports = []
    for name, records in groups:
        try:
            results = summarize(
                records,
                options.k,
                samples=options.samples,
                bootstrap=options.bootstrap,
                confidence=options.confidence,
                resamples=options.resamples,
                seed=options.seed,
            )
        except ValueError as error:
            raise DumpError(f"{name}: {error}") from None
        if sources is not None:
            add_missing_problems(results, records, sources)
        steps = {record.step for record in records}
        reports.append({"file": name, "step": steps.pop() if len(steps) == 1 else None, "results": results})
    return reports


def add_missing_problems(results: dict, records: Sequence, sources: Sources) -> None:
    """Note, per data source, how many problems of the --data files have no sample at all."""
    seen: dict[str, set[str]] = {}
    for record in records:
        seen.setdefault(record.data_source, set()).add(record.problem)
    for name, result in results.items():
        missing = len(sources.problems.get(name, set()) - seen[name])
        if missing:
            result["notes"].append(f"{missing} problems of the --data files have no sample and are not counted")


def print_tables(reports: Sequence[dict[str, Any]], confidence: float, console=None) -> None:
    """One table a data source, in percent, at most 80 columns wide."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console()
    interval = f"{100 * confidence:g}%"
    boot = any("bootstrap" in result for report in reports for result in report["results"].values())
    for report in reports:
        step = "" if report["step"] is None else f" (step {report['step']})"
        console.print(Text(f"{report['file']}{step}", style="bold"), soft_wrap=True)
        for source, result in report["results"].items():
            console.print(Text(headline(source, result)), soft_wrap=True)
            table = Table()
            columns = ("k", "pass@k", interval, "maj@k", interval, *(["with repl. (std)"] if boot else []))
            for column in columns:
                table.add_column(column, justify="right", no_wrap=True)
            for row in table_rows(result, boot):
                table.add_row(*row)
            console.print(table)
            for note in result["notes"]:
                console.print(Text(f"{source}: {note}"), soft_wrap=True)
    if boot:
        note = "with repl.: draws with replacement, the FRPO paper's number; biased low against pass@k"
        console.print(Text(note), soft_wrap=True)


def headline(source: str, result: dict[str, Any]) -> str:
    low, high = result["samples"]
    name, mean = next((name, m) for name, m in result["metrics"].items() if name.startswith("mean"))
    count = str(low) if low == high else f"{low} to {high}"
    value, interval = _percent(mean)
    return f"{source}: {result['problems']} problems, {count} samples each, {name} {value} {interval} %"


def table_rows(result: dict[str, Any], boot: bool) -> list[list[str]]:
    metrics = result["metrics"]
    rows = []
    for name in [name for name in metrics if name.startswith("pass@")]:
        k = name.removeprefix("pass@")
        row = [k, *_percent(metrics[name]), *_percent(metrics.get(f"maj@{k}"))]
        if boot:
            b = result["bootstrap"][name]
            row.append(f"{100 * b['mean']:.1f} ({100 * b['std']:.1f})")
        rows.append(row)
    return rows


def _percent(metric: dict[str, float] | None) -> tuple[str, str]:
    if metric is None:
        return "-", "-"
    return f"{100 * metric['value']:.1f}", f"[{100 * metric['low']:.1f}, {100 * metric['high']:.1f}]"


def write_json(reports: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    settings = {name: value for name, value in vars(options).items() if name not in ("files", "json")}
    text = json.dumps({"settings": settings, "reports": list(reports)}, indent=2, ensure_ascii=False) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
        return
    target = Path(options.json).expanduser()
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = file.name
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise DumpError(f"--json {target}: {error.strerror or error}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after one line on standard error."""
    options = build_parser().parse_args(argv)
    try:
        reports = evaluate(options)
        if options.json != "-":
            print_tables(reports, options.confidence)
        if options.json is not None:
            write_json(reports, options)
    except DumpError as error:
        print(f"passk: error: {error}", file=sys.stderr)
        return 2
    return 0
