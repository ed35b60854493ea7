"""verl's asynchronous trainers on a CPU, each through its own main: the age of the answers, beta, a run that is taken up.

`old` is the policy of the last hand-over of weights, so a step of two updates begins with a KL of 0 in both.
"""

import e2e
import pytest
from documented_metrics import assert_documented

pytestmark = pytest.mark.e2e
FRESH = 1e-4
FULLY = "verl.experimental.fully_async_policy.fully_async_main"
ONE_STEP = "verl.experimental.one_step_off_policy.main_ppo"
APART = ["layout=cpu_async", "actor_rollout_ref.actor.ppo_mini_batch_size=2"]
EXPERIMENTAL = [
    *APART, "hydra.searchpath=[pkg://verl.trainer.config]", "rollout.n_gpus_per_node=1", "actor_rollout_ref.hybrid_engine=false",
    "algorithm.rollout_correction.bypass_mode=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return e2e.make_inputs(tmp_path_factory.mktemp("inputs"))


def train(*args, **kwargs):
    status, metrics, output = e2e.train(*args, **kwargs)
    assert status == 0, output[-5000:]
    return metrics, output


@pytest.mark.apart
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


def test_one_step_off(inputs, tmp_path):
    """An answer is one update old, but for the first step after a start."""
    settings = [*EXPERIMENTAL, "actor_rollout_ref.actor.ppo_mini_batch_size=4", "trainer.total_training_steps=3"]
    metrics, _ = train(inputs, tmp_path, *settings, module=ONE_STEP)
    assert sorted(metrics) == [1, 2, 3]
    for step, row in metrics.items():
        assert_documented(row)
        assert (row["frpo/rollout_log_prob_diff_max"] < FRESH) == (step == 1) == (abs(row["rollout_corr/kl"]) < FRESH)
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)
    assert metrics[3]["frpo/kl_to_ref/k3"] > 1e-4


def fully_async(rollouts: int) -> list[str]:
    """Two updates a version of the weights, two answers an update."""
    return [*EXPERIMENTAL, "data.train_batch_size=0", f"rollout.total_rollout_steps={rollouts}", "trainer.save_freq=3",
            "trainer.test_freq=100", "async_training.trigger_parameter_sync_step=2", "async_training.staleness_threshold=1"]  # fmt: skip


def test_fully_async(inputs, tmp_path):
    """verl logs the second update of a version with the next version."""
    metrics, _ = train(inputs, tmp_path, *fully_async(12), module=FULLY)
    assert [(v, row.get("training/global_step")) for v, row in metrics.items()] == [(0, None), (1, 1), (2, 3), (3, 6)]
    stale = [metrics[version]["fully_async/count/stale_trajectory_processed"] for version in (1, 2, 3)]
    assert stale[0] == 0 < stale[2] and stale == sorted(stale)
    for version in (1, 2, 3):
        assert_documented(metrics[version])
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)
    assert metrics[3]["frpo/kl_to_ref/k3"] > 1e-4
    assert (tmp_path / "checkpoints/latest_checkpointed_iteration.txt").read_text() == "3"


@pytest.mark.apart
def test_fully_async_is_taken_up(inputs, tmp_path):
    """From the last checkpoint, with the weights and the reference that it left."""
    first, _ = train(inputs, tmp_path, *fully_async(12), module=FULLY)
    metrics, _ = train(inputs, tmp_path, *fully_async(20), module=FULLY)
    assert (sorted(first), sorted(metrics)) == ([0, 1, 2, 3], [0, 1, 2, 3, 4, 5])
    assert metrics[5]["training/global_step"] > metrics[3]["training/global_step"]
    assert metrics[4]["frpo/kl_to_ref/k3"] > 1e-4  # from the model of the first start


@pytest.mark.apart
@pytest.mark.parametrize("module", [ONE_STEP, FULLY])
def test_log_probs_of_the_engine_are_refused(inputs, tmp_path, module):
    settings = [s for s in fully_async(12) if "bypass_mode" not in s]  # these two trainers' own default is true
    status, metrics, output = e2e.train(inputs, tmp_path, *settings, module=module)
    assert status == 1 and not metrics
    assert "algorithm.rollout_correction.bypass_mode=true takes the log-probs of the inference engine" in output
