"""The driver: its chain of log-probs, reference, advantage and metrics in verl's own order, and what it refuses."""

from __future__ import annotations

import inspect

import numpy as np
import torch
from omegaconf import OmegaConf

from ...core.losses.f_grpo import softmax_weights
from .. import run
from . import toy
from .toy import Mismatch, expect


def _chain(config, keys=toy.KEYS) -> tuple[torch.Tensor, dict]:
    """The advantages and metrics after log-probs, reference, advantage and metrics of the V1 trainer."""
    from verl.protocol import DataProto
    from verl.trainer.ppo.v1 import trainer_base

    run.remember(config)
    queue, base = toy.Queue(keys), trainer_base.PPOTrainer
    metrics: dict = {}
    with toy.in_place_of_the_queue(kv_batch_get=queue.get, kv_batch_put=queue.put):
        trainer = queue.trainer(config)
        batch = base._compute_old_log_prob(trainer, queue.batch(), metrics)
        batch = base._compute_ref_log_prob(trainer, batch, metrics)
        for name, values in (("old_log_probs", toy.OLD), ("ref_log_prob", toy.REF)):
            if name not in queue.fields:
                raise Mismatch(f"column {name}: expected in the batch, came {', '.join(sorted(queue.fields))}")
            expect(f"column {name}", values, queue.padded(name))
        base._compute_advantage(trainer, batch, metrics)
        names_of_metrics = ("prompts", "responses", "response_mask", "advantages", "returns")
        data = DataProto(batch=queue.get(None, None, names_of_metrics).to_padded_tensor())
        data.batch["token_level_scores"] = data.batch["token_level_rewards"] = queue.padded("rm_scores")
        attention = [toy.padded([[1] * len(row) for row in rows]) for rows in (toy.PROMPTS, toy.RESPONSES)]
        data.batch["attention_mask"] = torch.cat(attention, dim=1)
        metrics |= trainer_base.compute_data_metrics(batch=data, use_critic=False)
    return queue.padded("advantages"), metrics


def _distance(metrics: dict) -> None:
    for key in ("frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3"):
        expect(f"metric {key}", toy.frpo().metrics[key], metrics.get(key))


def v1_advantage() -> None:
    advantages, metrics = _chain(toy.configuration())
    expect("advantages of adv_estimator=frpo", toy.frpo().advantages, advantages)
    _distance(metrics)


def v1_lines() -> None:
    advantages, _ = _chain(toy.configuration(frpo={"step": "newline"}))
    expect("advantages of algorithm.frpo.step=newline", toy.frpo(newline=True).advantages, advantages)


def other_estimators() -> None:
    loss = {"loss_mode": "f_grpo", "f_grpo": {"divergence": "js", "beta": 0.1, "weights": "softmax"}}
    advantages, metrics = _chain(toy.configuration("grpo", policy_loss=loss), toy.ALONE)
    rows = toy.outcome(toy.ALONE)
    weighted = rows * softmax_weights(toy.SCORES, toy.OLD.sum(-1), rows, toy.UIDS)
    expect("advantages of grpo with f_grpo.weights=softmax", toy.spread(weighted), advantages)
    _distance(metrics)


def advantage_of_other_trainers() -> None:
    from verl.trainer.ppo.v1 import utils

    config = toy.configuration()
    run.remember(config)
    data = utils.compute_advantage(toy_data(), adv_estimator="frpo", num_repeat=1, config=config.algorithm)
    expect("advantages of adv_estimator=frpo", toy.frpo(keys=toy.ALONE).advantages, data.batch["advantages"])


def reference_wanted() -> None:
    from verl.trainer import main_ppo
    from verl.trainer.ppo.v1 import trainer_base

    for module in (main_ppo, trainer_base):
        for estimator, wanted in (("frpo", True), ("grpo", False)):
            came = bool(module.need_reference_policy(toy.configuration(estimator)))
            expect(f"{module.__name__}.need_reference_policy for adv_estimator={estimator}", wanted, came)


def settings_refused() -> None:
    from verl.trainer import main_ppo

    try:
        main_ppo.validate_config(toy.configuration(n=1), use_reference_policy=True, use_critic=False)
    except ValueError as error:
        if "actor_rollout_ref.rollout.n=1" in str(error):
            return
        raise
    raise Mismatch("actor_rollout_ref.rollout.n=1 with adv_estimator=frpo: expected a ConfigError, came no error")


def answers_that_do_not_come() -> None:
    from verl.trainer.ppo.v1 import replay_buffer

    from ..guards.waiting import LIMIT_KEY, NoAnswers

    config = toy.configuration()
    config[LIMIT_KEY] = 1e-3
    run.remember(config)
    for status in ("running", "failure"):
        buffer = replay_buffer.ReplayBuffer(
            trainer_mode="sync", trainer_config=config.trainer, max_off_policy_threshold=1,
            max_off_policy_strategy="drop", sampler_kwargs=OmegaConf.create({}), poll_interval=1e-3,
        )  # fmt: skip
        came = "no error"
        with toy.queue_of_one_prompt(status):
            try:
                buffer.sample(global_steps=1, partition_id="train", batch_size=1)
            except Exception as error:  # noqa: BLE001 - what came is compared below
                came = type(error).__name__
        expect(f"the end of a run whose only prompt is {status}", NoAnswers.__name__, came)


def bootstrap_digits() -> None:
    from verl.trainer.ppo import metric_utils

    run.remember(toy.configuration())
    call, state = dict(data=[0.0, 1.0, 0.25], subset_size=2, reduce_fns=[np.max, np.min]), np.random.get_state()
    try:
        came = [list(pair) for pair in metric_utils.bootstrap_metric(**call)]
        wanted = [list(pair) for pair in inspect.unwrap(metric_utils.bootstrap_metric)(**call)]
    finally:
        np.random.set_state(state)
    expect("best and worst of 2 of 3 answers", wanted, came)


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
    from tensordict import TensorDict
    from verl.protocol import DataProto

    batch = {
        "responses": toy.padded(toy.RESPONSES),
        "response_mask": toy.padded(toy.MASKS),
        "token_level_rewards": toy.Queue().padded("rm_scores"),
        "old_log_probs": toy.OLD,
        "ref_log_prob": toy.REF,
    }
    return DataProto(TensorDict(batch, batch_size=len(toy.KEYS)), {"uid": np.array(toy.UIDS, dtype=object)})
