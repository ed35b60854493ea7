"""The generated problems: right, in their level's range, repeatable, train and test apart."""

import json
import random
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from frpo_verl.quickstart import arithmetic

ROOT = Path(__file__).resolve().parents[2]


def test_solution_is_the_sum_written_out():
    problem = arithmetic.Problem((47, 8, 5, 9), level=3)
    assert problem.question == "47+8+5+9="
    assert problem.solution == "55\n60\n#### 69"
    assert problem.answer == "69"
    assert arithmetic.Problem((10, 20), level=1).solution == "#### 30"
    assert arithmetic.from_question("47+8+5+9=", 3) == problem


@pytest.mark.parametrize("question", ["", "=", "1+2", "1-2=", "1++2=", "a+b="])
def test_from_question_refuses_what_is_no_sum(question):
    with pytest.raises(ValueError, match="question="):
        arithmetic.from_question(question)


@pytest.mark.parametrize("level", arithmetic.LEVELS)
def test_levels(level):
    added, largest = arithmetic.LEVELS[level]
    problems = arithmetic.sample_distinct("any", 500, [level], seed=3)
    seen = set()
    for problem in problems:
        first, *rest = problem.terms
        assert problem.level == level and 10 <= first <= 99 and len(rest) == added
        assert all(1 <= term <= largest for term in rest)
        seen.update(rest)
        lines = problem.solution.split("\n")
        total = first
        for term, line in zip(rest, lines, strict=True):
            total += term
            assert line.removeprefix("#### ") == str(total)
        assert lines[-1].startswith("#### ") and sum("####" in line for line in lines) == 1
        assert len(problem.solution) + 1 <= 21  # what the module's first lines promise, with the end marker
    assert {1, largest} <= seen
    assert len({p.key for p in problems}) == 500


def test_splits_do_not_overlap_in_any_order_of_the_terms():
    splits = arithmetic.make_splits(train_size=600, test_size=90)
    train, test = ({tuple(sorted(p.terms)) for p in splits[name]} for name in ("train", "test"))
    assert len(train) == 600 and len(test) == 90 and not train & test
    assert Counter(p.level for p in splits["test"]) == {1: 30, 2: 30, 3: 30}


def test_the_seed_decides():
    same = arithmetic.make_splits(50, 20, seed=1), arithmetic.make_splits(50, 20, seed=1)
    assert same[0] == same[1]
    assert arithmetic.make_splits(50, 20, seed=2)["test"] != same[0]["test"]
    larger = arithmetic.make_splits(80, 20, seed=1)
    assert larger["test"] == same[0]["test"] and larger["train"][:50] == same[0]["train"]


def test_the_same_in_another_process():
    """The draw must not depend on Python's hash seed."""
    code = "from frpo_verl.quickstart import arithmetic as a; print([p.question for p in a.make_splits(9, 9)['train']])"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {str([p.question for p in arithmetic.make_splits(9, 9)["train"]]) + "\n"}


def test_stream_never_gives_what_is_excluded():
    exclude = {p.key for p in arithmetic.sample_distinct("test", 1500, [1], seed=0)}
    drawn = list(islice(arithmetic.stream(0, [1], exclude), 2000))
    assert not exclude & {p.key for p in drawn}
    assert [p.level for p in islice(arithmetic.stream(0, [3, 1, 2]), 6)] == [1, 2, 3, 1, 2, 3]


def test_wrong_arguments_say_what_to_do():
    for levels in ([], [0], [1, 99]):
        with pytest.raises(ValueError, match=r"levels=\[.*give one or more of \[1, 2, 3, 4, 5\]"):
            arithmetic.make_splits(4, 4, levels)
    with pytest.raises(ValueError, match="size=-1"):
        arithmetic.make_splits(-1, 4)
    with pytest.raises(ValueError, match="level 1 has too few"):
        arithmetic.make_splits(5000, 4, [1])


def test_draw_uses_the_given_generator_only():
    state = random.getstate()
    arithmetic.make_splits(20, 20)
    assert random.getstate() == state


# ---- data_preprocess/arithmetic.py


def script(*args):
    return subprocess.run(
        [sys.executable, str(ROOT / "data_preprocess" / "arithmetic.py"), *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT / "tests",  # it must find the package from anywhere
    )


def test_script_writes_verls_rows(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    done = script("--local_save_dir", tmp_path, "--train_size", 30, "--test_size", 8, "--levels", 2, 3, "--seed", 5)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} == {
        "train.parquet",
        "train.card.json",
        "test.parquet",
        "test.card.json",
    }
    splits = arithmetic.make_splits(30, 8, [2, 3], seed=5)
    for name, problems in splits.items():
        rows = pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
        assert len(rows) == len(problems)
        for i, (row, problem) in enumerate(zip(rows, problems, strict=True)):
            assert row["data_source"] == "arithmetic" and row["ability"] == "math"
            assert row["prompt"] == [{"role": "user", "content": problem.question}]
            assert row["reward_model"] == {"style": "rule", "ground_truth": problem.answer}
            extra = row["extra_info"]
            assert (extra["split"], extra["index"], extra["level"]) == (name, i, str(problem.level))
            assert extra["question"] == problem.question and extra["answer"] == problem.solution
        card = json.loads((tmp_path / f"{name}.card.json").read_text())
        assert card["rows_out"] == len(problems)
        assert card["problems_by_level"] == {"2": len(problems) // 2, "3": len(problems) // 2}


def test_script_errors_are_one_line(tmp_path):
    for args, hint in ((["--levels", 9], "levels=[9]"), (["--levels", 1, "--train_size", 9999], "too few distinct")):
        done = script("--local_save_dir", tmp_path / "out", *args)
        assert done.returncode == 2 and hint in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_reward_reads_the_written_out_answer():
    from frpo_verl.rewards.math import compute_score

    for problem in arithmetic.sample_distinct("reward", 20, arithmetic.LEVELS, seed=0):
        right = compute_score(arithmetic.DATA_SOURCE, problem.solution, problem.answer)
        wrong = compute_score(arithmetic.DATA_SOURCE, problem.solution + "1", problem.answer)
        assert (right["score"], wrong["score"]) == (1.0, 0.0)
        assert right["acc"] and not wrong["acc"] and right["pred"] == problem.answer
