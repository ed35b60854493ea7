"""Which rows a file keeps, how often, and that every other one is counted under its reason."""

from data_files import card_of, made, main, math_rows, rows_of, write_jsonl


def test_one_value_in_two_spellings_is_no_conflict(tmp_path):
    pairs = [
        ("0.333333", "1/3"),
        ("34", "34.0"),
        ("34.0", "34"),
        ("1/2", "0.5"),
        (r"\frac{1}{2}", r"\dfrac12"),
        ("3", "4"),
    ]
    rows = [{"problem": f"P{i}", "answer": answer} for i, pair in enumerate(pairs) for answer in pair]
    kept, card = made(tmp_path, "limr", rows)
    assert [r["reward_model"]["ground_truth"] for r in kept] == [first for first, _ in pairs[:5]]
    assert card["dropped"] == {"conflicting_duplicate": 2, "duplicate": 5}


def test_every_row_is_kept_or_counted(tmp_path, capsys):
    rows = [
        {"problem": "a", "solution": r"\boxed{1}"},
        {"problem": " \uff41 ", "solution": r"\boxed{1}"},  # duplicate: a full-width a
        {"problem": "", "solution": r"\boxed{1}"},  # empty
        {"problem": None, "solution": r"\boxed{1}"},  # empty
        {"problem": "b", "solution": "a proof"},  # no answer
        {"problem": "c", "solution": r"\boxed{1}"},
        {"problem": "c", "solution": r"\boxed{1}"},  # duplicate, counted before the conflict shows
        {"problem": "c", "solution": r"\boxed{2}"},  # conflict: with the first it makes two
        {"problem": "c", "solution": r"\boxed{1}"},  # three
        {"problem": "d", "solution": r"\boxed{4}"},
        {"problem": "e", "solution": r"\boxed{5}"},
    ]
    for split in ("train", "test"):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    argv = ["--local_dataset_path", tmp_path, "--local_save_dir", tmp_path / "o", "--max_rows", "2"]
    assert main("math_dataset", *argv) == 0
    card = card_of(tmp_path / "o" / "train.parquet")
    assert card["dropped"] == {
        "conflicting_duplicate": 3, "duplicate": 2, "empty_problem": 2, "no_answer": 1, "not_selected": 1,
    }  # fmt: skip
    assert card["rows_in"] == 11 == card["rows_out"] + sum(card["dropped"].values())
    kept = rows_of(tmp_path / "o" / "train.parquet")
    assert [(r["extra_info"]["question"], r["extra_info"]["index"]) for r in kept] == [("a", 0), ("d", 9)]
    test = card_of(tmp_path / "o" / "test.parquet")  # a benchmark keeps its duplicates
    assert test["notes"] == {"duplicate_kept": 4} and test["dropped"] == {
        "empty_problem": 2, "no_answer": 1, "not_selected": 6,
    }  # fmt: skip
    assert "11 rows in, 3 conflicting_duplicate, 2 duplicate" in capsys.readouterr().out


def test_max_rows_takes_the_first_or_draws_by_seed(tmp_path, capsys):
    def indices(*argv):
        return [r["extra_info"]["index"] for r in made(tmp_path, "math_dataset", math_rows(50), *argv)[0]]

    assert indices("--max-rows", "5") == [0, 1, 2, 3, 4]
    drawn = indices("--max_rows", "5", "--seed", "1")
    assert drawn == indices("--max_rows", "5", "--seed", "1") == sorted(drawn)
    assert drawn != indices("--max_rows", "5", "--seed", "2")
    assert indices("--max_rows", "500") == list(range(50))
    assert main("math_dataset", "--local_dataset_path", tmp_path / "in", "--seed", "1") == 2
    assert "--max_rows" in capsys.readouterr().err


def test_prompt_options_and_repeat(tmp_path):
    for split in ("train", "test"):
        write_jsonl(tmp_path / f"{split}.jsonl", math_rows(2))
    argv = ["--local_dataset_path", tmp_path, "--local_save_dir", tmp_path / "o", "--repeat", "3"]
    assert main("math_dataset", *argv, "--prompt-suffix", "", "--system_prompt", "Be brief.") == 0
    assert len(rows_of(tmp_path / "o" / "train.parquet")) == 2  # training rows are not repeated
    rows = rows_of(tmp_path / "o" / "test.parquet")
    places = [(r["extra_info"]["index"], r["extra_info"]["repeat"]) for r in rows]
    assert places == [(i, j) for i in (0, 1) for j in range(3)]
    system, user = rows[0]["prompt"]
    assert system == {"role": "system", "content": "Be brief."} and user["content"] == "What is 0 + 0?"
    card = card_of(tmp_path / "o" / "test.parquet")
    assert (card["rows_in"], card["problems"], card["rows_out"]) == (2, 2, 6)
