"""From graded samples to numbers: mean@n, pass@k, maj@k with confidence intervals, per data source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .dumps import UNKNOWN, Record
from .pass_at_k import bootstrap_score, confidence_interval, maj_at_k, pass_at_k

_maj_at_k = lru_cache(maxsize=65536)(maj_at_k)


def default_ks(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return [*(2**i for i in range(n.bit_length()) if 2**i < n), n]


def vote_counts(samples: Sequence[Record]) -> tuple[tuple[int, ...], tuple[float, ...], int]:
    """(votes, correct, abstain) of one problem for maj_at_k; answers equal up to white space are one."""
    votes: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for sample in samples:
        answer = "".join((sample.pred or "").split())
        if answer:
            votes[answer] += 1
            right[answer] += sample.correct
    pairs = sorted((votes[a], right[a] / votes[a]) for a in votes)
    return tuple(v for v, _ in pairs), tuple(r for _, r in pairs), len(samples) - sum(votes.values())


def summarize(
    records: Iterable[Record],
    ks: Sequence[int] | None = None,
    *,
    samples: int | None = None,
    bootstrap: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """mean@n, pass@k and maj@k of each data source, averaged over its problems (each problem counts once).

    Args:
        records: graded samples of ONE policy.
        ks: the k of pass@k and maj@k; default: powers of two up to the smallest number of samples, and that number.
        samples: how many samples each problem should have; missing ones count as wrong. Default: as found.
        bootstrap: add the with-replacement score (see `bootstrap_score`).
        confidence, resamples, seed: of the interval over problems (see `confidence_interval`).

    Returns:
        {data source: {"problems", "samples": [min, max], "metrics": {name: {"value", "low", "high"}}, "notes"}}; with
        `bootstrap` also "bootstrap": {name: {"mean", "std"}}. Metric names: `mean@n` (`mean` where n differs), `pass@k`,
        `maj@k` (only where every sample has a `pred`). Values are shares, 0 .. 1.

    Raises ValueError where a k exceeds a problem's number of samples, or a problem has more than `samples`.
    """
    grouped: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        grouped.setdefault(record.data_source, {}).setdefault(record.problem, []).append(record)
    results = {}
    for source in sorted(grouped):
        counts = _count(source, list(grouped[source].values()), samples, ks)
        values = _values(counts)
        table = np.array(list(values.values())).T
        low, high = confidence_interval(table, confidence, resamples, seed)
        results[source] = {
            "problems": len(counts.n),
            "samples": [min(counts.n), max(counts.n)],
            "metrics": {
                name: {"value": float(table[:, i].mean()), "low": float(low[i]), "high": float(high[i])}
                for i, name in enumerate(values)
            },
            "notes": _notes(source, counts),
        }
        if bootstrap:
            scores = {f"pass@{k}": bootstrap_score(counts.n, counts.c, k) for k in counts.ks}
            results[source]["bootstrap"] = {name: {"mean": mean, "std": std} for name, (mean, std) in scores.items()}
    return results


@dataclass
class _Counts:
    """Of the problems of one data source: samples that count (n), correct ones (c), and the k that are asked for."""

    problems: list[list[Record]]
    n: list[int]
    c: list[int]
    ks: list[int]


def _count(source: str, problems: list[list[Record]], samples: int | None, ks: Sequence[int] | None) -> _Counts:
    most = max(map(len, problems))
    if samples is not None and most > samples:
        raise ValueError(f"{source}: a problem has {most} samples, more than the {samples} stated")
    n = [samples or len(problem) for problem in problems]
    c = [sum(sample.correct for sample in problem) for problem in problems]
    wanted = default_ks(min(n)) if ks is None else sorted(set(ks))
    for k in wanted:
        if not 1 <= k <= min(n):
            raise ValueError(f"{source}: k={k}, but a problem has only {min(n)} samples; allowed: 1 <= k <= {min(n)}")
    return _Counts(problems, n, c, wanted)


def _values(counts: _Counts) -> dict[str, list[float]]:
    """Metric -> its value of each problem."""
    pairs = list(zip(counts.n, counts.c, strict=True))
    most = max(counts.n)
    values = {f"mean@{most}" if min(counts.n) == most else "mean": [c / n for n, c in pairs]}
    for k in counts.ks:
        values[f"pass@{k}"] = [pass_at_k(n, c, k) for n, c in pairs]
    if all(sample.pred is not None for problem in counts.problems for sample in problem):
        missing = [n - len(problem) for n, problem in zip(counts.n, counts.problems, strict=True)]
        ballots = list(zip(map(vote_counts, counts.problems), missing, strict=True))
        for k in counts.ks:
            values[f"maj@{k}"] = [_maj_at_k(votes, right, k, silent + more) for (votes, right, silent), more in ballots]
    return values


def _notes(source: str, counts: _Counts) -> list[str]:
    """What a reader has to know beside the numbers."""
    notes = []
    problems, smallest, largest = counts.problems, min(counts.n), max(counts.n)
    missing = sum(counts.n) - sum(map(len, problems))
    if missing:
        notes.append(f"{missing} missing samples counted as wrong")
    if smallest != largest:
        few = sum(count < largest for count in counts.n)
        notes.append(f"{few} of {len(counts.n)} problems have fewer than {largest} samples (at least {smallest})")
    ungraded = sum(not sample.graded for problem in problems for sample in problem)
    if ungraded:
        notes.append(f"{ungraded} samples without a grade counted as wrong")
    if largest > 1 and all(len({s.output for s in p}) == 1 and p[0].output is not None for p in problems):
        notes.append("all responses to a problem are the same text: greedy? (val_kwargs.temperature is 0 by default)")
    if source == UNKNOWN:
        notes.append("data source neither in the file nor found through --data FILE.parquet: these problems are pooled")
    return notes
