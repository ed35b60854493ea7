"""A few answers with each token's log-ratio, written while the advantages are computed."""

import json

import pytest
import torch
from batches import batch, random_batch
from omegaconf import OmegaConf
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl.verl_plugin import batch as views


class Letters:
    def decode(self, ids, skip_special_tokens=False):
        return "".join(chr(97 + i) for i in ids)


def compute(folder, monkeypatch, step, **trainer):
    rewards, mask, old, ref, uid = random_batch(seed=3)
    mask[2] = 0  # a pad row
    data = batch(rewards, mask, old, ref, uid)
    data.batch["responses"] = torch.arange(mask.shape[1]).expand_as(mask).contiguous()
    monkeypatch.setattr(
        views.Source, "padded", lambda self, column: torch.zeros(12, 2).long() if column == "prompts" else None
    )
    run = {
        "algorithm": {"adv_estimator": "frpo", "frpo": {"kl_coef": 0.1}}, "actor_rollout_ref": {"actor": {}},
        "answers_dir": str(folder), "trainer": {"test_freq": 5, "total_training_steps": None, **trainer},
    }  # fmt: skip
    with views.open_source([], None, Letters(), step, last_step=12):
        compute_advantage(data, adv_estimator="frpo", config=OmegaConf.create(run).algorithm)
    return data, mask, old, ref


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """The run is a sketch: its files and engines are not looked at."""
    monkeypatch.setattr("frpo_verl.verl_plugin.checks.check_config", lambda config: None)


def test_the_best_and_the_worst_answers_are_written(tmp_path, monkeypatch):
    data, mask, old, ref = compute(tmp_path, monkeypatch, step=5)
    answers = [json.loads(line) for line in (tmp_path / "5.jsonl").read_text().splitlines()]
    assert len(answers) == 4 and [a["score"] for a in answers] == [1.0, 1.0, 0.0, 0.0]
    scores = data.batch["token_level_scores"].sum(-1)
    for answer in answers:
        assert answer["step"] == 5 and answer["prompt"] == "aa" and "".join(answer["tokens"])
        rows = [
            i
            for i in range(len(mask))
            if int(mask[i].sum()) == len(answer["log_ratio"]) and float(scores[i]) == answer["score"]
        ]
        wanted = [(old - ref)[i][mask[i].bool()].tolist() for i in rows]
        assert any(answer["log_ratio"] == pytest.approx(w, abs=1e-6) for w in wanted)


@pytest.mark.parametrize("step, written", [(1, True), (2, False), (10, True), (12, True), (None, False)])
def test_only_the_steps_that_are_due(tmp_path, monkeypatch, step, written):
    compute(tmp_path, monkeypatch, step)
    assert bool(list(tmp_path.iterdir())) is written


def test_a_disk_that_takes_nothing_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    compute(tmp_path / "file", monkeypatch, step=1)
    assert "answers_dir=" in capsys.readouterr().err
