"""Coverage: the sums of three_ways, of which each accepts one of the three ways only; nothing is downloaded.

    python -m frpo_verl data coverage --local_save_dir data/coverage
    python -m frpo_verl data coverage --shares .1 .6 .3 --seed 1 --local_save_dir data/other

A keyed hash of the terms draws a problem's way; the prompt does not tell it. `--seed` changes problems and ways. The
model of the quickstart (`python -m frpo_verl.quickstart.ways_model --out DIR --data DIR`) is warmed up on these files
as well. The task is described in frpo_verl/quickstart/coverage.py.
"""

from __future__ import annotations

from ...quickstart import coverage
from ..generated import make_parser, write_splits


def main(argv: list[str] | None = None) -> int:
    """Write both splits; returns the exit code."""
    parser = make_parser(coverage.DATA_SOURCE, __doc__)
    parser.option(
        "shares", type=float, nargs=3, default=list(coverage.SHARES), help="of the problems that accept A, B and C"
    )
    options = parser.parse_args(argv)

    return write_splits(
        coverage.DATA_SOURCE,
        options,
        lambda: coverage.make_splits(options.train_size, options.test_size, options.shares, options.seed),
        lambda problem: {"answer": problem.written(problem.way)},
    )
