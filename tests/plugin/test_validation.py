"""A validation's bootstrap: verl's digits to the last bit, verl's random state afterwards, and only where it is understood."""

import random
import struct
from decimal import Decimal
from functools import partial
from inspect import signature

import numpy as np
import pytest
from verl.trainer.ppo import metric_utils

from frpo_verl.verl_plugin import run, validation
from frpo_verl.verl_plugin.hooks import wrap

ORIGINAL = getattr(metric_utils.bootstrap_metric, "__wrapped__", metric_utils.bootstrap_metric)
MAJORITY = [partial(metric_utils.calc_maj_val, vote_key="pred", val_key="val")]


pytestmark = pytest.mark.usefixtures("ours")


def bits(result):
    return [struct.pack("<2d", *pair) for pair in result]


def around(original):
    return wrap(original, lambda: validation.bootstrap)


@around
def fast(data, subset_size, reduce_fns, n_bootstrap=1000, seed=42):
    raise AssertionError("went to verl's function")


def rows(rng, n):
    """A row of n values of each kind that a reward may return."""
    yield [float(rng.random() < 0.4) for _ in range(n)]
    yield [rng.random() < 0.4 for _ in range(n)]
    yield [rng.choice([0, 1, -3, 2**40]) for _ in range(n)]
    yield [rng.gauss(0, 1) for _ in range(n)]
    yield [np.float32(rng.gauss(0, 1)) for _ in range(n)]
    yield [rng.choice([0.0, -0.0, 1.0, float("nan"), float("inf"), float("-inf")]) for _ in range(n)]
    yield [rng.choice([0.0, -0.0, True, np.float64(1)]) for _ in range(n)]
    yield [0.0] * n


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # inf - inf, in verl's function and here
@pytest.mark.parametrize("n, ks", [(1, [1]), (2, [2]), (3, [2, 3]), (7, [4, 7]), (16, [2, 8, 16]), (64, [32, 64])])
def test_the_same_bits(n, ks):
    rng = random.Random(n)
    for values in rows(rng, n):
        votes = [rng.choice(["", "4", "7", "x"] if n > 3 else ["4", "7"]) for _ in values]
        answers = [{"val": value, "pred": vote} for value, vote in zip(values, votes, strict=True)]
        for k in ks:
            for data, functions in ((values, [np.max, np.min]), (answers, MAJORITY)):
                how = dict(data=data, subset_size=k, reduce_fns=functions, n_bootstrap=200, seed=rng.choice([42, 7]))
                expected = ORIGINAL(**how)
                after = np.random.random()
                assert bits(fast(**how)) == bits(expected), (values, votes, k)
                assert np.random.random() == after  # the process goes on with the same random numbers


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_whole_validation_has_the_same_digits(monkeypatch):
    """Through verl's own process_validation_metrics: several sources, missing values, strings, unequal numbers of tries."""
    process = metric_utils.process_validation_metrics
    counted = "expected_acc_counts" in signature(process).parameters  # verl 0.9.0 knows no missing values
    rng, infos = random.Random(0), {"reward": [], "acc": [], "pred": [], "note": [], "way_A": [], "rare": []}
    sources, uids = [], []
    for problem in range(12):
        for _ in range(rng.choice([1, 2, 5, 8])):
            sources.append(rng.choice(["a", "b"]) if problem < 2 else "ab"[problem % 2])
            uids.append(str(problem))
            infos["reward"].append(rng.choice([0.0, 1.0, rng.random(), float("nan")]))
            infos["acc"].append(rng.random() < 0.5)
            infos["pred"].append(rng.choice(["1", "2", "", None] if problem == 3 else ["1", "2", ""]))
            infos["note"].append("text")
            infos["way_A"].append(0.0)
            infos["rare"].append(None if counted and rng.random() < 0.5 else 1)
    found, counts = [], {"expected_acc_counts": {("a", "0"): 9}} if counted else {}
    for function in (ORIGINAL, around(ORIGINAL)):
        monkeypatch.setattr(metric_utils, "bootstrap_metric", function)
        nested = process(sources, uids, infos, **counts)
        found.append(
            {(s, v, m): struct.pack("<d", x) for s, vs in nested.items() for v, ms in vs.items() for m, x in ms.items()}
        )
    assert found[0] == found[1] and len(found[0]) > 60
    assert ("a", "way_A", "best@2/mean") in found[0]  # every name that verl logs is still there


@pytest.mark.parametrize("call", [
    dict(data=[0.5, 1.0], subset_size=2, reduce_fns=[np.mean]),
    dict(data=[Decimal(1), Decimal(2)], subset_size=2, reduce_fns=[np.max, np.min]),
    dict(data=[1.0, 10**400], subset_size=2, reduce_fns=[np.max, np.min]),
    dict(data=[1.0, "2"], subset_size=2, reduce_fns=[np.max, np.min]),
    dict(data=[{"val": 1.0, "pred": 3}, {"val": 0.0, "pred": 4}], subset_size=2, reduce_fns=MAJORITY),
])  # fmt: skip
def test_other_calls_go_to_verl(call):
    with pytest.raises(AssertionError, match="went to verl"):
        fast(**call)


def test_a_run_that_is_not_ours_goes_to_verl():
    run.forget()
    with pytest.raises(AssertionError, match="went to verl"):
        fast([0.0, 1.0], 2, [np.max, np.min])
