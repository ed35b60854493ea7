"""From graded samples to numbers: mean@n, pass@k, maj@k with confidence intervals, per data source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .dumps import UNKNOWN, Record
from .pass_at_k import bootstrap_pass_at_k, confidence_interval, maj_at_k, pass_at_k, simulate_bootstrap

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
    bootstrap: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """mean@n, pass@k and maj@k of each data source, averaged over its problems (each problem counts once).

    Args:
        records: graded samples of ONE policy. ks: the k of pass@k and maj@k; default: powers of two up to the
        smallest number of samples, and that number. samples: how many samples each problem should have;
        missing ones count as wrong. Default: as found. bootstrap: repetitions of the with-replacement score
        (see bootstrap_pass_at_k); 0: leave it out. confidence, resamples, seed: of the interval over problems
        (see confidence_interval).

    Returns {data source: {"problems", "samples": [min, max], "metrics": {name: {"value", "low", "high"}},
    "notes"}}; with `bootstrap` also "bootstrap": {name: {"mean", "std", "expected"}}. Metric names: `mean@n`
    (`mean` where n differs), `pass@k`, `maj@k` (only where every sample has a `pred`). Values are shares, 0
    .. 1.

    Raises ValueError where a k exceeds a problem's number of samples, or a problem has more than `samples`.
    """
    grouped: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        grouped.setdefault(record.data_source, {}).setdefault(record.problem, []).append(record)
    options = {
        "samples": samples,
        "bootstrap": bootstrap,
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
    }
    return {source: _summarize_source(source, grouped[source], ks, **options) for source in sorted(grouped)}


def _summarize_source(source, problems, ks, *, samples, bootstrap, confidence, resamples, seed):
    notes = []
    found = [len(p) for p in problems.values()]
    if samples is not None:
        if max(found) > samples:
            raise ValueError(f"{source}: a problem has {max(found)} samples, more than the {samples} stated")
        missing = samples * len(found) - sum(found)
        if missing:
            notes.append(f"{missing} missing samples counted as wrong")
    n = [samples or count for count in found]
    c = [sum(sample.correct for sample in p) for p in problems.values()]
    smallest, largest = min(n), max(n)
    if smallest != largest:
        few = sum(count < largest for count in n)
        notes.append(f"{few} of {len(n)} problems have fewer than {largest} samples (at least {smallest})")
    ungraded = sum(not sample.graded for p in problems.values() for sample in p)
    if ungraded:
        notes.append(f"{ungraded} samples without a grade counted as wrong")
    if largest > 1 and all(len({s.output for s in p}) == 1 and p[0].output is not None for p in problems.values()):
        notes.append("all responses to a problem are the same text: greedy? (val_kwargs.temperature is 0 by default)")
    ks = default_ks(smallest) if ks is None else sorted(set(ks))
    for k in ks:
        if not 1 <= k <= smallest:
            raise ValueError(
                f"{source}: k={k}, but a problem has only {smallest} samples; allowed: 1 <= k <= {smallest}"
            )
    columns = {f"mean@{largest}" if smallest == largest else "mean": [a / b for a, b in zip(c, n, strict=True)]}
    for k in ks:
        columns[f"pass@{k}"] = [pass_at_k(a, b, k) for a, b in zip(n, c, strict=True)]
    if all(sample.pred is not None for p in problems.values() for sample in p):
        ballots = [vote_counts(p) for p in problems.values()]
        for k in ks:
            columns[f"maj@{k}"] = [
                _maj_at_k(votes, right, k, silent + total - count)
                for (votes, right, silent), total, count in zip(ballots, n, found, strict=True)
            ]
    values = np.array(list(columns.values())).T
    low, high = confidence_interval(values, confidence, resamples, seed)
    result = {
        "problems": len(n),
        "samples": [smallest, largest],
        "metrics": {
            name: {"value": float(values[:, i].mean()), "low": float(low[i]), "high": float(high[i])}
            for i, name in enumerate(columns)
        },
        "notes": notes,
    }
    if bootstrap:
        result["bootstrap"] = {}
        for k in ks:
            mean, std = simulate_bootstrap(n, c, k, bootstrap, seed)
            expected = float(np.mean([bootstrap_pass_at_k(a, b, k) for a, b in zip(n, c, strict=True)]))
            result["bootstrap"][f"pass@{k}"] = {"mean": mean, "std": std, "expected": expected}
    if source == UNKNOWN:
        notes.append("data source neither in the file nor found through --data FILE.parquet: these problems are pooled")
    return result
