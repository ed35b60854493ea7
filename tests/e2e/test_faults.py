"""A run of main_ppo in which something goes wrong; `benchmarks/faults.py` has the long list."""

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
