"""LIMR (GAIR/LIMR, arXiv 2502.11886): about 1,400 training problems, chosen from MATH by their effect on learning.

    python -m frpo_verl data limr --local_save_dir ~/data/limr

Rows are `prompt` (the problem alone) and `answer`. One of the training sets of f-GRPO (arXiv 2602.05946).
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet

DATASET = DataSet(
    name="limr",
    data_source="limr",
    hub="GAIR/LIMR",
    splits={"train": "train"},
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
