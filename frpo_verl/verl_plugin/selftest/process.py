"""What a process is told of its run, and what it refuses, registers and keeps."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf

from ... import methods
from .. import run
from . import toy
from .toy import Mismatch, expect


def reference_wanted() -> None:
    from verl.trainer import main_ppo
    from verl.trainer.ppo.v1 import trainer_base

    for module in (main_ppo, trainer_base):
        for estimator, wanted in (("frpo", True), ("grpo", False)):
            came = bool(module.need_reference_policy(toy.configuration(estimator)))
            expect(f"{module.__name__}.need_reference_policy for adv_estimator={estimator}", wanted, came)


class _Stop(Exception):
    pass


class _Unbuilt:
    """A trainer whose construction ends at its first assignment."""

    def __setattr__(self, name, value):
        raise _Stop


def runs_remembered() -> None:
    from verl.trainer.ppo.v1 import trainer_base

    trainers = [trainer_base.PPOTrainer]
    with contextlib.suppress(ImportError):  # a verl without the legacy trainer
        from verl.trainer.ppo.ray_trainer import RayPPOTrainer

        trainers.append(RayPPOTrainer)
    for trainer in trainers:
        run.forget()
        config = toy.configuration()
        with contextlib.suppress(_Stop, TypeError):
            trainer.__init__(_Unbuilt(), config)
        known = run.current()
        came = known is not None and known.config is config
        expect(f"{trainer.__name__}.__init__ tells the plugin its run", True, came)


def settings_refused() -> None:
    from verl.trainer import main_ppo

    try:
        main_ppo.validate_config(toy.configuration(n=1), use_reference_policy=True, use_critic=False)
    except ValueError as error:
        if "actor_rollout_ref.rollout.n=1" in str(error):
            return
        raise
    raise Mismatch("actor_rollout_ref.rollout.n=1 with adv_estimator=frpo: expected a ConfigError, came no error")


def worker_knows_its_run() -> None:
    from verl.workers import engine_workers

    run.forget()
    config = toy.configuration().actor_rollout_ref
    with contextlib.suppress(Exception):
        engine_workers.ActorRolloutRefWorker.__init__(_Unbuilt(), config, role="actor")
    seen = run.current()
    came = None if seen is None else seen.get("actor_rollout_ref.rollout.name")
    expect("the run that a worker is told by its __init__, rollout.name", "hf", came)


def broken_weights_refused() -> None:
    from verl.workers import engine_workers

    from ..guards.weights import BrokenWeights

    run.remember(toy.configuration())
    module, saved = torch.nn.Linear(1, 1), []
    torch.nn.init.constant_(module.weight, float("nan"))
    engine = SimpleNamespace(module=module, save_checkpoint=lambda *args, **kwargs: saved.append(args))
    with contextlib.suppress(BrokenWeights):
        engine_workers.TrainingWorker.save_checkpoint(SimpleNamespace(engine=engine), "folder", global_step=1)
    expect("checkpoints written of a weight that is NaN", 0, len(saved))


def answers_that_do_not_come() -> None:
    from verl.trainer.ppo.v1 import replay_buffer

    from ..guards.waiting import LIMIT_KEY, NoAnswers

    config = toy.configuration()
    config[LIMIT_KEY] = 1e-3
    run.remember(config)

    def buffer():
        return replay_buffer.ReplayBuffer(
            trainer_mode="sync", trainer_config=config.trainer, max_off_policy_threshold=1,
            max_off_policy_strategy="drop", sampler_kwargs=OmegaConf.create({}), poll_interval=1e-3,
        )  # fmt: skip

    def endless():
        waiting = buffer()
        for _ in range(2):
            waiting._sync_metadata_from_transfer_queue()
            time.sleep(2e-3)

    def failed():
        buffer().sample(global_steps=1, partition_id="train", batch_size=1)

    for status, look in (("running", endless), ("failure", failed)):
        came = "no error"
        with toy.queue_of_one_prompt(status):
            try:
                look()
            except Exception as error:  # noqa: BLE001 - what came is compared below
                came = type(error).__name__
        expect(f"the end of a run whose only prompt is {status}", NoAnswers.__name__, came)


def registered_names() -> None:
    from verl.trainer.ppo import core_algos

    for kind, find in (
        ("estimator", core_algos.get_adv_estimator_fn),
        ("policy_loss", core_algos.get_policy_loss_fn),
    ):
        for name in methods.of_kind(kind):
            ours = bool(getattr(find(name), "frpo_verl", False))
            expect(f"{methods.KINDS[kind]}={name} is the plugin's", True, ours)


def agent_loops() -> None:
    from hydra.utils import get_class
    from verl.experimental.agent_loop import agent_loop

    loop = get_class(agent_loop._agent_loop_registry["recorded_response"]["_target_"])
    expect("agent_name=recorded_response is an AgentLoopBase", True, issubclass(loop, agent_loop.AgentLoopBase))


def metrics_file() -> None:
    from verl.utils import tracking

    run.remember(toy.configuration())
    variable = "VERL_FILE_LOGGER_PATH"
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        path.write_text("{}\n")
        os.environ[variable] = str(path)
        try:
            tracking.FileLogger("project", "experiment").finish()
        finally:
            os.environ.pop(variable)
            os.environ |= {variable: before} if before is not None else {}
        kept = sorted(p.name for p in path.parent.iterdir())
    expect("files after a run that resumes", ["metrics.1.jsonl", "metrics.jsonl"], kept)


def checkpoint_tracker() -> None:
    from verl.trainer.ppo.v1 import trainer_base

    run.remember(toy.configuration())
    with tempfile.TemporaryDirectory() as folder:
        complete = Path(folder, "global_step_7")
        complete.mkdir()
        (complete / "data.pt").touch()
        Path(folder, "latest_checkpointed_iteration.txt").touch()  # as a run leaves it that is killed in that moment
        came = trainer_base.find_latest_ckpt_path(folder)
    expect("checkpoint behind an empty tracker file", str(complete), came)


def bootstrap_digits() -> None:
    import inspect

    import numpy as np
    from verl.trainer.ppo import metric_utils

    from .. import validation

    run.remember(toy.configuration())
    state, ours = np.random.get_state(), metric_utils.bootstrap_metric
    validation._draws.cache_clear()
    try:
        came, wanted = (
            [list(pair) for pair in bootstrap(data=[0.0, 1.0, 0.25], subset_size=2, reduce_fns=[np.max, np.min])]
            for bootstrap in (ours, inspect.unwrap(ours))
        )
    finally:
        np.random.set_state(state)
    expect("best and worst of 2 of 3 answers", wanted, came)
    expect("tables of draws that were made for it", 1, validation._draws.cache_info().currsize)
