"""Arithmetic: generated sums with their partial sums written out, as parquet for verl; nothing is downloaded.

    python -m frpo_verl data arithmetic --local_save_dir data/arithmetic
    python -m frpo_verl data arithmetic --levels 3 4 5 --train_size 8192 --local_save_dir data/hard

The same options give the same rows. No test problem is a training problem, in another order of its terms
neither. The levels are defined in frpo_verl/quickstart/arithmetic.py.
"""

from __future__ import annotations

from collections import Counter

from ...quickstart import arithmetic
from ..generated import make_parser, write_splits


def main(argv: list[str] | None = None) -> int:
    """Write both splits; returns the exit code."""
    parser = make_parser(arithmetic.DATA_SOURCE, __doc__)
    parser.option(
        "levels",
        type=int,
        nargs="+",
        default=list(arithmetic.DEFAULT_LEVELS),
        help=f"difficulties in equal shares, of {sorted(arithmetic.LEVELS)} (default: %(default)s)",
    )
    options = parser.parse_args(argv)

    def facts(problems: list[arithmetic.Problem]) -> dict:
        by_level = Counter(problem.level for problem in problems)
        return {"problems_by_level": {str(level): by_level[level] for level in sorted(by_level)}}

    def note(card: dict) -> str:
        return f" ({', '.join(f'{n} of level {level}' for level, n in card['problems_by_level'].items())})"

    return write_splits(
        arithmetic.DATA_SOURCE,
        options,
        lambda: arithmetic.make_splits(options.train_size, options.test_size, options.levels, options.seed),
        lambda problem: {"answer": problem.solution, "level": str(problem.level)},
        facts,
        note,
    )
