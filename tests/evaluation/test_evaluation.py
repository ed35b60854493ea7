import itertools
import json
import math
import os
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.evaluation import (
    DumpError,
    Record,
    Sources,
    bootstrap_pass_at_k,
    bootstrap_score,
    confidence_interval,
    default_ks,
    maj_at_k,
    pass_at_k,
    read_records,
    summarize,
)
from frpo_verl.evaluation.cli import main
from frpo_verl.evaluation.dumps import UNKNOWN, is_correct, split_uid

# ---- estimators


def pass_by_enumeration(n, c, k):
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    return Fraction(sum(any(s) for s in subsets), len(subsets))


def maj_by_enumeration(votes, correct, k, abstain):
    samples = [answer for answer, v in enumerate(votes) for _ in range(v)] + [None] * abstain
    total, subsets = 0.0, 0
    for subset in itertools.combinations(samples, k):
        subsets += 1
        counts = {a: subset.count(a) for a in set(subset) if a is not None}
        top = [a for a, count in counts.items() if count == max(counts.values())]
        total += sum(correct[a] for a in top) / len(top) if top else 0.0
    return total / subsets


def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample():
    for n in range(1, 10):
        for c in range(n + 1):
            for k in range(1, n + 1):
                assert pass_at_k(n, c, k) == float(pass_by_enumeration(n, c, k))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_pass_at_k_is_unbiased_and_the_bootstrap_is_not(p):
    n, k = 8, 4
    chance = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    truth = 1 - (1 - p) ** k
    assert sum(w * pass_at_k(n, c, k) for c, w in enumerate(chance)) == pytest.approx(truth, abs=1e-14)
    assert sum(w * bootstrap_pass_at_k(n, c, k) for c, w in enumerate(chance)) < truth - 0.001


def test_bootstrap_bias_of_the_known_cases():
    assert bootstrap_pass_at_k(16, 1, 16) == pytest.approx(0.644, abs=5e-4) and pass_at_k(16, 1, 16) == 1.0
    assert bootstrap_pass_at_k(64, 1, 16) == pytest.approx(0.223, abs=5e-4) and pass_at_k(64, 1, 16) == 0.25


