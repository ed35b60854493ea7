"""Files of a run that verl writes in place: metrics survive a resume, a broken checkpoint tracker is mended."""

import pytest
from omegaconf import OmegaConf
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path
from verl.utils.tracking import FileLogger

from frpo_verl.verl_plugin import run


@pytest.mark.parametrize("name", ["metrics", "lr[1e-6]*"])  # a name is no pattern
def test_a_resumed_run_keeps_its_earlier_metrics(tmp_path, monkeypatch, ours, name):
    monkeypatch.setenv("VERL_FILE_LOGGER_ROOT", str(tmp_path))
    for step in range(4):
        logger = FileLogger("run", name)
        logger.log({"x": step}, step)
        logger.finish()
    texts = {p.name: p.read_text() for p in (tmp_path / "run").iterdir()}
    assert sorted(texts) == sorted([*(f"{name}.{k}.jsonl" for k in (1, 2, 3)), f"{name}.jsonl"])
    assert all(f'"step":{k}' in texts[f"{name}.{k + 1}.jsonl"] for k in range(3))
    assert '"step":3' in texts[f"{name}.jsonl"]


def test_runs_that_are_not_ours_are_left_alone(tmp_path, monkeypatch, not_ours):
    monkeypatch.setenv("VERL_FILE_LOGGER_ROOT", str(tmp_path))
    for _ in range(2):
        FileLogger("run", "metrics").log({}, 0)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["metrics.jsonl"]
    tracker = tmp_path / "latest_checkpointed_iteration.txt"
    tracker.touch()
    checkpoint(tmp_path, 4)
    with pytest.raises(ValueError):  # verl's own failure on an empty tracker
        find_latest_ckpt_path(str(tmp_path))
    assert tracker.read_text() == ""


@pytest.mark.parametrize("of", [{"composed_by": "frpo_verl"}, {"algorithm": {"adv_estimator": "frpo"}, "report": True}])
def test_metrics_of_a_recipe_or_for_a_report_stand_in_the_runs_folder(tmp_path, monkeypatch, of):
    run.remember(OmegaConf.create({**of, "run_dir": str(tmp_path / "run")}))
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "")
    for step in range(2):
        logger = FileLogger("a project", "recipe-method")
        logger.log({"x": step}, step)
        logger.finish()
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["metrics.1.jsonl", "metrics.jsonl"]


def checkpoint(folder, step, complete=True):
    path = folder / f"global_step_{step}"
    path.mkdir()
    if complete:
        (path / "data.pt").touch()


def test_an_empty_tracker_points_to_the_last_complete_checkpoint(tmp_path, ours):
    checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 12)
    checkpoint(tmp_path, 20, complete=False)
    tracker = tmp_path / "latest_checkpointed_iteration.txt"
    tracker.touch()
    assert find_latest_ckpt_path(str(tmp_path)) == str(tmp_path / "global_step_12")
    assert tracker.read_text() == "12"
    tracker.write_text("4")
    assert find_latest_ckpt_path(str(tmp_path)) == str(tmp_path / "global_step_4")  # a readable one is obeyed


def test_without_a_complete_checkpoint_the_run_starts_over(tmp_path, ours):
    (tmp_path / "latest_checkpointed_iteration.txt").touch()
    checkpoint(tmp_path, 4, complete=False)
    assert find_latest_ckpt_path(str(tmp_path)) is None
    assert find_latest_ckpt_path(None) is None
