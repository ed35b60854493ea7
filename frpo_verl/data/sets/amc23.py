"""AMC 2023 (math-ai/amc23): 40 problems of the AMC 12 with integer answers, for evaluation.

    python -m frpo_verl data amc23 --local_save_dir ~/data/amc23

Copies that store the answers as floating-point numbers (27.0) give the same ground truth ("27").
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet, parse_integer_row

DATASET = DataSet(
    name="amc23",
    data_source="amc23",
    hub="math-ai/amc23",
    splits={"test": "test"},
    parse=parse_integer_row,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
