"""`python -m frpo_verl.quickstart`: what it reuses, where it writes, what it says when training stops."""

import math
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from small_runs import make_run

from frpo_verl.quickstart import __main__ as quickstart
from frpo_verl.report.collect import read_best


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """An empty folder to work in, with data and model left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "make_model", lambda console: {"held_out": [0.2, 0.3]})
    return tmp_path


def test_data_is_made_once(clone):
    console = Console(record=True, width=200)
    quickstart.make_data(console)
    written = {p.name: p.stat().st_mtime_ns for p in (quickstart.BUILD / "data").glob("*.parquet")}
    assert set(written) == {"train.parquet", "test.parquet"}
    quickstart.make_data(console)
    assert {p.name: p.stat().st_mtime_ns for p in (quickstart.BUILD / "data").glob("*.parquet")} == written
    assert "generating" in console.export_text(clear=False) and "reusing" in console.export_text()


@pytest.mark.slow
def test_finished_runs_are_shown_again(clone, capsys, monkeypatch):
    for name in ("quickstart", "quickstart_no_kl"):
        run = make_run(clone / "runs" / name, steps=20)
        (run / "checkpoints").mkdir()
        (run / "checkpoints/latest_checkpointed_iteration.txt").write_text("20")
    monkeypatch.setattr(quickstart, "train", lambda *args: pytest.fail("a finished run must not be trained again"))
    assert quickstart.main(["--steps", "20"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("finished at step 20 (FRESH=1 starts over)") == 2 and "runs/quickstart/report.png" in said
    assert "FRPO" in said and "no KL" in said and (clone / "runs/quickstart/report.png").exists()


def test_frpo_stands_beside_the_same_run_without_a_kl(clone, monkeypatch):
    """Two runs that differ in one key; the user's overrides reach both, another method runs alone and as it is."""
    seen = []
    monkeypatch.setattr(quickstart, "train", lambda runs, *rest: seen.extend(runs.values()) or 0)
    monkeypatch.setattr("frpo_verl.report.cli.main", lambda argv: 0)
    assert quickstart.main(["algorithm.frpo.kl_coef=0.1", "data.seed=3"]) == 0
    (frpo, with_kl), (none, without) = seen
    assert (frpo, none) == (Path("runs/quickstart"), Path("runs/quickstart_no_kl"))
    answers = "answers_dir=runs/quickstart/answers", "answers_dir=runs/quickstart_no_kl/answers"
    assert with_kl == [answers[0], *quickstart.RUNS["FRPO"], "algorithm.frpo.kl_coef=0.1", "data.seed=3"]
    assert without == [answers[1], "data.seed=3", *quickstart.RUNS["no KL"]]
    seen.clear()
    assert quickstart.main(["method=grpo"]) == 0
    assert seen == [(Path("runs/quickstart_grpo"), ["method=grpo"])]


@pytest.mark.parametrize("tracker, step", [("12", 12), ("", 0), ("1x", 0), (None, 0)])
def test_the_step_it_resumes_from(clone, tracker, step):
    (clone / "checkpoints").mkdir()
    if tracker is not None:
        (clone / "checkpoints/latest_checkpointed_iteration.txt").write_text(tracker)
    assert quickstart.checkpoint_step(clone) == step


def test_fresh_throws_the_old_run_away_and_a_failure_is_the_exit_status(clone, monkeypatch):
    make_run(clone / "old", steps=20)
    seen = []
    monkeypatch.setattr(
        quickstart, "train", lambda runs, steps, *_: seen.append((runs["FRPO"][0].exists(), steps)) or 3
    )
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
    monkeypatch.setattr(quickstart, "train", lambda runs, *rest: seen.append(next(iter(runs.values()))[0]) or 3)
    assert quickstart.main(argv) == 3 and seen == [Path(folder)]


def test_steps_below_one_are_refused(clone, capsys):
    with pytest.raises(SystemExit) as stop:
        quickstart.main(["--steps", "0"])
    assert stop.value.code == 2 and "at least 1" in capsys.readouterr().err
    assert not list(clone.iterdir())


