"""What a run of ours starts with: it is checked, given its class for `policy_loss`, and leaves its environment in `run_dir`.

main_ppo asks verl's `validate_config` in the command's own process, and its trainers' constructors in the process that
trains. verl.experimental's trainers do neither in time, but ask `need_reference_policy` before they make a worker.
"""

from __future__ import annotations

import atexit
import sys
from typing import Any

from omegaconf import OmegaConf, open_dict

from ..methods.settings import ACTOR, POLICY_LOSS
from .checks import check_config
from .guards.nodes import check_nodes
from .run import EXPERIMENTAL, Run, current, remember


def needs_reference(config: Any) -> bool:
    """Whether a method of ours reads a reference model; verl.experimental's trainers start here.

    Raises:
        ConfigError: a setting is wrong.
    """
    run = Run(config)
    if run.trainer in EXPERIMENTAL:
        validate(config)
        known = current()
        if known is None or known.config is not config:
            begin(config)
    return run.needs_reference


def validate(config: Any) -> None:
    """Check a run and prepare it.

    Raises:
        ConfigError: a setting is wrong.
    """
    check_config(config)
    prepare(config)


def prepare(config: Any) -> None:
    """Give a run of ours the class that knows our sections of `policy_loss`, by which workers know the run too.

    `seq-mean-token-sum-norm` gets its factor: without one verl divides by the width to which a micro-batch happens to be
    padded. `report: true` writes the report into `run_dir` when this process, the command's own, ends.
    """
    from .policy_loss_config import TARGET

    run, key = Run(config), f"{POLICY_LOSS}._target_"
    if not run.ours:
        return
    if run.get("report", False):
        from ..report.build import write_report

        atexit.register(write_report, run.get("run_dir"))
    if OmegaConf.select(config, key) == "verl.workers.config.PolicyLossConfig":
        with open_dict(config):
            OmegaConf.update(config, key, TARGET)
    by_width = run.get(f"{ACTOR}.loss_agg_mode") == "seq-mean-token-sum-norm"
    if by_width and run.get(f"{ACTOR}.loss_scale_factor") is None:
        longest = int(run.get("data.max_response_length", 512))
        OmegaConf.update(config, f"{ACTOR}.loss_scale_factor", longest)
        print(
            f"frpo_verl: {ACTOR}.loss_scale_factor={longest} (data.max_response_length), because verl would divide each "
            "micro-batch by its own padded length; set it for another constant",
            file=sys.stderr,
            flush=True,
        )


def begin(config: Any) -> None:
    """The process that trains learns its run.

    For a run of ours every node of the cluster must have the plugin, and `run_dir` gets the commit and the versions.
    """
    run = remember(config)
    if not run.ours:
        return
    import ray

    if ray.is_initialized():
        check_nodes()
    if run.get("run_dir") is not None:
        from ..report.environment import write_environment

        write_environment(run.get("run_dir"))
