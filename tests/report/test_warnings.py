"""The report's warnings: each speaks beyond its threshold, is silent at it, and says what to do."""

import json
import random

import pytest
from report_runs import write_dump, write_metrics

from frpo_verl.report.collect import add_truncation, load_run
from frpo_verl.report.quantities import TRUNCATED
from frpo_verl.report.rules import RULES, find_breaches


def write(folder, rows):
    return write_metrics(folder, {step: {"critic/score/mean": 0.5, **data} for step, data in rows.items()})


def constant(name, value, steps=10):
    return {step: {name: value} for step in range(1, steps + 1)}


def course(name, values, reward=None):
    rewards = reward or [0.5] * len(values)
    return {i: {name: v, "critic/score/mean": r} for i, (v, r) in enumerate(zip(values, rewards, strict=True), 1)}


def rising(steps=40):
    noise = random.Random(0)
    return [0.2 + 0.5 * i / steps + noise.gauss(0, 0.01) for i in range(steps)]


def hill(top, end, steps=40):
    """A KL that rises to ``top`` in the middle and falls to ``end``."""
    half = steps // 2
    return [top * i / half for i in range(half)] + [top + (end - top) * i / (half - 1) for i in range(half)]


CASES = {
    "regulariser": (constant("frpo/regularizer_share", 1.0), constant("frpo/regularizer_share", 1.2), 1.2),
    "kl_at_start": (constant("frpo/kl_to_ref/k3", 0.0009), constant("frpo/kl_to_ref/k3", 0.002), 0.002),
    "zero_variance": (constant("frpo/zero_variance_groups", 0.5), constant("frpo/zero_variance_groups", 0.6), 0.6),
    "nonfinite": (constant("frpo/nonfinite_rows", 0), constant("frpo/nonfinite_rows", 2), 20),
    "mismatch": (constant("rollout_corr/k3_kl", 0.009), constant("rollout_corr/k3_kl", 0.03), 0.03),
    "verifier": (
        {1: {"val-aux/x/verify_timeout/mean@1": 0.02, "val-aux/x/verify_error/mean@1": 0.02}},
        {1: {"val-aux/x/verify_timeout/mean@1": 0.04, "val-aux/x/verify_error/mean@1": 0.03}}, 0.07,
    ),
    "truncation": (constant("response_length/clip_ratio", 0.2), constant("response_length/clip_ratio", 0.3), 0.3),
    "drift": (
        course("frpo/kl_to_ref/k3", hill(0.1, 0.08), rising()), course("frpo/kl_to_ref/k3", hill(0.1, 0.0), rising()),
        None,
    ),
    "entropy": (course("actor/entropy", [1.0] + [0.2] * 19), course("actor/entropy", [1.0] + [0.05] * 19), 0.05),
}  # fmt: skip


@pytest.mark.parametrize("key", CASES)
def test_a_rule_speaks_beyond_its_threshold_only(tmp_path, key):
    fine, wrong, number = CASES[key]
    runs = [load_run(write(tmp_path / name, rows)) for name, rows in (("fine", fine), ("wrong", wrong))]
    ((rule, (warning,)),) = find_breaches(runs).items()
    assert rule.key == key and warning.run == "wrong"
    if number is not None:
        assert warning.number == pytest.approx(number)


def test_all_rules_are_tried():
    assert {rule.key for rule in RULES} == {*CASES, "diversity"}


@pytest.mark.parametrize(
    "rows",
    [
        course("frpo/kl_to_ref/k3", hill(0.1, 0.0), rising()[::-1]),  # the KL falls with the reward
        {step: {"frpo/kl_to_ref/k3": 0.05} for step in range(50, 60)},  # a resumed log: no first step
    ],
)
def test_what_is_no_reason_for_a_warning(tmp_path, rows):
    assert not find_breaches([load_run(write(tmp_path / "run", rows))])


def test_a_metric_that_is_nan_now_and_then(tmp_path):
    rows = constant("actor/grad_norm", 1.0)
    rows[4]["actor/grad_norm"] = rows[7]["actor/grad_norm"] = None
    rows[5]["training/rollout_probs_diff_mean"] = None  # verl's own way to say that there is nothing to measure
    ((warning,),) = find_breaches([load_run(write(tmp_path / "run", rows))]).values()
    assert warning.number == 2 and "actor/grad_norm" in warning.where


@pytest.mark.parametrize("last, key", [((0.5, 0.0), "diversity"), ((0.5, 0.5), None), ((0.0, 0.0), None)])
def test_pass_at_1_up_and_pass_at_k_down(tmp_path, last, key):
    """Half of the problems are solved always afterwards, the others with this chance, before all with 0.25."""
    folder = write(tmp_path / "run", {0: {}, 9: {}})
    rng = random.Random(1)
    write_dump(folder / "validation" / "0.jsonl", 0, 0.15, rng, 40, 8)
    write_dump(folder / "validation" / "9.jsonl", 9, 0.0, rng, 40, 8)
    lines = [json.loads(line) for line in (folder / "validation" / "9.jsonl").read_text().splitlines()]
    for i, row in enumerate(lines):
        chance = last[0] and 1.0 if (i // 8) % 2 else last[1]
        row["acc"] = row["score"] = float(rng.random() < chance)
    (folder / "validation" / "9.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert [rule.key for rule in find_breaches([load_run(folder)])] == ([key] if key else [])


def test_warnings_of_several_runs_stand_under_their_rule(tmp_path):
    runs = [load_run(write(tmp_path / name, constant("response_length/clip_ratio", 0.9))) for name in "ab"]
    ((rule, found),) = find_breaches(runs).items()
    assert rule.key == "truncation" and [warning.run for warning in found] == ["a", "b"]


@pytest.mark.parametrize(
    "data, limit, truncated",
    [
        (
            {"response_length/max": 14},
            24,
            0.0,
        ),  # verl compares with the longest of the batch, and all are of one length
        ({"response_length/max": 24}, 24, 1.0),
        ({}, 24, 1.0),
        ({"response_length/max": 14}, None, 1.0),
        (
            {"response_length/max": 24, "frpo/cut_off_frac": 0.01},
            24,
            0.01,
        ),  # one that ended at the limit was not cut off
    ],
)
def test_answers_that_are_cut_off(data, limit, truncated):
    steps = {1: {"response_length/clip_ratio": 1.0} | data, 2: {"critic/score/mean": 0.5}}
    add_truncation(steps, limit)
    assert steps[1][TRUNCATED] == truncated and TRUNCATED not in steps[2]
