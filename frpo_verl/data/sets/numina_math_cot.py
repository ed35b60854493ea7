r"""NuminaMath-CoT (AI-MO/NuminaMath-CoT): about 860,000 training problems with worked solutions, and 100 test
problems.

    python -m frpo_verl data numina_math_cot --local_save_dir ~/data/numina_math_cot
    python -m frpo_verl data numina_math_cot --sources olympiads aops_forum --max_rows 20000 --seed 0

The ground truth is the last `\boxed{}` of the solution; proofs and other solutions without one are dropped,
and counted. `data_source` is `numina_` and the row's `source` (numina_olympiads, numina_cn_k12, ...), as in
other files made from it. Ground truths of one letter (multiple choice) are kept and counted as
`letter_answer`. Solutions are not copied.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..common import make_parser, run_options
from ..examples import DataSet, Example, Skip, parse_row


def parse(row: Mapping[str, Any], sources: list[str] | None = None) -> Example:
    if sources and row.get("source") not in sources:
        raise Skip("other_source")
    example = parse_row(row)
    letter = re.fullmatch(r"(?:\\(?:text|textbf|mathrm|mathbf)\{)?\(?\s*[A-H]\s*\)?\}?", example.answer or "")
    source = row.get("source")
    return replace(
        example,
        data_source=f"numina_{source}" if source else None,
        notes=("letter_answer",) if letter else (),
    )


DATASET = DataSet(
    name="numina_math_cot",
    data_source="AI-MO/NuminaMath-CoT",
    hub="AI-MO/NuminaMath-CoT",
    splits={"train": "train", "test": "test"},
    parse=parse,
    keep_solution=False,
    progress=True,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    parser = make_parser(DATASET, __doc__)
    parser.option("sources", nargs="+", default=None, help="keep only these values of `source`; default: all")
    options = parser.parse_args(argv)
    return run_options(replace(DATASET, parse=functools.partial(parse, sources=options.sources)), options)
