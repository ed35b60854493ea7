"""What a summary of graded samples says."""

import pytest
from data_files import write_jsonl as write
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import dump_rows

from frpo_verl.evaluation import Record, default_ks, read_records, summarize
from frpo_verl.evaluation.dumps import UNKNOWN


def graded(problem, grades, preds=None, **kwargs):
    preds = preds or [None] * len(grades)
    return [Record(problem, bool(g), pred=p, **kwargs) for g, p in zip(grades, preds, strict=True)]


def test_default_ks():
    assert [default_ks(n) for n in (1, 2, 5, 8, 16)] == [[1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8], [1, 2, 4, 8, 16]]


def test_summary_by_hand():
    records = graded("a", [1, 0, 0, 0], ["1", "2", " 2", "3"], data_source="x")
    records += graded("b", [0, 0, 0, 0], ["", "2", "2", "2"], data_source="x")
    records += graded("c", [1, 1], data_source="y")
    result = summarize(records, bootstrap=True, seed=5)
    assert list(result) == ["x", "y"]
    x = {name: m["value"] for name, m in result["x"]["metrics"].items()}
    assert list(x) == ["mean@4", "pass@1", "pass@2", "pass@4", "maj@1", "maj@2", "maj@4"]
    assert [x[k] for k in ("mean@4", "pass@1", "pass@2", "pass@4", "maj@4")] == [0.125, 0.125, 0.25, 0.5, 0.0]
    assert x["maj@1"] == pytest.approx(0.125)
    assert result["x"]["problems"] == 2 and result["x"]["samples"] == [4, 4] and result["x"]["notes"] == []
    assert result["x"]["bootstrap"]["pass@4"]["mean"] == pytest.approx((1 - 0.75**4) / 2)
    y = result["y"]["metrics"]
    assert list(y) == ["mean@2", "pass@1", "pass@2"]  # no answers recorded: no majority
    assert y["pass@2"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    for metric in result["x"]["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]


def test_summary_refuses_more_than_there_is():
    with pytest.raises(ValueError, match="k=4, but a problem has only 2 samples"):
        summarize(graded("a", [1, 0, 1, 0]) + graded("b", [1, 0]), ks=[1, 4])
    with pytest.raises(ValueError, match="k=0"):
        summarize(graded("a", [1, 0]), ks=[0])
    with pytest.raises(ValueError, match="more than the 1 stated"):
        summarize(graded("a", [1, 0]), samples=1)


def test_unequal_missing_and_ungraded_samples_are_said():
    records = graded("a", [1, 1, 1, 1]) + graded("b", [1, 1]) + [Record("b", False, graded=False)]
    result = summarize(records)[UNKNOWN]
    assert result["samples"] == [3, 4] and "mean" in result["metrics"]
    assert result["metrics"]["mean"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert any("1 of 2 problems have fewer than 4" in note for note in result["notes"])
    assert any("1 samples without a grade" in note for note in result["notes"])
    filled = summarize(records, samples=4)[UNKNOWN]
    assert filled["metrics"]["mean@4"]["value"] == pytest.approx((1 + 0.5) / 2)
    assert any("1 missing samples counted as wrong" in note for note in filled["notes"])
    voted = summarize(graded("a", [1, 0], ["1", "2"]), ks=[1, 4], samples=4)[UNKNOWN]["metrics"]
    assert voted["maj@1"]["value"] == pytest.approx(0.25)  # missing samples are drawn and do not vote
    assert voted["maj@4"]["value"] == pytest.approx(0.5)


def test_greedy_validation_is_noticed(tmp_path):
    for changes, noticed in (({"output": "same"}, True), ({}, False)):
        records = read_records(write(tmp_path / "0.jsonl", dump_rows(**changes)))
        assert any("greedy" in note for note in summarize(records)[UNKNOWN]["notes"]) is noticed
    notes = summarize(graded("a", [1, 1]))[UNKNOWN]["notes"]  # no responses recorded: nothing to say
    assert not any("greedy" in note for note in notes)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6), st.randoms())
def test_order_of_samples_and_problems_does_not_matter(table, rng):
    records = [r for i, grades in enumerate(table) for r in graded(str(i), grades, [str(int(g)) for g in grades])]
    shuffled = rng.sample(records, len(records))
    first, second = summarize(records, resamples=5)[UNKNOWN], summarize(shuffled, resamples=5)[UNKNOWN]
    for name, metric in first["metrics"].items():
        assert metric["value"] == pytest.approx(second["metrics"][name]["value"], abs=1e-12)
