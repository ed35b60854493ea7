r"""Minerva Math (math-ai/minervamath; arXiv 2206.14858): 272 undergraduate problems with short answers, for
evaluation.

    python -m frpo_verl data minerva_math --local_save_dir ~/data/minerva_math

Copies with a worked `solution` and no `answer` are read through the last `\boxed{}`.
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet

DATASET = DataSet(
    name="minerva_math",
    data_source="minerva_math",
    hub="math-ai/minervamath",
    splits={"test": "test"},
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
