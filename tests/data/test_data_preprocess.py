import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import card_of, main, math_rows, refused, rows_of, write_jsonl

from frpo_verl.data import cli
from frpo_verl.data.examples import InputError
from frpo_verl.data.sets import SETS
from frpo_verl.data.writing import PROMPT_SUFFIX, SCHEMA, make_row, sha256, write_files

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "data_preprocess"
GSM8K = {"question": "How much?", "answer": "1,000 <<1*1>>\n#### 1,234"}
NAMES = [
    "gsm8k", "math_dataset", "math500", "dapo_math_17k", "numina_math_cot", "limr", "open_rs",
    "aime24", "aime25", "amc23", "olympiad_bench", "minerva_math",
]  # fmt: skip


def test_no_script_hides_a_module_of_the_standard_library():
    assert not {p.stem for p in SCRIPTS.glob("*.py")} & set(sys.stdlib_module_names)


def test_the_script_is_the_command_from_any_folder(tmp_path, capsys):
    write_jsonl(tmp_path / "train.jsonl", [GSM8K])
    command = [sys.executable, SCRIPTS / "gsm8k.py", "--local-dataset-path", ".", "--local-save-dir", "script"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 rows in, 1 rows out" in done.stdout and "no file for split 'test'" in done.stderr
    assert main("gsm8k", "--local_dataset_path", tmp_path, "--local_save_dir", tmp_path / "command") == 0
    for file in ("train.parquet", "train.card.json"):
        assert (tmp_path / "command" / file).read_bytes() == (tmp_path / "script" / file).read_bytes()
    assert refused(capsys, "gsm8k", "--local_dataset_path", "nowhere").startswith("gsm8k: error: ")


def test_names(capsys):
    assert set(SETS) == set(NAMES)
    assert len({d.name for d in SETS.values()}) == len({d.data_source for d in SETS.values()}) == len(NAMES)
    others = {"coverage", "preference", "three_ways"}
    assert {p.stem for p in SCRIPTS.glob("[!_]*.py")} == set(cli.COMMANDS) == {*NAMES, *others}
    assert cli.main(["gms8k"]) == 2 and "did you mean 'gsm8k'" in capsys.readouterr().err
    assert cli.main([]) == 2 and cli.main(["--help"]) == 0 and "limr" in capsys.readouterr().out


def test_every_local_form_gives_the_same_file(tmp_path):
    import datasets

    rows = math_rows()
    table = pa.Table.from_pylist(rows)
    write_jsonl(tmp_path / "jsonl" / "train.jsonl", rows)
    for form in ("json", "keyed", "misnamed", "parquet", "stream", "file", "shards", "prefixed"):
        (tmp_path / form).mkdir()
    (tmp_path / "json" / "train.json").write_text(json.dumps(rows))
    (tmp_path / "keyed" / "train.json").write_text(json.dumps({"version": 1, "data": rows}))
    write_jsonl(tmp_path / "misnamed" / "train.json", rows)
    write_jsonl(tmp_path / "prefixed" / "MATH-train.jsonl", rows)
    pq.write_table(table, tmp_path / "parquet" / "train.parquet")
    pq.write_table(table.slice(0, 7), tmp_path / "shards" / "train-00000-of-00002.parquet")
    pq.write_table(table.slice(7), tmp_path / "shards" / "train-00001-of-00002.parquet")
    with pa.ipc.new_stream(tmp_path / "stream" / "train.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=6)
    with pa.ipc.new_file(tmp_path / "file" / "train.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=6)
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "saved")
    written = {}
    for form in ("jsonl", "json", "keyed", "misnamed", "prefixed", "parquet", "shards", "stream", "file", "saved"):
        out = tmp_path / "out" / form
        assert main("math_dataset", "--local_dataset_path", tmp_path / form, "--local_save_dir", out) == 0, form
        written[form] = (out / "train.parquet").read_bytes()
        assert card_of(out / "train.parquet")["rows_in"] == 20
    assert set(written.values()) == {written["jsonl"]}


def test_one_file_names_its_split_or_is_asked_for_it(tmp_path, capsys):
    out = ["--local_save_dir", tmp_path / "out"]
    named = write_jsonl(tmp_path / "my_test.jsonl", math_rows(2))
    unnamed = write_jsonl(tmp_path / "rows.jsonl", math_rows(2))
    assert main("math_dataset", "--local_dataset_path", named, *out) == 0
    assert (tmp_path / "out" / "test.parquet").exists()
    assert main("math_dataset", "--local_dataset_path", unnamed, *out) == 2
    assert "--split" in capsys.readouterr().err
    assert main("math_dataset", "--local_dataset_path", unnamed, "--split", "train", *out) == 0
    assert (tmp_path / "out" / "train.parquet").exists()


def test_a_folder_of_benchmarks_and_a_chosen_configuration(tmp_path):
    write_jsonl(tmp_path / "eval" / "aime24.jsonl", [{"problem": "A", "answer": 1}])
    write_jsonl(tmp_path / "eval" / "amc23.jsonl", [{"problem": "B", "answer": 2}])
    assert main("amc23", "--local_dataset_path", tmp_path / "eval", "--local_save_dir", tmp_path / "o") == 0
    assert rows_of(tmp_path / "o" / "test.parquet")[0]["extra_info"]["question"] == "B"
    write_jsonl(tmp_path / "g" / "main" / "train-00000-of-00001.jsonl", [{"question": "M", "answer": "#### 1"}])
    write_jsonl(tmp_path / "g" / "socratic" / "train-00000-of-00001.jsonl", [{"question": "S", "answer": "#### 1"}])
    assert main("gsm8k", "--local_dataset_path", tmp_path / "g", "--local_save_dir", tmp_path / "o") == 0
    assert [r["extra_info"]["question"] for r in rows_of(tmp_path / "o" / "train.parquet")] == ["M"]


def test_output_in_the_source_folder_is_not_read_as_source(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", math_rows(3))
    for _ in range(2):
        assert main("math_dataset", "--local_dataset_path", tmp_path, "--local_save_dir", tmp_path) == 0


def test_a_row_that_cannot_be_read_is_named(tmp_path, capsys):
    """Neither the text of an object nor half a character gets into a file; nothing is written then."""
    good = {"problem": "a", "answer": "1"}
    half = "question has half a surrogate pair ('\\ud83d') at character 5"
    for bad, words in (
        ({"problem": {"a": 1, "b": 2}, "answer": "1"}, "problem={'a': 1, 'b': 2}: no text"),
        ({"problem": "half \ud83d of it", "answer": "1"}, half),
        ({"problem": "p", "answer": "1", "solution": "\ude00"}, "solution has half a surrogate pair"),
    ):
        source = write_jsonl(tmp_path / "test.jsonl", [good, good, bad])
        error = refused(capsys, "math500", "--local_dataset_path", source, "--local_save_dir", tmp_path / "o")
        assert f"split 'test', row 2: {words}" in error and not (tmp_path / "o").exists()
    pair = {"prompt": "p", "chosen": "\ud83d", "rejected": "b"}
    source = write_jsonl(tmp_path / "pairs.jsonl", [{**pair, "chosen": "a"}, pair])
    error = refused(capsys, "preference", "--local_dataset_path", source, "--local_save_dir", tmp_path / "o")
    assert "row 1: chosen has half a surrogate pair" in error


def test_card_and_the_old_name_of_the_save_dir(tmp_path, capsys):
    source = write_jsonl(tmp_path / "train.jsonl", math_rows(3))
    assert main("math_dataset", "--local_dataset_path", source, "--local_dir", tmp_path / "o") == 0
    assert "old name" in capsys.readouterr().err
    card = card_of(tmp_path / "o" / "train.parquet")
    assert card["sha256"] == sha256(tmp_path / "o" / "train.parquet")
    assert card["source"] == {"kind": "local", "files": [{"name": "train.jsonl", "sha256": sha256(source)}]}
    assert card["options"]["prompt_suffix"] == PROMPT_SUFFIX


def test_hub_is_asked_for_the_right_thing_and_its_failure_is_one_line(tmp_path, monkeypatch, capsys):
    import datasets

    asked = []

    def load_dataset(path, name=None, split=None):
        asked.append((path, name, split))
        return datasets.Dataset.from_list([{"question": "Q", "final_answer": ["1"], "answer": "#### 1"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for name in ("gsm8k", "olympiad_bench"):
        assert main(name, "--local_save_dir", tmp_path / name) == 0
    assert asked == [
        ("openai/gsm8k", "main", "train"), ("openai/gsm8k", "main", "test"),
        ("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"),
    ]  # fmt: skip
    source = card_of(tmp_path / "gsm8k" / "test.parquet")["source"]
    assert (source["kind"], source["repository"], source["config"], source["split"]) == (
        "hub", "openai/gsm8k", "main", "test",
    )  # fmt: skip

    def unreachable(*args, **kwargs):
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    error = refused(capsys, "aime25", "--local_save_dir", tmp_path / "a")
    assert "--local_dataset_path" in error and "no route" in error and not (tmp_path / "a").exists()


BAD_FILES = {
    "broken.jsonl": (b'{"problem": "a", "answer": "1"}\n{"problem": \n', "line 2"),
    "list.jsonl": (b"[1, 2]\n", "line 1"), "scalar.json": (b"3", "list of objects"),
    "binary.jsonl": (b"\xff\xfe\x00\n", "cannot read"), "torn.parquet": (b"PAR1 not really", "cannot read"),
    "torn.arrow": (b"nonsense", "cannot read"), "empty.jsonl": (b"", "empty"),
    "useless.jsonl": (b'{"problem": "a"}\n', "1 no_answer"), "text.csv": (b"a,b\n", "allowed: .jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_input_is_one_line_and_leaves_what_was_there(tmp_path, capsys, name):
    content, hint = BAD_FILES[name]
    out = tmp_path / "o"
    good = write_jsonl(tmp_path / "good.jsonl", math_rows(2))
    assert main("math500", "--local_dataset_path", good, "--local_save_dir", out) == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    (tmp_path / name).write_bytes(content)
    assert hint in refused(capsys, "math500", "--local_dataset_path", tmp_path / name, "--local_save_dir", out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_source_is_never_overwritten(tmp_path, capsys):
    """Not by name: raw files of a folder that is read and written; nor one that somebody else has put there."""
    rows = [{"question": f"How much is {i}?", "answer": f"#### {i}"} for i in range(5)]
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    before = {p.name: sha256(p) for p in tmp_path.iterdir()}
    here = ["--local_dataset_path", tmp_path, "--local_save_dir"]
    assert "train.parquet is there and was not written by these scripts" in refused(capsys, "gsm8k", *here, tmp_path)
    assert {p.name: sha256(p) for p in tmp_path.iterdir()} == before
    out = tmp_path / "out"
    for _ in range(2):  # what it has written itself it writes again
        assert main("gsm8k", *here, out, "--max_rows", 2) == 0
    written = out / "train.parquet"
    error = refused(capsys, "gsm8k", "--local_dataset_path", written, "--split", "train", "--local_save_dir", out)
    assert "is read and would be overwritten: choose another --local_save_dir" in error
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 3)
    argv = ["--local_dataset_path", pairs, "--local_save_dir", out, "--mix", written, "--ratio", "0.5"]
    kept = sha256(written)
    assert "is read and would be overwritten" in refused(capsys, "preference", *argv) and sha256(written) == kept


def test_ambiguous_folders_are_refused(tmp_path, capsys):
    out = ["--local_save_dir", tmp_path / "o"]
    for folder, names in (("a", ("train.jsonl", "train.json")), ("b", ("easy_train.jsonl", "hard_train.jsonl"))):
        for name in names:
            write_jsonl(tmp_path / folder / name, math_rows(1))
        assert "may be any of" in refused(capsys, "math_dataset", "--local_dataset_path", tmp_path / folder, *out)
    assert main("math_dataset", "--local_dataset_path", tmp_path / "b", "--split", "test") == 2
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "argv", [["--max_rows", "0"], ["--max_rows", "x"], ["--max_row", "3"], ["--split", "dev"], ["--repeat", "-1"]]
)
def test_bad_options_are_one_line(tmp_path, capsys, argv):
    with pytest.raises(SystemExit) as stop:
        main("math_dataset", "--local_dataset_path", tmp_path, *argv)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_failure_while_writing_leaves_no_trace(tmp_path):
    target = tmp_path / "train.parquet"
    row = make_row(data_source="d", question="q", ground_truth="1", split="train", index=0)
    (card,) = write_files([([row], target, {"dataset": "d"})])
    assert (card["rows_out"], card["file"]) == (1, "train.parquet") and rows_of(target) == [row]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def failing():
        yield row
        raise RuntimeError("power cut")

    for rows, place, error, words in (
        (failing(), target, RuntimeError, "power cut"),
        ([], target, InputError, "no row"),
        ([{**row, "extra": 1}], target, InputError, "'extra' is not in the schema"),
        ([{**row, "prompt": 3}], target, InputError, "does not fit"),
        ([row], target / "below" / "x.parquet", InputError, "cannot write"),
    ):
        with pytest.raises(error, match=words):
            write_files([(rows, place, {})])
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    wider = SCHEMA.append(pa.field("agent_name", pa.string()))
    assert write_files([([{**row, "agent_name": "a"}], target, {})], wider)[0]["rows_out"] == 1
