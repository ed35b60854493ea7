"""The generated sums: right in every way, repeatable, train and test apart, and a reward that reads only the three ways."""

import json
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from frpo_verl.data.cli import main
from frpo_verl.quickstart import three_ways
from frpo_verl.quickstart.three_ways import WAYS, Habits, Problem

ROOT = Path(__file__).resolve().parents[2]


def test_a_sum_in_three_ways():
    problem = Problem((2310, 1024))
    assert problem.question == "0132+4201=" and problem.answer == "3334"
    assert [problem.written(way) for way in WAYS] == ["A4333", "B0132,4201,4333", "C044,123,303,213"]
    assert three_ways.from_question("0132+4201=") == problem
    assert [len(problem.written(way)) + 1 for way in WAYS] == [6, 16, 17]
    three = Problem((12, 3, 200), digits=3)
    assert [three.written(way) for way in WAYS] == ["A512", "B210,300,002,512", "C2305,1001,0022"]


def test_a_marked_answer_is_read_by_the_recipes_reward():
    from frpo_verl.rewards.math import compute_score

    problem = Problem((2310, 1024))
    for way in WAYS:
        text = three_ways.marked(problem.written(way))
        assert text == f"{problem.written(way)}\n#### 4333"
        assert compute_score("math_dapo", text, problem.sum_digits)["acc"] == 1.0
        assert compute_score("math_dapo", three_ways.marked(problem.written(way, "4334")), "4333")["acc"] == 0.0


@pytest.mark.parametrize("digits, terms", [(4, 2), (2, 3), (6, 3), (1, 9)])
def test_every_way_is_read_back(digits, terms):
    for problem in islice(three_ways.stream(3, digits=digits, terms=terms), 200):
        assert all(0 <= int(d) <= 9 // terms for d in problem.question if d.isdigit())
        for way in WAYS:
            text = problem.written(way)
            assert three_ways.read_sum(text, digits, terms) == sum(problem.terms)


@pytest.mark.parametrize(
    "text",
    [
        "", "A", "D4333", "A433", "A43333", "A4333 ", "a4333", "B4333", "C4333", "B0132,4201", "A433x", "Add33",
        "C044,1d3,303,213", "A٤333", "C044,123,303",
    ],
)  # fmt: skip
def test_other_forms_state_no_sum(text):
    assert three_ways.read_sum(text, 4) is None


@pytest.mark.parametrize("question", ["", "=", "11+22", "11-22=", "11++22=", "1+22=", "a1+22="])
def test_from_question_refuses_what_is_no_sum(question):
    with pytest.raises(ValueError, match="question="):
        three_ways.from_question(question)


@pytest.mark.parametrize("way", WAYS)
def test_slips_change_digits_of_the_sum_only(way):
    rng, problem, habits = random.Random(0), Problem((2310, 1024)), Habits()
    texts = [problem.with_slips(way, rng, habits.slip(way, 4)) for _ in range(2000)]
    wrong = [text for text in texts if text != problem.written(way)]
    expected = habits.success[WAYS.index(way)]
    assert abs(1 - len(wrong) / 2000 - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5
    places = set()
    for text in wrong:
        digits = three_ways.spell(three_ways.read_sum(text, 4), 4)
        assert problem.written(way, digits) == text  # what the way copies is as it was
        places |= {i for i in range(4) if digits[i] != "4333"[i]}
    assert places == {0, 1, 2, 3}
    assert problem.with_slips(way, rng, 0.0) == problem.written(way)


def test_splits_do_not_overlap_in_any_order_of_the_terms():
    splits = three_ways.make_splits(train_size=600, test_size=90)
    train, test = ({tuple(sorted(p.terms)) for p in splits[name]} for name in ("train", "test"))
    assert len(train) == 600 and len(test) == 90 and not train & test


def test_the_seed_decides():
    same = three_ways.make_splits(50, 20, seed=1), three_ways.make_splits(50, 20, seed=1)
    assert same[0] == same[1]
    assert three_ways.make_splits(50, 20, seed=2)["test"] != same[0]["test"]
    larger = three_ways.make_splits(80, 20, seed=1)
    assert larger["test"] == same[0]["test"] and larger["train"][:50] == same[0]["train"]


def test_the_same_in_another_process():
    """The draw must not depend on Python's hash seed."""
    code = "from frpo_verl.quickstart import three_ways as w; print([p.question for p in w.make_splits(9, 9)['train']])"
    env = {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    assert done.stdout == str([p.question for p in three_ways.make_splits(9, 9)["train"]]) + "\n"


def test_stream_never_gives_what_is_excluded():
    exclude = {p.key for p in three_ways.sample_distinct("test", 200, seed=0, digits=2)}
    assert not exclude & {p.key for p in islice(three_ways.stream(0, exclude, digits=2), 2000)}


def test_wrong_arguments_say_what_to_do():
    with pytest.raises(ValueError, match="size=-1"):
        three_ways.make_splits(-1, 4)
    with pytest.raises(ValueError, match="too few distinct sums left after 15"):
        three_ways.make_splits(16, 0, digits=1)


@pytest.mark.parametrize(
    "text, score, pred",
    [
        ("C044,123,303,213", 1.0, "3334"),
        ("B9999,4201,4333", 1.0, "3334"),  # a wrong copy does not matter
        ("C994,113,303,213", 1.0, "3334"),
        ("A4334", 0.0, "4334"),  # a wrong sum does
        ("B0132,4201,4334", 0.0, "4334"),
        ("A3334", 0.0, "4333"),
        ("3334", 0.0, ""),
    ],
)
def test_the_reward_says_which_way_was_taken(text, score, pred):
    found = three_ways.compute_score("three_ways", text, "3334", {"question": "0132+4201="})
    ways = {f"way_{way}": float(text[0] == way) for way in WAYS}
    assert found == {"score": score, "acc": bool(score), "pred": pred, **ways}


def test_rows_of_another_set_are_refused():
    with pytest.raises(ValueError, match="extra_info has no question"):
        three_ways.compute_score("three_ways", "A4333", "3334")


def script(*args):
    command = [sys.executable, str(ROOT / "data_preprocess" / "three_ways.py"), *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT / "tests"
    )  # it finds the package from anywhere


def test_script_writes_verls_rows(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    done = script("--local_save_dir", tmp_path, "--train_size", 30, "--test_size", 8, "--digits", 3, "--seed", 5)
    assert done.returncode == 0, done.stderr
    names = {"train.parquet", "test.parquet", "train.card.json", "test.card.json"}
    assert {p.name for p in tmp_path.iterdir()} == names
    for name, problems in three_ways.make_splits(30, 8, digits=3, seed=5).items():
        rows = pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
        assert len(rows) == len(problems) == json.loads((tmp_path / f"{name}.card.json").read_text())["rows_out"]
        for i, (row, problem) in enumerate(zip(rows, problems, strict=True)):
            assert row["data_source"] == "three_ways" and row["ability"] == "math"
            assert row["prompt"] == [{"role": "user", "content": problem.question}]
            assert row["reward_model"] == {"style": "rule", "ground_truth": problem.answer}
            extra = row["extra_info"]
            assert (extra["split"], extra["index"], extra["question"]) == (name, i, problem.question)
            score = three_ways.compute_score("three_ways", extra["answer"], problem.answer, extra)
            assert score["score"] == 1.0


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    for args, hint in ((["--terms", "10"], "--terms 10"), (["--digits", "1"], "too few distinct")):
        assert main(["three_ways", "--local_save_dir", str(tmp_path / "out"), *args]) == 2
        error = capsys.readouterr().err
        assert hint in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
