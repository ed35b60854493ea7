"""Does the plugin still reach every place of verl that it touches, and do the right numbers come out there?

Six toy rows go through verl's own functions in verl's own order, verl naming the columns; the results are compared with
loops over Python floats. A version of verl whose sources are unknown is judged by this, not by a hash. Not covered:
real engines and sharding, the real TransferQueue, Ray workers without the plugin, the asynchronous trainers.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf

from .. import methods
from . import metrics as pending
from . import run
from . import selftest_toy as toy
from .selftest_toy import Mismatch, expect

_running = False


# ------------------------------------------------------------------------------------------- the driver's chain


def _chain(config, keys=toy.KEYS) -> tuple[toy.Columns, dict]:
    """The columns and metrics after log-probs, reference, advantage and metrics of the V1 trainer."""
    from verl.protocol import DataProto
    from verl.trainer.ppo.v1 import trainer_base

    run.remember(config)
    columns, base = toy.Columns(keys), trainer_base.PPOTrainer
    metrics: dict = {}
    with columns.in_place_of_the_queue():
        trainer = columns.trainer(config)
        batch = base._compute_old_log_prob(trainer, columns.batch(), metrics)
        batch = base._compute_ref_log_prob(trainer, batch, metrics)
        for name, values in (("old_log_probs", toy.OLD), ("ref_log_prob", toy.REF)):
            if name not in columns.fields:
                raise Mismatch(f"column {name}: expected in the batch, came {', '.join(sorted(columns.fields))}")
            expect(f"column {name}", values, columns.rows(name))
        base._compute_advantage(trainer, batch, metrics)
        names_of_metrics = ("prompts", "responses", "response_mask", "advantages", "returns")
        data = DataProto(batch=columns.get(None, None, names_of_metrics).to_padded_tensor())
        data.batch["token_level_scores"] = data.batch["token_level_rewards"] = toy.padded(columns.rows("rm_scores"))
        attention = [toy.padded([[1] * len(row) for row in rows]) for rows in (toy.PROMPTS, toy.RESPONSES)]
        data.batch["attention_mask"] = torch.cat(attention, dim=1)
        metrics |= trainer_base.compute_data_metrics(batch=data, use_critic=False)
    return columns, metrics


def _distance(metrics: dict) -> None:
    d = toy.log_ratio()
    k3 = [[_exp_k3(v) for v in row] for row in d]
    for name, rows in (("k1", d), ("k3", k3)):
        key = f"frpo/kl_to_ref/{name}"
        expect(f"metric {key}", toy.mean_over_tokens(rows), metrics.get(key))


def _exp_k3(d: float) -> float:
    return float(torch.expm1(torch.tensor(-d, dtype=torch.float64))) + d


def v1_advantage() -> None:
    columns, metrics = _chain(toy.configuration())
    expect("advantages of adv_estimator=frpo", toy.frpo(), columns.rows("advantages"))
    _distance(metrics)


def v1_lines() -> None:
    columns, _ = _chain(toy.configuration(frpo={"step": "newline"}))
    expect("advantages of algorithm.frpo.step=newline", toy.frpo(newline=True), columns.rows("advantages"))


def other_estimators() -> None:
    loss = {"loss_mode": "f_grpo", "f_grpo": {"divergence": "js", "beta": 0.1, "weights": "softmax"}}
    columns, metrics = _chain(toy.configuration("grpo", policy_loss=loss), toy.ALONE)
    expect("advantages of grpo with f_grpo.weights=softmax", toy.softmax_weighted(), columns.rows("advantages"))
    _distance(metrics)


def advantage_of_other_trainers() -> None:
    from verl.trainer.ppo.v1 import utils

    config = toy.configuration()
    run.remember(config)
    data = utils.compute_advantage(toy_data(), adv_estimator="frpo", num_repeat=1, config=config.algorithm)
    came = [row[: len(mask)].tolist() for row, mask in zip(data.batch["advantages"], toy.MASKS, strict=True)]
    expect("advantages of adv_estimator=frpo", toy.frpo(keys=toy.ALONE), came)


def hands_batch_over() -> bool:
    """Whether this verl passes an estimator the batch if it asks for it (verl#7473): one wrap less is needed then."""
    from verl.trainer.ppo import core_algos
    from verl.trainer.ppo.v1 import utils

    name, given = "frpo_verl_asks_for_the_batch", []

    def asks(token_level_rewards, response_mask, batch=None, non_tensor_batch=None, **_):
        given.append(batch is not None and non_tensor_batch is not None)
        return token_level_rewards, token_level_rewards

    core_algos.ADV_ESTIMATOR_REGISTRY[name] = asks
    try:
        getattr(utils.compute_advantage, "__wrapped__", utils.compute_advantage)(toy_data(), name, config=None)
    finally:
        core_algos.ADV_ESTIMATOR_REGISTRY.pop(name)
    return given == [True]


def toy_data():
    """The toy batch as the trainers below V1 hold it."""
    import numpy as np
    from tensordict import TensorDict
    from verl.protocol import DataProto

    batch = {
        "responses": toy.padded(toy.RESPONSES),
        "response_mask": toy.padded(toy.MASKS),
        "token_level_rewards": toy.padded(toy.Columns().rows("rm_scores")),
        "old_log_probs": toy.padded(toy.OLD),
        "ref_log_prob": toy.padded(toy.REF),
    }
    return DataProto(TensorDict(batch, batch_size=len(toy.KEYS)), {"uid": np.array(toy.UIDS, dtype=object)})


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


# ------------------------------------------------------------------------------------------- the worker's loss


def _loss(policy_loss: dict, advantages: list[list[float]], columns: dict | None = None, **actor):
    """(loss, metrics) of verl's ppo_loss, called as its engines call it, on one micro-batch of all rows."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers import engine_workers

    base = {
        "_target_": "verl.workers.config.FSDPActorConfig", "strategy": "fsdp2", "rollout_n": 1,
        "ppo_micro_batch_size_per_gpu": 1, "use_kl_loss": False,
        "policy_loss": {"_target_": "frpo_verl.PolicyLossConfig", **policy_loss},
    }  # fmt: skip
    config = omega_conf_to_dataclass(OmegaConf.create({**base, **actor}))
    data = tu.get_tensordict(
        {
            "prompts": toy.nested(toy.PROMPTS),
            "responses": toy.nested(toy.RESPONSES),
            "response_mask": toy.nested(toy.MASKS),
            "old_log_probs": toy.nested(toy.OLD),
            "ref_log_prob": toy.nested(toy.REF),
            "advantages": toy.nested(advantages),
        }
    )
    tokens = sum(map(sum, toy.MASKS))
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=tokens, global_batch_size=len(toy.KEYS))
    full = [[0.0] * (len(p) - 1) + row + [0.0] for p, row in zip(toy.PROMPTS, toy.NEW, strict=True)]
    output = {"log_probs": toy.nested(full)}
    loss, metrics = engine_workers.ppo_loss(config=config, model_output=output, data=data, dp_group=None)
    return float(loss), metrics


def loss_with_reference() -> None:
    outcomes = toy.spread(toy.outcome())
    loss, _ = _loss({"loss_mode": "frpo", "frpo": {"kl_coef": toy.BETA}}, outcomes)
    regularizer = toy.to_go(toy.log_ratio(toy.NEW, toy.REF), keys=toy.ALONE)
    advantages = [
        [a - toy.BETA * r for a, r in zip(x, y, strict=True)] for x, y in zip(outcomes, regularizer, strict=True)
    ]
    expect("loss_mode=frpo", toy.ratio_loss(advantages), loss)


def loss_of_tokens() -> None:
    outcomes = toy.spread(toy.outcome())
    loss, metrics = _loss({"loss_mode": "atr_grpo", "clip": {"delta": 10.0}}, outcomes)
    expect("loss_mode=atr_grpo, nothing clipped", toy.ratio_loss(outcomes), loss)


def local_kl() -> None:
    outcomes = toy.spread(toy.outcome())
    loss, _ = _loss({"loss_mode": "vanilla"}, outcomes, use_kl_loss=True, kl_loss_coef=0.5, kl_loss_type="k3_is")
    expect("vanilla loss + 0.5 kl_loss_type=k3_is", toy.ratio_loss(outcomes) + 0.5 * toy.k3_is(), loss)


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

    from .guards.weights import BrokenWeights

    run.remember(toy.configuration())
    module, saved = torch.nn.Linear(1, 1), []
    torch.nn.init.constant_(module.weight, float("nan"))
    engine = SimpleNamespace(module=module, save_checkpoint=lambda *args, **kwargs: saved.append(args))
    with contextlib.suppress(BrokenWeights):
        engine_workers.TrainingWorker.save_checkpoint(SimpleNamespace(engine=engine), "folder", global_step=1)
    expect("checkpoints written of a weight that is NaN", 0, len(saved))


# ------------------------------------------------------------------------------------------- registries and files


def answers_that_do_not_come() -> None:
    from verl.trainer.ppo.v1 import replay_buffer

    from .guards.waiting import LIMIT_KEY, NoAnswers

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

    from . import validation

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


DRIVER: dict[str, Callable[[], None]] = {
    "registries of estimators and losses": registered_names,
    "utils.config.validate_config": settings_refused,
    "trainer.ppo.utils.need_reference_policy": reference_wanted,
    "trainers: __init__": runs_remembered,
    "trainer.ppo.v1: PPOTrainer._compute_advantage": v1_advantage,
    "trainer.ppo.v1: the responses and the tokenizer for steps": v1_lines,
    "trainer.ppo.v1: compute_advantage of verl's own estimators": other_estimators,
    "trainer.ppo: compute_advantage": advantage_of_other_trainers,
    "trainer.ppo.metric_utils.bootstrap_metric": bootstrap_digits,
    "utils.tracking.FileLogger": metrics_file,
    "utils.checkpoint.find_latest_ckpt_path": checkpoint_tracker,
    "experimental.agent_loop: registry": agent_loops,
    "trainer.ppo.v1.replay_buffer.ReplayBuffer": answers_that_do_not_come,
}
WORKER: dict[str, Callable[[], None]] = {
    "workers.engine_workers.ActorRolloutRefWorker.__init__": worker_knows_its_run,
    "workers.utils.losses.ppo_loss": loss_with_reference,
    "trainer.ppo.core_algos.agg_loss": loss_of_tokens,
    "trainer.ppo.core_algos.kl_penalty_forward": local_kl,
    "workers.engine_workers.TrainingWorker.save_checkpoint": broken_weights_refused,
}


@contextlib.contextmanager
def _undisturbed():
    """Leave random state, output and what the plugin knows of the process's run as they are."""
    before, kept = run.current(), pending.take()
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        run.forget() if before is None else run.remember(before.config)
        pending.take()
        pending.log(kept)


def under_way() -> bool:
    """Whether a self-test is running in this process."""
    return _running


def run_selftest(checks: dict[str, Callable[[], None]] | None = None) -> list[str]:
    """One line for each seam that does not do what it should: the seam, what was expected, what came.

    Empty: passed, and also inside a self-test that is under way. It replaces four functions of transfer_queue for its
    length, so the driver's checks belong where no thread uses the queue yet.

    Args:
        checks: DRIVER, WORKER or both (default). A training worker runs WORKER: the rest imports the trainer.
    """
    global _running
    if _running:
        return []
    _running = True
    failures = []
    try:
        with _undisturbed():
            for seam, check in (DRIVER | WORKER if checks is None else checks).items():
                try:
                    check()
                except Mismatch as mismatch:
                    failures.append(f"{seam}: {mismatch}")
                except Exception as error:  # noqa: BLE001 - whatever verl does instead is the finding
                    text = " ".join(str(error).split())[:300]
                    failures.append(
                        f"{seam}: expected the toy batch to pass, came {type(error).__name__}: {text}{toy.place_of(error)}"
                    )
    finally:
        _running = False
    return failures
