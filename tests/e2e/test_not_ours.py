"""A run that uses no name of ours: the same files and numbers as without the plugin's wraps, whoever's methods it uses."""

import sys

import e2e
import pytest
import yaml
from omegaconf import OmegaConf
from verl_config import compose_ppo

pytestmark = pytest.mark.e2e

ROOT_KEYS = ("composed_by", "recipe", "method", "layout", "run_name", "run_dir")
TIMES = ("timing", "perf/", "throughput")


def write_plain_config(inputs, run, *overrides):
    """A complete configuration of verl's as a file of its own: what the CPU layout sets, and no key or name of ours."""
    config = compose_ppo(
        "+recipe=quickstart_cpu", "method=grpo", f"run_dir={run}", f"data.train_files={inputs}/train.parquet",
        f"data.val_files={inputs}/val.parquet", f"actor_rollout_ref.model.path={inputs}/model", *e2e.SMALL,
        "trainer.total_training_steps=2", "trainer.save_freq=2", "trainer.val_before_train=true",
        f"trainer.project_name={run}", "trainer.experiment_name=metrics", *overrides,
    )  # fmt: skip
    plain = OmegaConf.to_container(config, resolve=True)
    for key in ROOT_KEYS:
        plain.pop(key, None)
    plain["hydra"] = {"run": {"dir": f"{run}/hydra"}}
    run.mkdir(parents=True)
    (run / "plain.yaml").write_text(yaml.safe_dump(plain))


def run_plain(inputs, run, external_module, *overrides):
    """Files and metrics (without times) of a finished run of two steps."""
    write_plain_config(inputs, run, *overrides)
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"--config-path={run}", "--config-name=plain"]
    variables = {"VERL_USE_EXTERNAL_MODULES": external_module} if external_module else {}
    status, output = e2e.execute(command, run, variables)
    assert status == 0, output[-5000:]
    files = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and "hydra" not in p.parts)
    metrics = {
        step: {key: value for key, value in row.items() if not any(word in key for word in TIMES)}
        for step, row in e2e.metrics(run).items()
    }
    return files, metrics


def test_plain_grpo_is_what_it_is_without_the_plugins_wraps(tmp_path):
    inputs = e2e.make_inputs(tmp_path / "inputs")
    files, metrics = run_plain(inputs, tmp_path / "with", None)
    ours = [key for row in metrics.values() for key in row if key.startswith(("frpo/", "actor/frpo/"))]
    assert sorted(metrics) == [0, 1, 2] and not ours
    assert any("global_step_2" in name for name in files)
    other_files, others = run_plain(inputs, tmp_path / "without", "no_wraps")
    assert files == other_files
    # the two differ in the order in which answers arrive, and so in the last digits of sums
    for step, row in metrics.items():
        assert row == pytest.approx(others[step], rel=1e-3, abs=1e-5), step


def test_methods_of_somebody_else_train_under_names_like_ours(tmp_path):
    inputs = e2e.make_inputs(tmp_path / "inputs")
    _, metrics = run_plain(
        inputs, tmp_path / "mine", "somebody_elses_plugin", "algorithm.adv_estimator=frpo_mine",
        "actor_rollout_ref.actor.policy_loss.loss_mode=rpg_mine",
    )  # fmt: skip
    assert metrics[2]["actor/grad_norm"] > 0 and not any(key.startswith(("frpo/", "actor/frpo/")) for key in metrics[2])
