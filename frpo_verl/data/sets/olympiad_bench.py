"""OlympiadBench (Hothan/OlympiadBench, arXiv 2402.14008): the 674 text-only English open-ended maths
problems.

    python -m frpo_verl data olympiad_bench --local_save_dir ~/data/olympiad_bench

Rows that are not text-only, English, maths or open-ended are dropped under one reason each, so the script
may be given a file of the whole collection. `final_answer` is a list: several entries are joined by ", ". A
problem's `context` is put before its question. Answers with a stated tolerance (`error`) are kept and counted
as `tolerance_ignored`: the verifier compares exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..common import run
from ..examples import DataSet, Example, Skip, clean_answer, parse_row, read_first
from ..shapes import label


def parse(row: Mapping[str, Any]) -> Example:
    if row.get("language", "English") not in ("English", "en", "EN"):
        raise Skip("not_english")
    if row.get("subject", "Math") not in ("Math", "Maths", "math", "maths"):
        raise Skip("not_maths")
    if row.get("modality", "Text-only") != "Text-only" or row.get("image_1") or row.get("images"):
        raise Skip("not_text_only")
    if row.get("question_type", "Open-ended") != "Open-ended":
        raise Skip("not_open_ended")
    example = parse_row(row)
    context = read_first(row, ("context",))
    return replace(
        example,
        question=f"{context}\n\n{example.question}" if context and example.question else example.question,
        answer=clean_answer(read_first(row, ("final_answer", "answer"))),
        subject=label(row.get("subfield")) or example.subject,
        notes=("tolerance_ignored",) if label(row.get("error")) else (),
    )


DATASET = DataSet(
    name="olympiad_bench",
    data_source="olympiad_bench",
    hub="Hothan/OlympiadBench",
    hub_config="OE_TO_maths_en_COMP",
    splits={"test": "train"},
    parse=parse,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
