"""verl's asynchronous trainers on a CPU, each through its own main: the age of the answers, beta, a run that is taken up.

`old` is the policy of the last hand-over of weights, so a step of two updates begins with a KL of 0 in both.
"""

import e2e
import pytest
from documented_metrics import assert_documented

pytestmark = pytest.mark.e2e
FRESH = 1e-4
APART = ["layout=cpu_async", "actor_rollout_ref.actor.ppo_mini_batch_size=2"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return e2e.make_inputs(tmp_path_factory.mktemp("inputs"))


def train(*args, **kwargs):
    status, metrics, output = e2e.train(*args, **kwargs)
    assert status == 0, output[-5000:]
    return metrics, output


def test_separate_async(inputs, tmp_path):
    """A beta that is steered is taken up where the run is."""
    settings = [*APART, "trainer.v1.separate_async.parameter_sync_step=2", "trainer.save_freq=2",
                "+algorithm.frpo.kl_target=0.05", "+algorithm.frpo.kl_horizon=1"]  # fmt: skip
    first, _ = train(inputs, tmp_path, *settings, "trainer.total_training_steps=2")
    metrics, output = train(inputs, tmp_path, *settings, "trainer.total_training_steps=3")
    assert "setting global step to 2" in output and sorted(metrics) == [1, 2, 3]
    for row in metrics.values():
        assert_documented(row)
        fresh = row["training/off_policy/trajectory_staleness/max"] == 0
        assert (row["frpo/rollout_log_prob_diff_max"] < FRESH) == fresh == (abs(row["rollout_corr/kl"]) < FRESH)
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)
    assert metrics[2]["frpo/kl_to_ref/k3"] > 1e-4
    assert len({row["frpo/kl_coef"] for row in metrics.values()}) == 3
