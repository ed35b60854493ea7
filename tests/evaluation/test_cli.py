"""The command: tables, JSON, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import write_jsonl as write
from small_runs import dump_rows

from frpo_verl.evaluation.cli import main
from frpo_verl.evaluation.dumps import UNKNOWN

ROOT = Path(__file__).resolve().parents[2]


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
    code = (
        "import sys, frpo_verl.evaluation.cli\n"
        "found = [m for m in ('torch', 'verl', 'pyarrow', 'rich') if m in sys.modules]\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
