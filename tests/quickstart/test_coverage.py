"""The set `coverage`: its ways are drawn by a hash, and its reward reads the way."""

import json
from collections import Counter

import numpy as np
import pytest

from frpo_verl.data.cli import main
from frpo_verl.quickstart import coverage, three_ways
from frpo_verl.quickstart.coverage import SHARES


def test_the_way_is_a_function_of_terms_shares_and_seed():
    problems = three_ways.sample_distinct("x", 2000, 0)
    ways = [coverage.accepted_way(p.key) for p in problems]
    for way, share in zip("ABC", SHARES, strict=True):
        assert abs(Counter(ways)[way] / 2000 - share) < 4 * (share * (1 - share) / 2000) ** 0.5
    assert ways == [coverage.accepted_way(tuple(sorted(p.terms[::-1]))) for p in problems]  # in any order
    other = [coverage.accepted_way(p.key, seed=1) for p in problems]
    chance = sum(s * s for s in SHARES)
    assert abs(np.mean([a == b for a, b in zip(ways, other, strict=True)]) - chance) < 0.05  # another key, other ways
    assert {coverage.accepted_way(p.key, (0, 1, 0)) for p in problems} == {"B"}


def test_the_reward_wants_the_right_sum_in_the_accepted_way():
    extra = {"question": "0132+4201="}
    score = {
        w: coverage.compute_score("coverage", three_ways.Problem((2310, 1024)).written(w), "B3334", extra)
        for w in "ABC"
    }
    assert [score[w]["score"] for w in "ABC"] == [0.0, 1.0, 0.0] and [score[w]["right_sum"] for w in "ABC"] == [1.0] * 3
    assert score["B"]["acc"] is True and score["C"]["acc"] is False
    assert [score[w]["pred"] for w in "ABC"] == ["A3334", "B3334", "C3334"]
    wrong = coverage.compute_score("coverage", "B0132,4201,4334", "B3334", extra)
    assert (wrong["score"], wrong["right_sum"], wrong["way_B"]) == (0.0, 0.0, 1.0)
    assert coverage.compute_score("coverage", "", "B3334", extra)["pred"] == ""


def test_the_command_writes_rows_that_verl_reads(tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet")
    options = ["--train_size", "60", "--test_size", "20", "--seed", "3", "--shares", "0.5", "0.25", "0.25"]
    assert main(["coverage", "--local_save_dir", str(tmp_path), *options]) == 0
    for split, problems in coverage.make_splits(60, 20, (0.5, 0.25, 0.25), 3).items():
        rows = pq.read_table(tmp_path / f"{split}.parquet").to_pylist()
        assert [r["reward_model"]["ground_truth"] for r in rows] == [p.answer for p in problems]
        for row in rows:
            extra, truth = row["extra_info"], row["reward_model"]["ground_truth"]
            assert row["data_source"] == "coverage" and truth[0] not in row["prompt"][0]["content"]
            assert coverage.compute_score("coverage", extra["answer"], truth, extra)["score"] == 1.0
        assert json.loads((tmp_path / f"{split}.card.json").read_text())["options"]["shares"] == [0.5, 0.25, 0.25]
    assert main(["coverage", "--local_save_dir", str(tmp_path / "x"), "--shares", "0.5", "0.5", "0.5"]) == 2
    assert "--shares 0.5 0.5 0.5: give 3 shares that add up to 1" in capsys.readouterr().err
