"""AIME 2025 (math-ai/aime25): 30 problems, integer answers from 0 to 999, for evaluation.

    python -m frpo_verl data aime25 --local_save_dir ~/data/aime25

Leading zeros of the answers ("025") are removed.
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet, parse_integer_row

DATASET = DataSet(
    name="aime25",
    data_source="aime25",
    hub="math-ai/aime25",
    splits={"test": "test"},
    parse=parse_integer_row,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
