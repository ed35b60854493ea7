"""`python -m frpo_verl passk FILE...`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
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
    add = parser.add_argument
    files = "a .jsonl file, or a folder of them (trainer.validation_data_dir)"
    add("files", nargs="+", metavar="FILE", help=files)
    ks = "default: 1,2,4,... up to the samples of a problem"
    add("--k", type=_ks, metavar="K,K,...", help=ks)
    add("--data", nargs="+", metavar="PARQUET", help="data.val_files, to name the data sources of a dump")
    samples = "samples a problem should have: missing ones are wrong"
    add("--samples", type=positive_int, metavar="N", help=samples)
    merge = "pool the samples of all files (of one policy); default: a report a file"
    add("--merge", action="store_true", help=merge)
    boot = "add the with-replacement score and its standard deviation"
    add("--bootstrap", action="store_true", help=boot)
    add("--correct-key", metavar="KEY", help="the grade; default: acc, correct, is_correct, score")
    add("--correct_key", dest="correct_key", help=argparse.SUPPRESS)
    add("--threshold", type=float, metavar="T", help="a grade of at least T is correct; default: only 1 is")
    share = number(float, lambda value: 0 < value < 1, "between 0 and 1")
    add("--confidence", type=share, default=0.95, help="of the intervals; default: %(default)s")
    resamples = "of the problems, for the intervals; default: %(default)s"
    add("--resamples", type=positive_int, default=2000, help=resamples)
    add("--seed", type=int, default=0, help="of the intervals; default: %(default)s")
    add("--json", metavar="OUT", help="also write everything there ('-': to standard output, no table)")
    return parser


def _ks(text: str) -> list[int]:
    return [positive_int(part.strip()) for part in text.split(",")]


def evaluate(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One report a file (or one in all with --merge); raises DumpError."""
    sources = Sources(options.data) if options.data else None
    names = ("samples", "bootstrap", "confidence", "resamples", "seed")
    settings = {name: getattr(options, name) for name in names}
    reports = []
    for name, records in _groups(options, sources):
        try:
            results = summarize(records, options.k, **settings)
        except ValueError as error:
            raise DumpError(f"{name}: {error}") from None
        for source, result in results.items():
            asked = sources.problems.get(source, set()) if sources is not None else set()
            missing = len(asked - {record.problem for record in records if record.data_source == source})
            if missing:
                result["notes"].append(f"{missing} problems of the --data files have no sample and are not counted")
        steps = {record.step for record in records}
        reports.append({"file": name, "step": steps.pop() if len(steps) == 1 else None, "results": results})
    return reports


def _groups(options: argparse.Namespace, sources: Sources | None) -> Iterator[tuple[str, list[Record]]]:
    """(name, records) of each report."""
    files = [file for path in options.files for file in find_dumps(path)]
    read = partial(read_records, correct_key=options.correct_key, threshold=options.threshold, sources=sources)
    if not options.merge:
        yield from ((str(file), read(file)) for file in files)
        return
    records = [record for file in files for record in read(file)]
    steps = sorted({record.step for record in records if record.step is not None})
    if len(steps) > 1:
        raise DumpError(f"--merge: the files hold steps {steps}, that is different policies; give those of one step")
    yield ", ".join(map(str, files)), records


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
            name, mean = next((name, m) for name, m in result["metrics"].items() if name.startswith("mean"))
            count = " to ".join(dict.fromkeys(map(str, result["samples"])))
            value = percent(mean["value"], (mean["low"], mean["high"]))
            headline = f"{source}: {result['problems']} problems, {count} samples each, {name} {value}"
            console.print(Text(headline), soft_wrap=True)
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
