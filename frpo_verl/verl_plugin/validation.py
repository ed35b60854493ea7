"""verl's bootstrap of a validation, whole columns at a time: the same draws, the same digits, a hundred times faster.

verl draws 1000 samples of k among the n answers to each problem and calls Python once for each sample, variable and k, in
one thread of the driver. The seed is fixed: the draws depend on n and k alone, and are made once here. The best and the
worst of a sample are taken down the columns, in Python's order (of a value that is not a number too); a majority vote is
counted with votes as integers. Equal rows of values, which is most of them, are looked up.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from . import run
from .hooks import Call

_NUMBERS = {bool, int, float, np.bool_, np.float16, np.float32, np.float64, np.int32, np.int64}

Spread = tuple[float, float]  # mean and standard deviation over the samples


@functools.cache
def _draws(n: int, k: int, samples: int, seed: int) -> tuple[np.ndarray, Any]:
    """Indices (samples, k) as verl draws them, and numpy's global state after it, in which verl leaves it."""
    np.random.seed(seed)
    index = np.random.choice(n, size=(samples, k), replace=True)
    return index, np.random.get_state()


def _values(values: Any) -> bytes | None:
    """The row of float64 values; None where Python would not compare numbers."""
    if not len(values) or not set(map(type, values)) <= _NUMBERS:
        return None
    try:
        return np.array(values, dtype=np.float64).tobytes()
    except OverflowError:
        return None


def _spread(column: np.ndarray) -> Spread:
    return float(np.mean(column)), float(np.std(column))


@functools.lru_cache(maxsize=65536)
def _best_and_worst(row: bytes, *how: int) -> tuple[Spread, Spread]:
    columns = np.frombuffer(row)[_draws(len(row) // 8, *how)[0].T]
    best = worst = columns[0]
    for column in columns[1:]:
        best, worst = np.where(best >= column, best, column), np.where(worst <= column, worst, column)
    return _spread(best), _spread(worst)


@functools.lru_cache(maxsize=4096)
def _elected(votes: bytes, *how: int) -> np.ndarray:
    """The answer of each sample whose value counts: the first of those with the most frequent vote.

    Of equally frequent votes the one that came first in the sample wins, as in a dictionary of votes.
    """
    code = np.frombuffer(votes, dtype=np.int64)
    index = _draws(len(code), *how)[0]
    rows = np.arange(len(index))
    drawn = code[index] + len(code) * rows[:, None]
    times = np.bincount(drawn.ravel(), minlength=len(code) * len(index))[drawn]
    return index[rows, times.argmax(1)]


@functools.lru_cache(maxsize=65536)
def _majority(row: bytes, votes: bytes, *how: int) -> tuple[Spread]:
    return (_spread(np.frombuffer(row)[_elected(votes, *how)]),)


def bootstrap(call: Call) -> Any:
    """`bootstrap_metric(data, subset_size, reduce_fns, n_bootstrap, seed)` for the two calls that verl makes of it.

    Any other call, and a run that is not ours, goes to verl's function.
    """
    if run.current_of_ours() is None:
        return call()
    data, functions = call["data"], call["reduce_fns"]
    how = call["subset_size"], call["n_bootstrap"], call["seed"]
    result: tuple[Spread, ...] | None = None
    if functions == [np.max, np.min]:
        row = _values(data)
        result = _best_and_worst(row, *how) if row else None
    elif len(functions) == 1 and getattr(getattr(functions[0], "func", None), "__name__", "") == "calc_maj_val":
        keys = functions[0].keywords
        row = _values([answer[keys["val_key"]] for answer in data])
        votes = [answer[keys["vote_key"]] for answer in data]
        if row and set(map(type, votes)) <= {str}:
            names = {vote: i for i, vote in enumerate(dict.fromkeys(votes))}
            result = _majority(row, np.array([names[vote] for vote in votes], dtype=np.int64).tobytes(), *how)
    if not result:
        return call()
    np.random.set_state(_draws(len(data), *how)[1])
    return list(result)
