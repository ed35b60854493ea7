"""From graded samples to numbers: mean@n, pass@k, maj@k with confidence intervals, per data source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
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
        problems = list(grouped[source].values())
        most = max(map(len, problems))
        if samples is not None and most > samples:
            raise ValueError(f"{source}: a problem has {most} samples, more than the {samples} stated")
        n = [samples or len(problem) for problem in problems]
        wanted = default_ks(min(n)) if ks is None else sorted(set(ks))
        for k in wanted:
            if not 1 <= k <= min(n):
                few = f"a problem has only {min(n)} samples; allowed: 1 <= k <= {min(n)}"
                raise ValueError(f"{source}: k={k}, but {few}")
        c = [sum(sample.correct for sample in problem) for problem in problems]
        values = _values(problems, n, c, wanted)
        table = np.array(list(values.values())).T
        ends = zip(*confidence_interval(table, confidence, resamples, seed), strict=True)
        results[source] = {
            "problems": len(n),
            "samples": [min(n), max(n)],
            "metrics": {
                name: {"value": float(column.mean()), "low": float(low), "high": float(high)}
                for name, column, (low, high) in zip(values, table.T, ends, strict=True)
            },
            "notes": _notes(source, problems, n),
        }
        if bootstrap:
            scores = {f"pass@{k}": bootstrap_score(n, c, k) for k in wanted}
            results[source]["bootstrap"] = {name: {"mean": mean, "std": std} for name, (mean, std) in scores.items()}
    return results


def _values(problems: list[list[Record]], n: list[int], c: list[int], ks: Sequence[int]) -> dict[str, list[float]]:
    """Metric -> its value of each problem; n: samples that count, c: correct ones."""
    pairs = list(zip(n, c, strict=True))
    values = {f"mean@{max(n)}" if min(n) == max(n) else "mean": [right / count for count, right in pairs]}
    for k in ks:
        values[f"pass@{k}"] = [pass_at_k(count, right, k) for count, right in pairs]
    if all(sample.pred is not None for problem in problems for sample in problem):
        ballots = [(*vote_counts(problem), count - len(problem)) for problem, count in zip(problems, n, strict=True)]
        for k in ks:
            values[f"maj@{k}"] = [_maj_at_k(votes, right, k, silent + more) for votes, right, silent, more in ballots]
    return values


def _notes(source: str, problems: list[list[Record]], n: list[int]) -> list[str]:
    """What a reader has to know beside the numbers."""
    few = sum(count < max(n) for count in n)
    missing = sum(n) - sum(map(len, problems))
    ungraded = sum(not sample.graded for problem in problems for sample in problem)
    same = max(n) > 1 and all(len({s.output for s in p}) == 1 and p[0].output is not None for p in problems)
    notes = {
        f"{missing} missing samples counted as wrong": missing,
        f"{few} of {len(n)} problems have fewer than {max(n)} samples (at least {min(n)})": few,
        f"{ungraded} samples without a grade counted as wrong": ungraded,
        "all responses to a problem are the same text: greedy? (val_kwargs.temperature is 0 by default)": same,
        "data source neither in the file nor found through --data FILE.parquet: these problems are pooled": source
        == UNKNOWN,
    }
    return [note for note, due in notes.items() if due]
