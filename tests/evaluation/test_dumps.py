"""Files of samples: verl's dumps, plain lines, what names their sources."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import write_jsonl as write
from small_runs import dump_rows

from frpo_verl.evaluation import DumpError, Record, Sources, read_records
from frpo_verl.evaluation.cli import main
from frpo_verl.evaluation.dumps import UNKNOWN, is_correct, split_uid


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
        (b"[" * 100_000 + b"\n", "line 1: not JSON"),
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


def parquet(path, source, contents, **changes):
    """Rows of verl's form: (question, answer) each; `changes` are columns of all rows."""
    rows = [
        {
            "data_source": source,
            "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": content}],
            "reward_model": {"style": "rule", "ground_truth": answer},
            "extra_info": {"split": "test", "index": i, "id": f"{source}-{i}"},
            **changes,
        }
        for i, (content, answer) in enumerate(contents)
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
    questions = [("how much is q", "1"), ("how much is r", "1")]
    found = Sources([parquet(tmp_path / "mine.parquet", "s", questions, extra_info={"index": None, "split": "test"})])
    assert found.problems == {"s": {"mine/0", "mine/1"}}
    assert found.find("user how much is r", "1") == ("s", "mine/1")


def test_what_data_files_cannot_name(tmp_path):
    with pytest.raises(DumpError, match="text.parquet, row 0: its prompt is not a list of messages"):
        Sources([parquet(tmp_path / "text.parquet", "s", [("q", "1")], prompt="text")])
    found = Sources([parquet(tmp_path / "mine.parquet", "s", [("q", "1")])])
    with pytest.raises(DumpError, match="line 1: input is no text"):
        read_records(write(tmp_path / "1.jsonl", [{"input": 3, "gts": "1", "acc": True}]), sources=found)


def test_a_step_that_is_no_number_is_none(tmp_path):
    rows = [{"input": "a", "gts": "1", "acc": True, "step": float("nan")}]
    assert read_records(write(tmp_path / "1.jsonl", rows))[0].step is None


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
