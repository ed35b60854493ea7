"""What a run of ours starts with: it is checked, given its class for `policy_loss`, and leaves its environment in `run_dir`.

main_ppo asks verl's `validate_config` in the command's own process, and its trainers' constructors in the process that
trains. verl.experimental's trainers do neither in time, but ask `need_reference_policy` before they make a worker.
"""

from __future__ import annotations

import atexit
from typing import Any

from omegaconf import OmegaConf, open_dict

from ..methods.settings import ACTOR, POLICY_LOSS
from . import checks
from .checks import template
from .guards.nodes import check_nodes
from .hooks import Call, say
from .run import EXPERIMENTAL, Run, current, current_of_ours, remember, remember_part


def around_need_reference(call: Call) -> bool:
    """Around verl's `need_reference_policy`: a method of ours may read a reference; verl.experimental's trainers start here.

    Raises ConfigError: a setting is wrong.
    """
    config = call["config"]
    run = Run(config)
    if run.trainer in EXPERIMENTAL:
        validate(config)
        known = current()
        if known is None or known.config is not config:
            begin(config)
    return run.needs_reference or bool(call())


def around_validate_config(call: Call) -> Any:
    """Around verl's `validate_config`, which the command's own process calls."""
    validate(call["config"])
    return call()


def around_trainer(call: Call) -> Any:
    """Around a trainer's constructor, in the process that trains."""
    begin(call["config"])
    return call()


def around_dataloader(call: Call) -> Any:
    """Around verl's `_init_dataloader`: are the rows enough that filters have left, and does the engine stop at an answer's end?"""
    result, trainer, run = call(), call["self"], current_of_ours()
    if run is not None:
        checks.refuse(checks.data.too_few_rows(run, len(trainer.train_dataset)))
        template.warn_of_end(run, trainer.tokenizer)
    return result


def around_worker(call: Call) -> Any:
    """Around a training worker's constructor, which is given a part of the configuration."""
    remember_part(call["config"])
    return call()


def validate(config: Any) -> None:
    """Check a run and prepare it. Raises ConfigError: a setting is wrong."""
    checks.check_config(config)
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
        say(
            f"{ACTOR}.loss_scale_factor={longest} (data.max_response_length), because verl would divide each "
            "micro-batch by its own padded length; set it for another constant"
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
