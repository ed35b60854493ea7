r"""MATH (Hendrycks et al., arXiv 2103.03874; hub copy DigitalLearningGmbH/MATH-lighteval): 7,500 + 5,000
problems.

    python -m frpo_verl data math_dataset --local_save_dir ~/data/math

The ground truth is the last `\boxed{}` of the worked solution. The test split contains the 500 problems of
MATH500. (The script is not called math.py because a script's folder comes first on Python's path, before the
module `math`.)
"""

from __future__ import annotations

from ..common import run
from ..examples import DataSet

DATASET = DataSet(
    name="math",
    data_source="DigitalLearningGmbH/MATH-lighteval",
    hub="DigitalLearningGmbH/MATH-lighteval",
    splits={"train": "train", "test": "test"},
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
