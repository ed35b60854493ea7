"""DAPO-Math-17k (BytedTsinghua-SIA/DAPO-Math-17k, arXiv 2503.14476): training problems with integer answers.

    python -m frpo_verl data dapo_math_17k --local_save_dir ~/data/dapo_math_17k

The published file repeats each problem about a hundred times; one copy of each is kept. Its prompts wrap the
problem in instructions of their own ("Solve the following math problem step by step. ... Answer: ..."): the
wrapping is removed and `--prompt_suffix` put in its place. Problems that appear with different answers are
dropped, and counted. `--english` drops problems with letters other than Latin and Greek (the set is partly
Chinese), counted as `not_english`.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..common import make_parser, run_options
from ..examples import DataSet, Example, Skip, parse_row


def is_english(text: str) -> bool:
    """Whether all letters are Latin or Greek; mathematical alphabets count as what they stand for."""
    letters = {c for c in unicodedata.normalize("NFKC", text) if ord(c) > 127 and c.isalpha()}
    return all(unicodedata.name(c, "").startswith(("LATIN", "GREEK", "MODIFIER")) for c in letters)


def parse(row: Mapping[str, Any], english: bool = False) -> Example:
    example = parse_row(row)
    if english and not is_english(example.question):
        raise Skip("not_english")
    return replace(example, solution=None)


DATASET = DataSet(
    name="dapo_math_17k",
    data_source="math_dapo",
    hub="BytedTsinghua-SIA/DAPO-Math-17k",
    splits={"train": "train"},
    parse=parse,
    progress=True,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    parser = make_parser(DATASET, __doc__)
    parser.option("english", action="store_true", help="drop problems in other languages; default: keep them")
    options = parser.parse_args(argv)
    return run_options(replace(DATASET, parse=functools.partial(parse, english=options.english)), options)
