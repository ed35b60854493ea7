"""verl's own main_ppo on a CPU: it trains, it is killed and resumes to the same numbers, it stops when wrong."""

import importlib.util
import os
import shutil
import subprocess
import sys

import e2e
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documented_metrics import assert_documented
from logged import mlflow_steps, same

from frpo_verl.report.collect import load_run

pytestmark = pytest.mark.e2e
LOGGERS = [name for name in ("tensorboard", "wandb", "mlflow") if importlib.util.find_spec(name)]
STEERED = ["+algorithm.frpo.kl_target=0.05", "+algorithm.frpo.kl_horizon=1"]  # beta depends on the whole run before it


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return e2e.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """An uninterrupted run of four steps that saves every second one, with every logger that is there."""
    run = tmp_path_factory.mktemp("whole")
    settings = ["trainer.total_training_steps=4", "trainer.save_freq=2", "trainer.val_before_train=true", *STEERED,
                f"trainer.logger=[{','.join(['console', 'file', *LOGGERS])}]"]  # fmt: skip
    status, metrics, output = e2e.train(inputs, run, *settings)
    assert status == 0, output[-5000:]
    return run, metrics


def test_frpo_trains_and_says_what_it_does(whole):
    run, metrics = whole
    assert sorted(metrics) == [0, 1, 2, 3, 4]
    assert metrics[0]["val-aux/arithmetic/knows_frpo/mean@1"] == 1.0  # as a reward worker sees it
    for step, row in list(metrics.items())[1:]:
        assert_documented(row)
        assert row["training/global_step"] == step
        assert row["frpo/rollout_log_prob_diff_max"] < 1e-4  # rollout and trainer agree after every update
        assert row["training/rollout_probs_diff_max"] < 1e-4
        assert row["actor/grad_norm"] > 0
        assert {"frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3", "frpo/kl_to_go/first_token/mean", "frpo/regularizer_share",
                "frpo/kl_by_position/q1", "frpo/entropy_by_position/q4", "frpo/log_ratio_clip_frac",
                "frpo/zero_variance_groups", "actor/frpo/policy_clip_frac/positive_advantage"} <= set(row)  # fmt: skip
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)  # the reference is the start
    assert metrics[4]["frpo/kl_to_ref/k3"] > 1e-4  # and training leaves it
    assert (run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == "4"


@pytest.mark.parametrize("logger", ["tensorboard", "wandb", "mlflow"])
def test_every_logger_holds_every_metric(whole, logger, tmp_path):
    """The report reads TensorBoard's and Weights & Biases' files in the place of metrics.jsonl."""
    if logger not in LOGGERS:
        pytest.skip(f"{logger} is not installed: pip install {logger}")
    run, wanted = whole
    if logger == "mlflow":
        return same(mlflow_steps(f"file://{run}/mlruns", wanted), wanted)
    written = {"tensorboard": "tensorboard_log", "wandb": "wandb"}[logger]
    shutil.copytree(run / written, tmp_path / written)
    same(load_run(tmp_path).steps, wanted)


def test_a_killed_run_resumes_to_the_same_numbers(whole, inputs, tmp_path):
    settings = ["trainer.total_training_steps=4", "trainer.save_freq=2", *STEERED]
    status, before, _ = e2e.train(inputs, tmp_path, *settings, kill_after_step=3)
    assert status == -9 and 4 not in before
    status, after, output = e2e.train(inputs, tmp_path, *settings)
    assert status == 0, output[-5000:]
    assert "Resuming from" in output and "setting global step to 2" in output
    _, metrics = whole
    names = ["critic/score/mean", "frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3", "actor/grad_norm", "actor/entropy"]
    for step in (1, 2, 3, 4):
        for name in names:
            assert after[step][name] == pytest.approx(metrics[step][name], abs=1e-5), (step, name)
    betas = [metrics[step]["frpo/kl_coef"] for step in (1, 2, 3, 4)]
    assert len(set(betas)) == 4 and [after[step]["frpo/kl_coef"] for step in (1, 2)] == betas[:2]
    assert after[3]["frpo/kl_coef"] == pytest.approx(betas[2], rel=1e-6)
    assert sorted(p.name for p in tmp_path.glob("metrics*")) == ["metrics.1.jsonl", "metrics.jsonl"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_legacy_trainer_runs_it_too(inputs, tmp_path):
    status, metrics, output = e2e.train(inputs, tmp_path, "trainer.total_training_steps=1", "trainer.use_v1=false")
    assert status == 0, output[-5000:]
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)
    assert metrics[1]["frpo/rollout_log_prob_diff_max"] < 1e-4


def test_answers_of_an_earlier_policy_train_it_too(inputs, tmp_path):
    """`colocate_async`: generation is a batch ahead, so from the second step on the answers are one update old."""
    status, metrics, output = e2e.train(
        inputs, tmp_path, "trainer.total_training_steps=2", "trainer.v1.trainer_mode=colocate_async"
    )
    assert status == 0, output[-5000:]
    for step, staleness in ((1, 0), (2, 1)):
        row = metrics[step]
        assert_documented(row)
        assert row["training/off_policy/trajectory_staleness/max"] == staleness
        fresh = 1e-4
        assert (row["frpo/rollout_log_prob_diff_max"] < fresh) == (staleness == 0)
        assert (abs(row["rollout_corr/kl"]) < fresh) == (staleness == 0)
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)
    assert metrics[2]["frpo/kl_to_ref/k3"] > 1e-4


