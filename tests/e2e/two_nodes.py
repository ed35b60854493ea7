"""Two Ray nodes on this machine: `python two_nodes.py plugin|without|train [overrides...]`, each in a process of its own.

plugin    both nodes load the plugin by its entry point
modules   the second node's entry points are closed; the plugin comes by VERL_USE_EXTERNAL_MODULES in runtime_env
without   the second node's workers do not load it
train     main_ppo, one rank on each node; the rest of the command line is main_ppo's
"""

from __future__ import annotations

import os
import subprocess
import sys

import ray
from ray.cluster_utils import Cluster

CLOSED = {"VERL_USE_EXTERNAL_PLUGINS": "none"}


def start(second: dict[str, str]) -> Cluster:
    resources = {"num_cpus": 16, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 200 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=resources)
    resources.pop("include_dashboard")
    cluster.add_node(**resources, env_vars=second)
    cluster.wait_for_nodes()
    return cluster


def main() -> int:
    kind, overrides = sys.argv[1], sys.argv[2:]
    cluster = start({} if kind in ("plugin", "train") else CLOSED)
    try:
        if kind == "train":
            environment = {**os.environ, "RAY_ADDRESS": cluster.address}
            return subprocess.run(
                [sys.executable, "-m", "verl.trainer.main_ppo", *overrides], env=environment
            ).returncode
        from frpo_verl.verl_plugin.guards.nodes import check_nodes

        variables = {"VERL_USE_EXTERNAL_MODULES": "frpo_verl"} if kind == "modules" else {}
        ray.init(address=cluster.address, runtime_env={"env_vars": variables}, log_to_driver=False)
        try:
            check_nodes()
        except ValueError as error:
            print(f"REFUSED {error}")
            return 3
        finally:
            ray.shutdown()
        print(f"ALL {len(cluster.list_all_nodes())} NODES")
        return 0
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
