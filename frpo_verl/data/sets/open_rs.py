"""Open-RS (knoveleng/open-rs, arXiv 2503.16219): about 7,000 training problems with worked solutions and a level.

    python -m frpo_verl data open_rs --local_save_dir ~/data/open_rs

Rows are `problem`, `solution`, `answer` and `level`; where `answer` is missing the last box of the solution
is taken. One of the training sets of f-GRPO (arXiv 2602.05946). Solutions are not copied.
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet

DATASET = DataSet(
    name="open_rs",
    data_source="open_rs",
    hub="knoveleng/open-rs",
    splits={"train": "train"},
    keep_solution=False,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
