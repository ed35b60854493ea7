"""MATH500 (HuggingFaceH4/MATH-500): 500 problems of MATH's test split, for evaluation.

python -m frpo_verl data math500 --local_save_dir ~/data/math500
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet

DATASET = DataSet(
    name="math500",
    data_source="HuggingFaceH4/MATH-500",
    hub="HuggingFaceH4/MATH-500",
    splits={"test": "test"},
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
