"""`python -m frpo_verl passk FILE...`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..arguments import number, positive_int
from ..files import write_atomically
from .dumps import DumpError, Record, Sources, find_dumps, read_records
from .figures import interval, percent
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
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a .jsonl file, or a folder of them (trainer.validation_data_dir)"
    )

    def add(name: str, default: Any, text: str, **kwargs: Any) -> None:
        parser.add_argument(name, default=default, help=text, **kwargs)

    add(
        "--k",
        None,
        "default: 1,2,4,... up to the samples of a problem",
        type=lambda text: [positive_int(part.strip()) for part in text.split(",")],
        metavar="K,K,...",
    )
    add("--data", None, "data.val_files, to name the data sources of a dump", nargs="+", metavar="PARQUET")
    add("--samples", None, "samples a problem should have: missing ones are wrong", type=positive_int, metavar="N")
    merge = "pool the samples of all files (of one policy); default: a report a file"
    add("--merge", False, merge, action="store_true")
    add("--bootstrap", False, "add the with-replacement score and its standard deviation", action="store_true")
    add("--correct-key", None, "the grade; default: acc, correct, is_correct, score", metavar="KEY")
    parser.add_argument("--correct_key", dest="correct_key", help=argparse.SUPPRESS)
    add("--threshold", None, "a grade of at least T is correct; default: only 1 is", type=float, metavar="T")
    share = number(float, lambda value: 0 < value < 1, "between 0 and 1")
    add("--confidence", 0.95, "of the intervals; default: %(default)s", type=share)
    add("--resamples", 2000, "of the problems, for the intervals; default: %(default)s", type=positive_int)
    add("--seed", 0, "of the intervals; default: %(default)s", type=int)
    add("--json", None, "also write everything there ('-': to standard output, no table)", metavar="OUT")
    return parser


def evaluate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One report a file (or one in all with --merge); raises DumpError or ValueError."""
    sources = Sources(options.data) if options.data else None
    names = ("samples", "bootstrap", "confidence", "resamples", "seed")
    reports = []
    for name, records in _groups(options, sources):
        try:
            results = summarize(records, options.k, **{key: getattr(options, key) for key in names})
        except ValueError as error:
            raise DumpError(f"{name}: {error}") from None
        if sources is not None:
            add_missing_problems(results, records, sources)
        steps = {record.step for record in records}
        reports.append({"file": name, "step": steps.pop() if len(steps) == 1 else None, "results": results})
    return reports


def _groups(options: argparse.Namespace, sources: Sources | None) -> Iterator[tuple[str, list[Record]]]:
    """(name, records) of each report."""
    files = [file for path in options.files for file in find_dumps(path)]
    read = {"correct_key": options.correct_key, "threshold": options.threshold, "sources": sources}
    if not options.merge:
        yield from ((str(file), read_records(file, **read)) for file in files)
        return
    records = [record for file in files for record in read_records(file, **read)]
    steps = sorted({record.step for record in records if record.step is not None})
    if len(steps) > 1:
        raise DumpError(f"--merge: the files hold steps {steps}, that is different policies; give those of one step")
    yield ", ".join(map(str, files)), records


def add_missing_problems(results: dict[str, dict[str, Any]], records: Sequence[Record], sources: Sources) -> None:
    """Note, per data source, how many problems of the --data files have no sample at all."""
    seen: dict[str, set[str]] = {}
    for record in records:
        seen.setdefault(record.data_source, set()).add(record.problem)
    for name, result in results.items():
        missing = len(sources.problems.get(name, set()) - seen[name])
        if missing:
            result["notes"].append(f"{missing} problems of the --data files have no sample and are not counted")


def print_tables(reports: Sequence[dict[str, Any]], confidence: float) -> None:
    """One table a data source, in percent, at most 80 columns wide."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    ends = f"{100 * confidence:g}%"
    boot = any("bootstrap" in result for report in reports for result in report["results"].values())
    for report in reports:
        step = "" if report["step"] is None else f" (step {report['step']})"
        console.print(Text(f"{report['file']}{step}", style="bold"), soft_wrap=True)
        for source, result in report["results"].items():
            console.print(Text(headline(source, result)), soft_wrap=True)
            table = Table()
            for column in ("k", "pass@k", ends, "maj@k", ends, *(["with repl. (std)"] if boot else [])):
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
    value = percent(mean["value"], (mean["low"], mean["high"]))
    return f"{source}: {result['problems']} problems, {count} samples each, {name} {value}"


def table_rows(result: dict[str, Any], boot: bool) -> list[list[str]]:
    metrics = result["metrics"]

    def cells(name: str) -> list[str]:
        m = metrics.get(name)
        return ["-", "-"] if m is None else [f"{100 * m['value']:.1f}", interval(m["low"], m["high"])]

    rows = []
    for k in (name.removeprefix("pass@") for name in metrics if name.startswith("pass@")):
        score = result["bootstrap"][f"pass@{k}"] if boot else None
        more = [f"{100 * score['mean']:.1f} ({100 * score['std']:.1f})"] if score else []
        rows.append([k, *cells(f"pass@{k}"), *cells(f"maj@{k}"), *more])
    return rows


def write_json(reports: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    settings = {name: value for name, value in vars(options).items() if name not in ("files", "json")}
    text = json.dumps({"settings": settings, "reports": list(reports)}, indent=2, ensure_ascii=False) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
        return
    target = Path(options.json).expanduser()
    try:
        write_atomically(target, text)
    except OSError as error:
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
