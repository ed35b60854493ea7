"""Two Ray nodes on one machine: the plugin by both doors, a node without it, and a run with a rank on each node."""

import subprocess
import sys
from pathlib import Path

import e2e
import pytest

pytestmark = pytest.mark.e2e
SCRIPT = Path(__file__).with_name("two_nodes.py")


def two_nodes(tmp_path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=e2e.environment(tmp_path))


@pytest.mark.parametrize("door", ["plugin", "modules"])
def test_both_doors_lead_in_on_every_node(tmp_path, door):
    result = two_nodes(tmp_path, door)
    assert result.returncode == 0 and "ALL 2 NODES" in result.stdout, result.stderr[-2000:]


def test_a_node_without_the_plugin_is_named(tmp_path):
    result = two_nodes(tmp_path, "without")
    assert result.returncode == 3, result.stderr[-2000:]
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("REFUSED")]
    assert (
        "does not load frpo_verl" in line and "(1 of 2 nodes)" in line and "VERL_USE_EXTERNAL_MODULES=frpo_verl" in line
    )


def test_a_run_with_a_rank_on_each_node(tmp_path):
    inputs, run = e2e.make_inputs(tmp_path / "inputs"), tmp_path / "run"
    run.mkdir()
    ray_init = [
        f"~ray_kwargs.ray_init.{key}" for key in ("address", "num_cpus", "num_gpus", "include_dashboard")
    ]  # it runs already
    nodes = ["trainer.nnodes=2", "trainer.n_gpus_per_node=1", "trainer.total_training_steps=2"]
    main_ppo = e2e.command(inputs, run, *nodes, *ray_init)[3:]  # without `python -m verl.trainer.main_ppo`
    result = two_nodes(run, "train", *main_ppo)
    metrics = e2e.metrics(run)
    assert result.returncode == 0 and sorted(metrics) == [1, 2], result.stdout[-3000:]
    assert metrics[2]["frpo/kl_to_ref/k3"] > 0
    assert (run / "checkpoints/global_step_2/actor/model_world_size_2_rank_1.pt").exists()
