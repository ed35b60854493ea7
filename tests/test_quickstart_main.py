"""`python -m frpo_verl.quickstart`: what it reuses, where it writes, what it says when training stops."""

import os
from pathlib import Path

import pytest
from rich.console import Console
from test_report import make_run

from frpo_verl.quickstart import __main__ as quickstart


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """An empty folder to work in, with data and model left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "make_model", lambda console: None)
    return tmp_path


def test_data_is_made_once(clone):
    console = Console(record=True, width=200)
    quickstart.make_data(console)
    written = {p.name: p.stat().st_mtime_ns for p in (quickstart.BUILD / "data").glob("*.parquet")}
    assert set(written) == {"train.parquet", "test.parquet"}
    quickstart.make_data(console)
    assert {p.name: p.stat().st_mtime_ns for p in (quickstart.BUILD / "data").glob("*.parquet")} == written
    assert "generating" in console.export_text(clear=False) and "reusing" in console.export_text()


def test_a_finished_run_is_shown_again(clone, capsys, monkeypatch):
    run = make_run(clone / "runs/quickstart", steps=20) or clone / "runs/quickstart"
    (run / "checkpoints").mkdir()
    (run / "checkpoints/latest_checkpointed_iteration.txt").write_text("20")
    monkeypatch.setattr(quickstart, "train", lambda *args: pytest.fail("a finished run must not be trained again"))
    assert quickstart.main(["--steps", "20"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "finished at step 20 (FRESH=1 starts over)" in said and ".png" in said
    assert list(run.glob("*.png"))


def test_a_trained_run_ends_with_the_page_and_its_versions(clone, capsys, monkeypatch):
    monkeypatch.setattr(quickstart, "train", lambda run, *rest: make_run(run, steps=20) and 0)
    assert quickstart.main(["--run", "new"]) == 0
    assert capsys.readouterr().out.split()[-2:] == ["page:", "new/report.html"]
    assert "torch " in (clone / "new/report.html").read_text()


@pytest.mark.parametrize("tracker, step", [("12", 12), ("", 0), ("1x", 0), (None, 0)])
def test_the_step_it_resumes_from(clone, tracker, step):
    (clone / "checkpoints").mkdir()
    if tracker is not None:
        (clone / "checkpoints/latest_checkpointed_iteration.txt").write_text(tracker)
    assert quickstart.checkpoint_step(clone) == step


def test_fresh_throws_the_old_run_away_and_a_failure_is_the_exit_status(clone, monkeypatch):
    make_run(clone / "old", steps=20)
    seen = []
    monkeypatch.setattr(quickstart, "train", lambda run, steps, *rest: seen.append((run.exists(), steps)) or 3)
    assert quickstart.main(["--fresh", "--run", "old", "--steps", "7"]) == 3
    assert seen == [(False, 7)]


@pytest.mark.parametrize(
    "argv, folder",
    [
        ([], "runs/quickstart"),
        (["method=frpo"], "runs/quickstart"),
        (["method=frpo", "method=grpo"], "runs/quickstart_grpo"),
        (["--run", "mine", "method=grpo"], "mine"),
    ],
)
def test_each_method_has_its_own_folder(clone, monkeypatch, argv, folder):
    seen = []
    monkeypatch.setattr(quickstart, "train", lambda run, *rest: seen.append(run) or 3)
    assert quickstart.main(argv) == 3 and seen == [Path(folder)]


def test_steps_below_one_are_refused(clone, capsys):
    with pytest.raises(SystemExit) as stop:
        quickstart.main(["--steps", "0"])
    assert stop.value.code == 2 and "at least 1" in capsys.readouterr().err
    assert not list(clone.iterdir())


def test_caches_stay_below_the_folder(clone, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    env = quickstart.environment(clone / "ray")
    for name in ("RAY_TMPDIR", "HF_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME"):
        assert Path(env[name]).is_relative_to(clone), name
    assert env["VERL_PLATFORM"] == "cpu" and "CUDA_VISIBLE_DEVICES" not in env
    assert env["PATH"] == os.environ["PATH"]


@pytest.mark.e2e
def test_training_that_stops_says_why_and_where_to_look(clone):
    console = Console(record=True, width=200)
    status = quickstart.train(clone / "run", 1, ["algorithm.adv_estimator=frop"], console)
    said = console.export_text()
    assert status != 0 and "did you mean 'frpo'" in said and "run/train.log" in said
    assert "frop" in (clone / "run/train.log").read_text()
    assert not Path("build/ray").exists()
