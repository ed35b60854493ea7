"""A run of main_ppo in which something goes wrong; `benchmarks/faults.py` has the long list."""

import json
import math

import e2e
import faults_inside
import pytest

pytestmark = pytest.mark.e2e


def test_a_reward_that_raises_ends_the_run_and_leaves_a_whole_checkpoint(tmp_path):
    """Step 1 is whole; in step 2 the user's function raises for every answer."""
    inputs, run = e2e.make_inputs(tmp_path / "inputs"), tmp_path / "run"
    command = e2e.command(
        inputs, run, "trainer.total_training_steps=3", "trainer.save_freq=1",
        "reward.custom_reward_function.path=pkg://faults_inside",
    )  # fmt: skip
    variables = {
        "FRPO_FAULT": "a reward that raises", "FRPO_FAULT_DIR": str(run), "VERL_USE_EXTERNAL_MODULES": "faults_inside"
    }  # fmt: skip
    status, output = e2e.execute(command, run, variables)
    assert status == 1 and (run / faults_inside.MARK).exists(), output[-5000:]
    assert "NoAnswers: every answer of step 2's training batch failed: the reward function or" in output
    assert "division by zero in the user's reward" in output
    assert sorted(e2e.metrics(run)) == [1]
    assert (run / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == "1"
    assert (run / "checkpoints" / "global_step_1" / "data.pt").exists()


def test_an_answer_without_a_reference_is_left_out_of_what_the_actor_trains_on(tmp_path):
    """Step 1 is whole; in step 2 one ref_log_prob is NaN, and the actor gets neither it nor the answer's tokens."""
    inputs, run = e2e.make_inputs(tmp_path / "inputs"), tmp_path / "run"
    command = e2e.command(
        inputs, run, "trainer.total_training_steps=2", "+algorithm.frpo.on_nonfinite=zero_row",
        "actor_rollout_ref.actor.policy_loss.loss_mode=frpo", "+algorithm.frpo.allow_multiple_kl=true",
    )  # fmt: skip
    variables = {
        "FRPO_FAULT": faults_inside.REFERENCE, "FRPO_FAULT_DIR": str(run), "VERL_USE_EXTERNAL_MODULES": "faults_inside"
    }  # fmt: skip
    status, output = e2e.execute(command, run, variables)
    assert status == 0, output[-5000:]
    whole, left_out = (json.loads(line) for line in (run / "left_out").read_text().splitlines())
    assert whole == {"loss_mask": [], "response_mask": [], "ref_log_prob": [], "finite": True}
    assert left_out.pop("finite") and len(left_out["loss_mask"]) == 1
    assert left_out["loss_mask"] == left_out["response_mask"] == left_out["ref_log_prob"]
    found = e2e.metrics(run)
    assert [found[step]["frpo/nonfinite_rows"] for step in (1, 2)] == [0, 1]
    assert all(math.isfinite(found[2][f"actor/{name}"]) for name in ("pg_loss", "grad_norm", "ppo_kl"))
