"""Sets of generated problems, a row each: sizes and a seed in, rows and their cards out; nothing is downloaded.

The same options give the same rows. No test problem is a training problem, in another order of its terms neither.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..quickstart import arithmetic, coverage, three_ways
from .command import OneLineParser, add_folder, finish, positive_int
from .examples import InputError
from .writing import Rows, make_row


@dataclass(frozen=True)
class Generated:
    """A set of problems, each with `question` and `answer`, that a module of `frpo_verl/quickstart/` makes.

    `splits` makes them from what was typed (a ValueError is an error of the options), `row` says what else a row holds,
    `card` what else its split's card says; `options` are its own beside sizes and seed: name -> argparse's arguments.
    """

    about: str
    splits: Callable[[argparse.Namespace], Mapping[str, Sequence[Any]]]
    row: Callable[[Any], Mapping[str, Any]]
    card: Callable[[Sequence[Any]], Mapping[str, Any]] = lambda problems: {}
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _levels(problems: Sequence[arithmetic.Problem]) -> dict[str, Any]:
    count = Counter(problem.level for problem in problems)
    return {"problems_by_level": {str(level): count[level] for level in sorted(count)}}


def _three_ways(options: argparse.Namespace) -> Mapping[str, Sequence[three_ways.Problem]]:
    if not 2 <= options.terms <= 9:
        raise ValueError(f"--terms {options.terms}: give 2 to 9; no column of a sum may exceed 9")
    return three_ways.make_splits(options.train_size, options.test_size, options.digits, options.terms, options.seed)


#: what `data NAME` takes, which is the data source of its rows and its module in `frpo_verl/quickstart/` -> the set
GENERATED = {
    arithmetic.DATA_SOURCE: Generated(
        "Arithmetic: sums with their partial sums written out.",
        lambda o: arithmetic.make_splits(o.train_size, o.test_size, o.levels, o.seed),
        lambda problem: {"answer": problem.solution, "level": str(problem.level)},
        _levels,
        options={
            "levels": {
                "type": int,
                "nargs": "+",
                "default": list(arithmetic.DEFAULT_LEVELS),
                "help": f"difficulties in equal shares, of {sorted(arithmetic.LEVELS)} (default: %(default)s)",
            }
        },
    ),
    three_ways.DATA_SOURCE: Generated(
        "Three ways: sums whose answers can be written in three ways.",
        _three_ways,
        lambda problem: {"answer": problem.written("C")},
        options={
            "digits": {
                "type": positive_int,
                "default": three_ways.DIGITS,
                "help": "of each term (default: %(default)s)",
            },
            "terms": {"type": positive_int, "default": three_ways.TERMS, "help": "of each sum (default: %(default)s)"},
        },
    ),
    coverage.DATA_SOURCE: Generated(
        "Coverage: the sums of three_ways, of which each accepts one of the three ways only; the prompt does not tell it.",
        lambda o: coverage.make_splits(o.train_size, o.test_size, o.shares, o.seed),
        lambda problem: {"answer": problem.written(problem.way)},
        options={
            "shares": {
                "type": float,
                "nargs": 3,
                "default": list(coverage.SHARES),
                "help": "of the problems that accept A, B and C (default: %(default)s)",
            }
        },
    ),
}


def make_parser(name: str) -> OneLineParser:
    chosen = GENERATED[name]
    parser = OneLineParser(name, f"{chosen.about} Described in frpo_verl/quickstart/{name}.py.")
    add_folder(parser, f"~/data/{name}")
    parser.option("train_size", type=positive_int, default=3072, help="training problems (default: %(default)s)")
    parser.option("test_size", type=positive_int, default=128, help="test problems (default: %(default)s)")
    parser.option("seed", type=int, default=0, help="another seed, other problems (default: %(default)s)")
    for option, arguments in chosen.options.items():
        parser.option(option, **arguments)
    return parser


def run(name: str, argv: list[str] | None = None) -> int:
    """Write every split of a generated set; returns the exit code."""
    options = make_parser(name).parse_args(argv)
    chosen = GENERATED[name]
    typed = {key: value for key, value in vars(options).items() if key not in ("local_save_dir", "local_dir")}

    def prepare(folder: Path) -> list[tuple[Rows, Path, dict[str, Any]]]:
        try:
            splits = chosen.splits(options)
        except ValueError as error:
            raise InputError(str(error)) from None
        return [
            (
                [
                    make_row(
                        data_source=name,
                        question=problem.question,
                        ground_truth=problem.answer,
                        split=split,
                        index=index,
                        id=f"{name}/{split}/{index}",
                        prompt_suffix="",
                        **chosen.row(problem),
                    )
                    for index, problem in enumerate(problems)
                ],
                folder / f"{split}.parquet",
                {
                    "dataset": name,
                    "data_source": name,
                    "split": split,
                    "source": f"generated by frpo_verl/quickstart/{name}.py",
                    "options": typed,
                    "problems": len(problems),
                    **chosen.card(problems),
                },
            )
            for split, problems in splits.items()
        ]

    return finish(name, options, prepare, lambda card, path: f"{path}: {card['rows_out']} rows")
