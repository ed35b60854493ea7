"""AIME 2024 (HuggingFaceH4/aime_2024): 30 problems, integer answers from 0 to 999, for evaluation.

    python -m frpo_verl data aime24 --local_save_dir ~/data/aime24

Leading zeros of the answers ("025") are removed.
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet, parse_integer_row

DATASET = DataSet(
    name="aime24",
    data_source="aime24",
    hub="HuggingFaceH4/aime_2024",
    splits={"test": "train"},
    parse=parse_integer_row,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
