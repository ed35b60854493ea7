"""Three ways: generated sums whose answers can be written in three ways, as parquet for verl; nothing is downloaded.

    python -m frpo_verl data three_ways --local_save_dir data/three_ways
    python -m frpo_verl data three_ways --digits 6 --terms 3 --local_save_dir data/longer

The same options give the same rows. No test problem is a training problem, in another order of its terms
neither. The ways are described in frpo_verl/quickstart/three_ways.py.
"""

from __future__ import annotations

from ...quickstart import three_ways
from ..common import positive_int
from ..generated import make_parser, write_splits


def main(argv: list[str] | None = None) -> int:
    """Write both splits; returns the exit code."""
    parser = make_parser(three_ways.DATA_SOURCE, __doc__)
    parser.option("digits", type=positive_int, default=three_ways.DIGITS, help="of each term (default: %(default)s)")
    parser.option("terms", type=positive_int, default=three_ways.TERMS, help="of each sum (default: %(default)s)")
    options = parser.parse_args(argv)

    def splits() -> dict:
        if not 2 <= options.terms <= 9:
            raise ValueError(f"--terms {options.terms}: give 2 to 9; no column of a sum may exceed 9")
        return three_ways.make_splits(
            options.train_size, options.test_size, options.digits, options.terms, options.seed
        )

    return write_splits(three_ways.DATA_SOURCE, options, splits, lambda problem: {"answer": problem.written("C")})