def test_two_ranks_and_pad_rows(inputs, tmp_path):
    """The frpo loss on two ranks; six prompts of four answers are not a multiple of a mini-batch of 16, so verl pads.

    A mean over answers would count the pad rows, and is refused with such a batch.
    """
    status, metrics, output = e2e.train(
        inputs, tmp_path, "method=frpo_loss", "trainer.total_training_steps=2", "trainer.n_gpus_per_node=2",
        "data.train_batch_size=6",
    )  # fmt: skip
    assert status == 0, output[-5000:]
    assert "synthetic padding samples" in output
    assert metrics[2]["actor/grad_norm"] > 0 and "actor/frpo/loss_kl_to_ref" in metrics[2]


def test_recorded_pairs_train_beside_the_policys_own_answers(inputs, tmp_path):
    """f-HAL: half of the prompts of a batch carry a recorded pair; with n=4 each answer of a pair is replayed twice."""
    rows = pq.read_table(inputs / "train.parquet").to_pylist()
    for i, row in enumerate(rows):
        recorded = i % 2 == 1
        row["agent_name"] = "recorded_response" if recorded else "single_turn_agent"
        row["extra_info"] |= {"chosen": "12" if recorded else "", "rejected": "a" if recorded else ""}
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mixed.parquet")
    status, metrics, output = e2e.train(
        inputs, tmp_path / "run", "method=f_hal", "trainer.total_training_steps=2", "data.shuffle=false",
        f"data.train_files={tmp_path}/mixed.parquet",
    )  # fmt: skip
    assert status == 0, output[-5000:]
    for step in (1, 2):
        counts = [metrics[step][f"frpo/f_hal/{kind}_rows"] for kind in ("on_policy", "chosen", "rejected")]
        assert counts == [8, 4, 4]
    assert metrics[2]["actor/f_grpo/margin"] > metrics[1]["actor/f_grpo/margin"]  # chosen answers leave rejected ones


def test_a_wrong_setting_stops_the_command_with_one_line(inputs, tmp_path):
    result = subprocess.run(
        e2e.command(inputs, tmp_path, "+algorithm.frpo.kl_coeff=0.1"), capture_output=True, text=True,
        env={**e2e.environment(tmp_path), "HYDRA_FULL_ERROR": "0"}, timeout=300,
    )  # fmt: skip
    assert result.returncode == 1
    line = "algorithm.frpo.kl_coeff: unknown key (did you mean 'kl_coef'?)"
    assert line in result.stderr and "ray" not in result.stdout.lower()


def test_nothing_of_the_cpu_path_is_active_unless_asked_for():
    code = (
        "import verl; from frpo_verl.verl_plugin import hooks; from verl.plugin.platform import PlatformRegistry as R; "
        "import verl.utils.distributed as d; "
        "print(R.get('cpu'), any(e.only_cpu and e.status != 'pending' for e in hooks.SEAMS), "
        "hasattr(d.initialize_global_process_group_ray, '__wrapped__'))"
    )
    env = {k: v for k, v in os.environ.items() if k != "VERL_PLATFORM"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=env, timeout=120
    )
    assert result.stdout.split() == ["None", "False", "False"], result.stderr[-2000:]
