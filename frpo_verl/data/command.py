"""The command line around a published set: options, source, rows, files, a line a split."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from ..arguments import positive_int
from .examples import TRAIN_SPLITS, DataSet, InputError
from .selection import rows_of, select
from .sources import open_source
from .writing import PROMPT_SUFFIX, SCHEMA, File, refuse_to_overwrite, write_files

PATH_OPTIONS = {"local_dataset_path", "local_save_dir", "local_dir", "hdfs_dir", "split"}


class OneLineParser(argparse.ArgumentParser):
    """argparse with errors on one line and options accepted with dashes as with underscores."""

    def __init__(self, name: str, about: str | None):
        super().__init__(
            prog=name, description=about, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")

    def option(self, name: str, **kwargs: Any) -> None:
        """Add `--some_name`, also accepted as `--some-name`."""
        self.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]), **kwargs)


def add_folder(parser: OneLineParser, default: str) -> None:
    parser.option("local_save_dir", default=default, help="folder for the parquet files and their cards")
    parser.option("local_dir", default=None, help="old name of --local_save_dir")


def add_output_options(parser: OneLineParser, default_save_dir: str) -> None:
    """The options of every set that is read: where the output goes and how a prompt is put together."""
    add_folder(parser, default_save_dir)
    parser.option("hdfs_dir", default=None, help="also copy the folder there")
    suffix = "put after each problem ('' for none); default: %(default)s"
    parser.option("prompt_suffix", default=PROMPT_SUFFIX, help=suffix)
    parser.option("system_prompt", default=None, help="a system message before the problem; default: none")
    parser.option("max_rows", type=positive_int, default=None, help="keep at most this many problems of each split")


def make_parser(dataset: DataSet, doc: str | None) -> OneLineParser:
    parser = OneLineParser(dataset.name, doc or dataset.about)
    where = f"a jsonl, json, parquet or arrow file, or a folder; default: {dataset.hub} from the hub"
    parser.option("local_dataset_path", default=None, help=where)
    add_output_options(parser, f"~/data/{dataset.name}")
    parser.option("seed", type=int, default=None, help="with --max_rows: draw them at random; default: the first ones")
    if len(dataset.splits) > 1:
        parser.option("split", choices=list(dataset.splits), default=None, help="only this one; default: all there are")
    if set(dataset.splits) - set(TRAIN_SPLITS):
        parser.option("repeat", type=positive_int, default=1, help="write each evaluation problem this many times")
    for name, arguments in dataset.options.items():
        parser.option(name, **arguments)
    return parser


def finish(
    name: str,
    options: argparse.Namespace,
    prepare: Callable[[Path], Sequence[File]],
    said: Callable[[Mapping[str, Any], Path], str],
    schema: pa.Schema = SCHEMA,
) -> int:
    """Prepare and write the files of a set, and say a line of each; returns the exit code, 2 after one line on what is wrong.

    Args:
        prepare: folder -> what `write_files` is to write; raises InputError before anything is written.
        said: (card, path) -> the line.
    """
    typed = vars(options)
    if options.local_dir is not None:
        print("--local_dir is the old name of --local_save_dir", file=sys.stderr)
    folder = Path(options.local_save_dir if options.local_dir is None else options.local_dir).expanduser()
    try:
        files = prepare(folder)
        refuse_to_overwrite([path for _, path, _ in files], [typed.get("local_dataset_path"), typed.get("mix")])
        for card in write_files(files, schema):
            print(said(card, folder / card["file"]))
        if typed.get("hdfs_dir") is not None:
            try:
                from ..verl_plugin import upstream

                upstream.copy_to_hdfs(folder, typed["hdfs_dir"])
            except ImportError as error:
                raise InputError(f"--hdfs_dir needs verl, which cannot be imported ({error})") from None
    except InputError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    return 0


def counted(card: Mapping[str, Any]) -> list[str]:
    """How many rows were read, and how many are left out for which reason."""
    return [f"{card['rows_in']} rows in", *(f"{count} {reason}" for reason, count in card["dropped"].items())]


def report(card: Mapping[str, Any], path: Path) -> str:
    kept = [f"{count} {reason} (kept)" for reason, count in card["notes"].items()]
    problems = "" if card["rows_out"] == card["problems"] else f" ({card['problems']} problems)"
    return f"{path}: {', '.join([*counted(card), *kept])}, {card['rows_out']} rows out{problems}"


def run(dataset: DataSet, argv: list[str] | None = None, doc: str | None = None) -> int:
    """The whole of a command: options, source, rows, files, a line a split. Returns the exit code."""
    options = make_parser(dataset, doc).parse_args(argv)
    chosen = {name: getattr(options, name) for name in dataset.options}
    dataset = replace(dataset, parse=partial(dataset.parse, **chosen))
    return finish(dataset.name, options, partial(prepare, dataset, options), report)


def prepare(dataset: DataSet, options: argparse.Namespace, folder: Path) -> list[File]:
    """What `write_files` is to write; raises InputError before anything is written."""
    if options.seed is not None and options.max_rows is None:
        raise InputError("--seed is only used to draw --max_rows problems: give both or neither")
    sources = open_source(dataset, options.local_dataset_path, getattr(options, "split", None))
    settings = {name: value for name, value in vars(options).items() if name not in PATH_OPTIONS}
    files: list[File] = []
    for split, source in sources.items():
        selection = select(source, dataset, split, options.max_rows, options.seed)
        if not selection.examples:
            raise InputError(f"split '{split}': none of {selection.rows_in} rows can be used ({selection.why()})")
        card = {
            "dataset": dataset.name, "data_source": dataset.data_source, "split": split, "source": source.description,
            "options": settings, "rows_in": selection.rows_in, "dropped": dict(sorted(selection.dropped.items())),
            "notes": dict(sorted(selection.notes.items())), "problems": len(selection.examples),
        }  # fmt: skip
        files.append((rows_of(selection, dataset, split, options), folder / f"{split}.parquet", card))
    return files
