"""Beta over the steps of a run: the schedule, the target, a process that takes the run up again."""

import json
import math

import pytest
import torch
from batches import batch, random_batch
from omegaconf import OmegaConf
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl.core.coefficient import scheduled, steered
from frpo_verl.methods.settings import ConfigError, FrpoLossSettings, FrpoSettings, RpgSettings
from frpo_verl.verl_plugin import metrics, run, steering
from frpo_verl.verl_plugin.batch import open_source


@pytest.fixture
def start(tmp_path):
    """A process takes the run up, with these settings: its steps' advantages and metrics, by number and batch."""

    def begin(**frpo):
        config = OmegaConf.create(
            {"algorithm": {"adv_estimator": "frpo", "frpo": frpo}, "trainer": {"default_local_dir": str(tmp_path)},
             "actor_rollout_ref": {"model": {"path": None}}}
        )  # fmt: skip
        run.remember(config)  # as the trainer's construction does, which checks it too

        def step(number, seed=0):
            data = batch(*random_batch(seed=seed, dtype=torch.float64))
            data.batch["entropy"] = torch.ones(data.batch["response_mask"].shape)  # else it is looked for in the queue
            with open_source([], "train", None, step=number):
                made = compute_advantage(data, adv_estimator="frpo", config=config.algorithm).batch["advantages"]
            return made, metrics.take()

        return step

    return begin


STEERED = {"kl_coef": 0.1, "kl_target": 0.2, "kl_horizon": 2}


def test_a_schedule_is_a_function_of_the_step_alone(start):
    for number in (4, 1, 2, 9, 3):
        beta = scheduled(number, 0.4, 0.1, 3)
        advantages, found = start(kl_coef=0.4, kl_coef_end=0.1, kl_coef_steps=3)(number)
        assert found["frpo/kl_coef"] == beta
        torch.testing.assert_close(advantages, start(kl_coef=beta)(1)[0], rtol=0, atol=0)


def test_a_target_steers_and_is_kept_beside_the_checkpoints(start, tmp_path):
    step, beta, betas = start(**STEERED), 0.1, []
    for number in (1, 2, 3, 4):
        _, found = step(number, seed=number)
        assert found["frpo/kl_coef"] == pytest.approx(beta, rel=1e-15)
        betas.append(found["frpo/kl_coef"])
        beta = steered(beta, found["frpo/kl_to_go/first_token/mean"], 0.2, 2)
    assert len(set(betas)) == 4
    kept = json.loads((tmp_path / steering.FILE).read_text())
    assert [kept[str(k)] for k in (1, 2, 3, 4)] == betas and kept["5"] == pytest.approx(beta, rel=1e-15)


def test_a_killed_run_takes_up_the_beta_of_its_step_exactly(start, capsys):
    first = start(**STEERED)
    whole = [first(k, seed=k)[1]["frpo/kl_coef"] for k in range(1, 7)]
    second = start(**STEERED)  # killed in step 6, its last checkpoint is of step 3
    assert [second(k, seed=k)[1]["frpo/kl_coef"] for k in range(4, 7)] == whole[3:]
    assert "has no beta" not in capsys.readouterr().err


def test_a_run_that_gets_a_target_late_says_where_beta_starts(start, capsys):
    _, found = start(kl_coef=0.1, kl_target=0.2)(7)
    assert found["frpo/kl_coef"] == 0.1
    assert "has no beta for step 7; it starts at kl_coef=0.1" in capsys.readouterr().err


def test_several_batches_of_a_step_share_its_beta(start):
    step, kls = start(**STEERED), []
    for seed in (1, 2):
        _, found = step(1, seed)
        assert found["frpo/kl_coef"] == 0.1
        kls.append(found["frpo/kl_to_go/first_token/mean"])
    assert step(2, 3)[1]["frpo/kl_coef"] == pytest.approx(steered(0.1, sum(kls) / 2, 0.2, 2), rel=1e-15)


def test_a_kl_that_is_not_finite_leaves_beta(tmp_path):
    beta = steering.Steering(tmp_path / "f.json", FrpoSettings(kl_target=1.0), {})
    assert beta.at(1) == 0.01
    beta.observe(math.nan)
    assert beta.at(2) == 0.01


def test_a_trainer_without_steps_is_refused():
    rewards, mask, old, ref, uid = random_batch()
    config = OmegaConf.create({"adv_estimator": "frpo", "frpo": {"kl_coef_end": 0.0, "kl_coef_steps": 5}})
    with pytest.raises(RuntimeError, match="kl_coef_end: this trainer does not say which step"):
        compute_advantage(batch(rewards, mask, old, ref, uid), adv_estimator="frpo", config=config)


@pytest.mark.parametrize("section", [RpgSettings, FrpoLossSettings])
def test_losses_have_the_schedule_too(section):
    settings = section.parse({"kl_coef": 0.4, "kl_coef_end": 0.0, "kl_coef_steps": 4})
    assert "v1" in settings.needs
    assert [settings.keywords(k)["kl_coef"] for k in (1, 3, 9)] == pytest.approx([0.4, 0.2, 0.0])
    assert "kl_coef_end" not in settings.keywords(1)
    with pytest.raises(ConfigError, match="unknown key"):
        section.parse({"kl_target": 1.0})