@pytest.mark.parametrize("visible, kept", [("", None), ("NoDevFiles", None), ("0", "0")])
def test_caches_stay_below_the_folder_and_a_device_that_is_named_stays(clone, monkeypatch, visible, kept):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("HF_HOME", "/elsewhere")
    env = quickstart.environment(clone / "ray")
    for name in ("RAY_TMPDIR", "HF_HOME", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME"):
        assert Path(env[name]).is_relative_to(clone), name
    assert env["VERL_PLATFORM"] == "cpu" and env["PATH"] == os.environ["PATH"] and "RAY_ADDRESS" not in env
    assert env.get("CUDA_VISIBLE_DEVICES") == kept


def test_ray_gets_the_first_folder_that_is_short_enough(clone, monkeypatch):
    long = clone / ("job" * 20)
    long.mkdir()
    monkeypatch.chdir(long)
    monkeypatch.setattr(quickstart.tempfile, "gettempdir", lambda: str(long))
    found = quickstart.ray_folder()
    assert found.parent in (Path("/tmp"), Path("/var/tmp")) and len(str(found)) <= quickstart.RAY_PATH_LIMIT
    found.rmdir()
    monkeypatch.setattr(quickstart, "RAY_PATH_LIMIT", 300)
    assert quickstart.ray_folder() == long / "build/ray" and (long / "build/ray").is_dir()
    monkeypatch.setattr(quickstart.os, "access", lambda *args: False)
    assert quickstart.ray_folder().parent == long  # the folder is there and cannot be written
    monkeypatch.setattr(quickstart, "RAY_PATH_LIMIT", 5)
    with pytest.raises(SystemExit, match="set TMPDIR to a short folder") as stop:
        quickstart.ray_folder()
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize("memory, batches", [(0, [["FRPO", "no KL"]]), (2**60, [["FRPO"], ["no KL"]])])
def test_runs_go_side_by_side_where_the_machine_holds_both(clone, monkeypatch, memory, batches):
    seen = []
    monkeypatch.setattr(quickstart, "MEMORY_FOR_TWO", memory)
    monkeypatch.setattr(quickstart.os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(quickstart, "train", lambda runs, *rest: seen.append([*runs]) or 0)
    monkeypatch.setattr("frpo_verl.report.cli.main", lambda argv: 0)
    assert quickstart.main([]) == 0 and seen == batches
    monkeypatch.setattr(quickstart.os, "sched_getaffinity", lambda pid: {0})
    assert quickstart.main([]) == 0 and seen[len(batches) :] == [["FRPO"], ["no KL"]]


def test_a_run_that_fails_ends_the_one_beside_it(clone, monkeypatch):
    """Two commands in place of main_ppo: one waits for a minute, one fails at once."""
    scripts = {"one": "import time; time.sleep(60)", "other": "print('ValueError: beta'); raise SystemExit(5)"}
    real = quickstart.subprocess.Popen

    def start(command, **settings):
        name = next(w.removeprefix("run_dir=") for w in command if w.startswith("run_dir="))
        return real([command[0], "-c", scripts[name]], **settings)

    monkeypatch.setattr(quickstart.subprocess, "Popen", start)
    console = Console(record=True, width=200)
    began = time.monotonic()
    assert quickstart.train({name: (Path(name), []) for name in scripts}, 1, console) == 5
    said = console.export_text()
    assert time.monotonic() - began < 50 and "ValueError: beta" in said and "other/train.log" in said
    assert not list(Path("build").glob("ray*"))


def test_the_picture_is_told_the_best_objective(clone, monkeypatch):
    monkeypatch.setattr(quickstart, "train", lambda *args: 0)
    monkeypatch.setattr("frpo_verl.report.cli.main", lambda argv: 0)
    assert quickstart.main(["algorithm.frpo.kl_coef=0.5"]) == 0
    best = sum(0.5 * math.log(1 - p + p * math.exp(2)) for p in (0.2, 0.3)) / 2
    assert read_best(Path("runs/quickstart")) == (0.5, pytest.approx(best, abs=1e-5))
    assert read_best(Path("runs/quickstart_no_kl")) is None


@pytest.mark.e2e
def test_training_that_stops_says_why_and_where_to_look(clone):
    console = Console(record=True, width=200)
    status = quickstart.train({"": (clone / "run", ["algorithm.adv_estimator=frop"])}, 1, console)
    said = console.export_text()
    assert status != 0 and "did you mean 'frpo'" in said and "run/train.log" in said
    assert "frop" in (clone / "run/train.log").read_text()
    assert not Path("build/ray").exists()