@given(st.integers(1, 200), st.data())
def test_pass_at_k_properties(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert 0.0 <= bootstrap_pass_at_k(n, c, k) <= value + 1e-15 <= 1.0 + 1e-15
    assert pass_at_k(n, c, 1) == c / n
    if c < n:
        assert value <= pass_at_k(n, c + 1, k)
    if k < n:
        assert value <= pass_at_k(n, c, k + 1)


def test_pass_at_k_with_many_samples():
    assert pass_at_k(10_000, 1, 5_000) == 0.5
    assert pass_at_k(100_000, 1, 1) == 1e-5


@pytest.mark.parametrize("n,c,k", [(0, 0, 1), (4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses(n, c, k):
    with pytest.raises(ValueError, match=r"need (n >= 1|1 <= k)"):
        pass_at_k(n, c, k)


def test_the_with_replacement_score_is_what_draws_give():
    rng = random.Random(0)
    n = [16] * 40
    c = [rng.choice([0, 0, 1, 2, 8, 16]) for _ in n]
    draws = np.random.default_rng(2)
    scores = [np.mean([(draws.integers(16, size=16) < b).any() for b in c]) for _ in range(2000)]
    mean, std = bootstrap_score(n, c, 16)
    assert mean == pytest.approx(np.mean(scores), abs=5 * std / math.sqrt(2000))
    assert std == pytest.approx(np.std(scores), rel=0.08)
    assert bootstrap_score([4], [2], 1) == (0.5, 0.5) and bootstrap_score([4, 4], [0, 4], 3) == (0.5, 0.0)


def test_maj_at_k_is_the_expected_majority_over_subsets():
    rng = random.Random(1)
    for _ in range(60):
        votes = [rng.randint(1, 4) for _ in range(rng.randint(0, 4))]
        correct = [rng.choice([0.0, 1.0, 0.5]) for _ in votes]
        abstain = rng.randint(0 if votes else 1, 2)
        n = sum(votes) + abstain
        for k in range(1, min(n, 9) + 1):
            expected = maj_by_enumeration(votes, correct, k, abstain)
            assert maj_at_k(votes, correct, k, abstain) == pytest.approx(expected, abs=1e-12)


def test_maj_at_k_by_hand():
    assert maj_at_k([3, 2], [1.0, 0.0], 5) == 1.0
    assert maj_at_k([2, 2], [1.0, 0.0], 4) == 0.5  # a tie
    assert maj_at_k([1, 3], [1.0, 0.0], 1) == pytest.approx(0.25, abs=1e-13)  # one sample: its accuracy
    assert maj_at_k([1], [1.0], 4, abstain=3) == 1.0  # who finds no answer does not vote
    assert maj_at_k([], [], 2, abstain=3) == 0.0


def test_maj_at_k_with_many_samples_stays_exact():
    # a correct answer given half of the time, all others different: from three of it no single answer can win
    n, k = 2000, 3
    hypergeometric = [math.comb(1000, j) * math.comb(1000, k - j) / math.comb(n, k) for j in range(k + 1)]
    expected = hypergeometric[3] + hypergeometric[2] + hypergeometric[1] / 3
    assert maj_at_k([1000] + [1] * 1000, [1.0] + [0.0] * 1000, k) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("args", [([0], [1.0], 1), ([1], [], 1), ([2], [1.0], 3), ([2], [1.0], 0), ([1], [1.0], 1, -1)])
def test_maj_at_k_refuses(args):
    with pytest.raises(ValueError, match="maj_at_k"):
        maj_at_k(*args)


def test_confidence_interval_is_that_of_a_mean():
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=400), np.full(400, 0.25)], axis=1)
    low, high = confidence_interval(values, 0.95, resamples=4000, seed=3)
    half = 1.96 * values[:, 0].std() / 20
    assert (low[0], high[0]) == pytest.approx((values[:, 0].mean() - half, values[:, 0].mean() + half), abs=0.15 * half)
    assert low[1] == pytest.approx(0.25) == high[1]
    again = confidence_interval(values, 0.95, resamples=4000, seed=3)
    assert np.array_equal(again[0], low) and np.array_equal(again[1], high)
    with pytest.raises(ValueError, match="shape"):
        confidence_interval(np.zeros(3))
    with pytest.raises(ValueError, match="confidence"):
        confidence_interval(np.zeros((3, 1)), confidence=95)


# ---- summary


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


# ---- files


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_split_uid():
    assert split_uid("0b6e-41_3_10") == ("0b6e-41", 3, 10) and split_uid("a_b_1_2") == ("a_b", 1, 2)
    assert [split_uid(u) for u in ("0b6e", "a_1", "a_b_c", "a_-1_2", None, 3)] == [None] * 6


@pytest.mark.parametrize(
    "value,threshold,expected",
    [
        (True, None, True), (0, None, False), (1.0, None, True), (-1.0, None, False), ([1], None, True),
        (None, None, None), (float("nan"), None, None), ("nan", None, None), ("nan", 0.5, None), ("None", None, None), (["nan"], None, None), (0.5, 0.5, True), (0.4, 0.5, False),
        ("True", None, True), ("False", None, False), ("1.0", None, True), ("0.3", 0.2, True),
    ],
)  # fmt: skip
def test_grades(value, threshold, expected):
    assert is_correct(value, threshold) is expected


@pytest.mark.parametrize(
    "value,threshold", [(0.5, None), (2, None), ("yes", None), ("", 0.5), ([1, 0], None), ({}, None)]
)
def test_grades_that_are_none_are_refused(value, threshold):
    with pytest.raises(ValueError):
        is_correct(value, threshold)


def test_plain_jsonl(tmp_path):
    rows = [
        {"id": 7, "correct": True, "data_source": "x", "pred": "1"},
        {"id": 7, "correct": 0, "data_source": "x", "pred": None},
        {"problem_id": "p", "correct": None, "data_source": "y"},
    ]
    assert read_records(write(tmp_path / "a.jsonl", rows)) == [
        Record("7", True, "x", "1"),
        Record("7", False, "x", ""),  # other lines have an answer, so this one found none
        Record("p", False, "y", "", graded=False),
    ]


def dump_rows(problems=3, samples=2, uid=True, **changes):
    rows = []
    for i, j in itertools.product(range(problems), range(samples)):
        row = {
            "input": f"user\nWhat is {i}?\nassistant\n",
            "output": f"o{j}",
            "gts": str(i),
            "score": float(i == j),
            "step": 5,
        }
        row |= {"reward": float(i == j), "acc": i == j, "pred": str(j)} | changes
        rows.append(row | ({"uid": f"uuid{i}_{j}_0"} if uid else {}))
    return rows


def test_a_dump_names_problems_by_prompt_and_ground_truth(tmp_path):
    rows = dump_rows()
    records = read_records(write(tmp_path / "5.jsonl", rows))
    assert len(records) == 6 and len({r.problem for r in records}) == 3
    assert [r.correct for r in records] == [True, False, False, True, False, False]
    assert {(r.data_source, r.step) for r in records} == {(UNKNOWN, 5)}
    # copies of a problem (--repeat) have other uids and are the same problem; so has a dump of another step
    copies = read_records(write(tmp_path / "c.jsonl", rows + [{**row, "uid": "again" + row["uid"]} for row in rows]))
    assert {r.problem for r in copies} == {r.problem for r in records} and len(copies) == 12
    legacy = read_records(write(tmp_path / "l.jsonl", dump_rows(uid=False)))
    assert [(r.problem, r.correct) for r in legacy] == [(r.problem, r.correct) for r in records]


def test_only_the_last_output_of_a_session_counts(tmp_path):
    first = {"input": "Q", "output": "call", "gts": "1", "score": 1.0, "step": 1}
    later = {**first, "input": "Q call result", "output": "done"}
    rows = [
        {**first, "uid": "u_0_0"}, {**later, "uid": "u_0_10"}, {**later, "uid": "u_0_9"},
        {**first, "uid": "u_1_0", "score": 0.0},
    ]  # fmt: skip
    records = read_records(write(tmp_path / "1.jsonl", rows))
    assert [r.correct for r in records] == [True, False] and len({r.problem for r in records}) == 1


def test_score_is_used_without_acc_and_needs_a_threshold_unless_it_is_binary(tmp_path):
    rows = [{"input": "Q", "gts": "1", "score": s, "step": 0} for s in (1.0, -1.0, 0.3)]
    assert [r.correct for r in read_records(write(tmp_path / "a.jsonl", rows[:2]))] == [True, False]
    path = write(tmp_path / "b.jsonl", rows)
    with pytest.raises(DumpError, match=r"line 3: score=0.3; allowed: 0, 1 or -1; --threshold"):
        read_records(path)
    assert [r.correct for r in read_records(path, threshold=0.3)] == [True, False, True]
    with pytest.raises(DumpError, match="no line has acc"):
        read_records(path, correct_key="acc")


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "no sample"),
        (b'{"id": 1, "correct": 1}\n{"id": 1, "cor', "line 2: not JSON"),
        (b"[]\n", "line 1: expected an object"),
        (b'{"correct": 1}\n', "line 1: no problem"),
        (b'{"id": 1}\n', "no grade"),
        (b'{"id": 1, "correct": "yes"}\n', "line 1: correct='yes'"),
        (b"\xff\n", "cannot read"),
    ],
)
def test_bad_files_are_one_line(tmp_path, capsys, content, message):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    assert main([str(path), "--json", str(tmp_path / "out.json")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert [p.name for p in tmp_path.iterdir()] == ["bad.jsonl"]


def parquet(path, source, contents, start=0):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "data_source": source,
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": content}],
            "reward_model": {"style": "rule", "ground_truth": answer},
            "extra_info": {"split": "test", "index": i, "id": f"{source}-{i}"},
        }
        for i, (content, answer) in enumerate(contents, start)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_data_files_name_the_sources_of_a_dump(tmp_path):
    files = [
        parquet(tmp_path / "a.parquet", "a", [("What is 0?", "0"), ("What is 1?", "1"), ("Unasked", "9")]),
        parquet(tmp_path / "b.parquet", "b", [("What is  2?", "2"), ("is 2?", "2"), ("What is 2?", "3")]),
    ]
    rows = dump_rows() + dump_rows(1, 2, uid=False, gts="77")
    path = write(tmp_path / "5.jsonl", rows)
    records = read_records(path, sources=Sources(files))
    named = [(r.data_source, r.problem) for r in records[::2]]
    assert named[:3] == [("a", "a-0"), ("a", "a-1"), ("b", "b-0")]
    assert named[3][0] == UNKNOWN  # same prompt, another ground truth: not that problem
    out = tmp_path / "out.json"
    assert main([str(path), "--data", *map(str, files), "--json", str(out)]) == 0
    results = json.loads(out.read_text())["reports"][0]["results"]
    assert set(results) == {"a", "b", UNKNOWN}
    assert results["a"]["notes"] == ["1 problems of the --data files have no sample and are not counted"]
    assert "these problems are pooled" in results[UNKNOWN]["notes"][0]
    with pytest.raises(DumpError, match="--data"):
        Sources([tmp_path / "none.parquet"])


@pytest.mark.parametrize(
    "asked, dumped",
    [
        ("How many cafe\u0301s ?", "user How many caf\u00e9s ?"),
        ("3 , 4 and 5 .", "user 3, 4 and 5. assistant"),
        ("a\n b ", "a b"),
    ],
    ids=["normalised", "spaces before a stop", "trimmed"],
)
def test_a_prompt_is_found_behind_a_tokenizer_and_a_template(tmp_path, asked, dumped):
    """Qwen's tokenizers normalise, others decode without the space before a full stop, templates trim."""
    assert Sources([parquet(tmp_path / "a.parquet", "a", [(asked, "1")])]).find(dumped, "1") == ("a", "a-0")


def test_problems_without_an_index_stay_apart(tmp_path):
    """A column `index` that is there and empty: rows are told apart by where they stand."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"data_source": "s", "prompt": [{"role": "user", "content": c}], "reward_model": {"ground_truth": "1"},
         "extra_info": {"index": None, "split": "test"}}
        for c in ("how much is q", "how much is r")
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mine.parquet")
    found = Sources([tmp_path / "mine.parquet"])
    assert found.problems == {"s": {"mine/0", "mine/1"}}
    assert found.find("user how much is r", "1") == ("s", "mine/1")
    pq.write_table(pa.Table.from_pylist([{**rows[0], "prompt": "text"}]), tmp_path / "text.parquet")
    with pytest.raises(DumpError, match="text.parquet, row 0: its prompt is not a list of messages"):
        Sources([tmp_path / "text.parquet"])
    dump = tmp_path / "1.jsonl"
    dump.write_text('{"input": 3, "gts": "1", "acc": true}\n')
    with pytest.raises(DumpError, match="line 1: input is no text"):
        read_records(dump, sources=found)
    dump.write_text('{"input": "a", "gts": "1", "acc": true, "step": NaN}\n')
    assert read_records(dump)[0].step is None
    dump.write_text("[" * 100_000 + "\n")
    with pytest.raises(DumpError, match="line 1: not JSON"):
        read_records(dump)


@pytest.mark.parametrize("trainer", ["v1", "legacy"])
def test_what_verl_writes_is_read(tmp_path, trainer):
    if trainer == "v1":
        from verl.trainer.ppo.v1.trainer_base import PPOTrainer as Trainer
    else:
        from verl.trainer.ppo.ray_trainer import RayPPOTrainer as Trainer
    inputs = [f"user\nQ{i}\nassistant\n" for i in (0, 0, 1, 1)]
    info = {
        "reward": [1.0, 0.0, 0.0, 0.0],
        "acc": [np.float64(1.0), np.bool_(False), 0, None],
        "pred": ["3", "", "é\u2028", None],
        "verify_timeout": [0, 0, 1, None],
        "uid": ["k-0_0_0", "k-0_1_0", "k-1_0_0", "k-1_1_0"],
    }
    Trainer._write_generations(inputs, ["o"] * 4, ["3", "3", "4", "4"], [1.0, 0.0, 0.0, 0.0], info, tmp_path, 20)
    records = read_records(tmp_path / "20.jsonl")
    assert [(r.correct, r.graded, r.pred, r.step) for r in records] == [
        (True, True, "3", 20),
        (False, True, "", 20),
        (False, True, "é\u2028", 20),
        (False, False, "", 20),
    ]
    assert records[0].problem == records[1].problem != records[2].problem == records[3].problem


# ---- command line


def test_a_folder_gives_a_report_a_step(tmp_path, capsys):
    for step in (100, 0, 20):
        write(tmp_path / "val" / f"{step}.jsonl", dump_rows(step=step))
    out = tmp_path / "new" / "out.json"
    assert main([str(tmp_path / "val"), "--json", str(out), "--k", "1, 2", "--bootstrap"]) == 0
    text = capsys.readouterr().out
    assert "33.3 [" in text and "biased low" in text
    content = json.loads(out.read_text())
    assert [r["step"] for r in content["reports"]] == [0, 20, 100]
    assert content["settings"]["k"] == [1, 2] and content["settings"]["bootstrap"] is True
    result = content["reports"][0]["results"][UNKNOWN]
    assert result["metrics"]["pass@2"]["value"] == pytest.approx(2 / 3)
    assert set(result["bootstrap"]) == {"pass@1", "pass@2"}
    assert sorted(os.listdir(out.parent)) == ["out.json"]


def test_json_to_standard_output_is_nothing_but_json(tmp_path, capsys):
    path = write(tmp_path / "a.jsonl", [{"id": 1, "correct": 1}, {"id": 1, "correct": 0}])
    assert main([str(path), "--json", "-", "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert json.loads(first)["reports"][0]["results"][UNKNOWN]["metrics"]["pass@2"]["value"] == 1.0
    assert main([str(path), "--json", "-", "--seed", "3"]) == 0 and capsys.readouterr().out == first


def test_merge_pools_files_of_one_policy(tmp_path, capsys):
    paths = [str(write(tmp_path / f"{i}.jsonl", [{"id": 1, "correct": i}])) for i in (0, 1)]
    assert main([*paths, "--merge", "--json", "-"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["results"][UNKNOWN]["samples"] == [2, 2]
    steps = [str(write(tmp_path / f"s{i}.jsonl", dump_rows(step=i))) for i in (0, 1)]
    assert main([*steps, "--merge"]) == 2 and "different policies" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--k", "3"], ["--samples", "1"], ["--json", "{dir}"]])
def test_what_cannot_be_done_is_refused(tmp_path, capsys, argv):
    path = write(tmp_path / "a.jsonl", [{"id": 1, "correct": 1}, {"id": 1, "correct": 0}])
    assert main([str(path), *(a.format(dir=tmp_path) for a in argv)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_missing_files_and_bad_options(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2 and "no such file" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2 and "no .jsonl file" in capsys.readouterr().err
    for argv in (["--k", "0"], ["--k", "a"], ["--confidence", "95"], ["--samples", "-1"], ["--sample", "3"]):
        with pytest.raises(SystemExit) as stop:
            main([str(tmp_path), *argv])
        assert stop.value.code == 2


def test_importing_the_package_imports_neither_torch_nor_pyarrow():
    import subprocess
    import sys

    code = (
        "import sys, frpo_verl.evaluation.cli\n"
        "found = [m for m in ('torch', 'verl', 'pyarrow', 'rich') if m in sys.modules]\n"
        "sys.exit(str(found) if found else 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
