"""What a run computes, writes and asks, in each of verl's trainers, without Ray: verl's own functions on one small batch.

Only what stands between them is stood in for: a queue in memory, a tokenizer of letters, rows of a table of logits.
"""

import inspect
import json
from contextlib import ExitStack
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
import transfer_queue
import verl.experimental.fully_async_policy.fully_async_main
import verl.experimental.one_step_off_policy.main_ppo
import verl.trainer.main_ppo
from loss_batch import log_prob_of, make_rows, micro_batch, model_output
from omegaconf import open_dict
from queues import Queue
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.one_step_off_policy.ray_trainer import OneStepOffRayTrainer
from verl.experimental.separation.ray_trainer import SeparateRayPPOTrainer
from verl.trainer.ppo import ray_trainer, utils
from verl.trainer.ppo.v1 import get_trainer_cls, replay_buffer, trainer_base
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

from frpo_verl.verl_plugin import metrics, run, start
from frpo_verl.verl_plugin.batch import STEP

PROMPTS, N, WIDTH, LAST = 6, 4, 6, 3
TRAINERS = {
    "sync": [],
    "colocate_async": ["trainer.v1.trainer_mode=colocate_async"],
    "separate_async": ["trainer.v1.trainer_mode=separate_async"],
    "legacy": ["trainer.use_v1=false"],
    "one_step_off": ["+rollout.nnodes=1", "actor_rollout_ref.hybrid_engine=false"],
    "fully_async": ["+async_training.staleness_threshold=0.1", "+rollout.nnodes=1", "actor_rollout_ref.hybrid_engine=false"],
}  # fmt: skip
V1 = ("sync", "colocate_async", "separate_async")
MAINS = {
    "one_step_off": verl.experimental.one_step_off_policy.main_ppo,
    "fully_async": verl.experimental.fully_async_policy.fully_async_main,
}


class Letters:
    """Token 0 is a line break."""

    def decode(self, ids, **_):
        return "".join("\nabcdefgh"[int(i)] for i in ([ids] if isinstance(ids, int) else ids))


def rows_of(seed=0):
    """Answers with scores; ratios to the older policy on both sides of every bound."""
    rows = make_rows(PROMPTS * N, width=WIDTH, seed=seed)
    g = torch.Generator().manual_seed(seed)
    for row, score in zip(rows, torch.rand(len(rows), generator=g, dtype=torch.float64), strict=True):
        row["score"] = score
        log_prob = log_prob_of(row).detach()
        row["old_log_probs"] = log_prob + 1.6 * torch.randn(log_prob.shape, generator=g, dtype=torch.float64)
    return rows


def padded(column):
    return torch.nn.utils.rnn.pad_sequence([c.float() for c in column], batch_first=True)


def observe(config, trainer, tmp_path):
    """What is there to be seen of a run afterwards, by name.

    Args:
        config: accepted by the checks; changed as the plugin changes it.
        trainer: of TRAINERS.
        tmp_path: where the run's files are looked for.
    """
    asked = []
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(start, "atexit", SimpleNamespace(register=lambda *a: asked.append(a))))
        stack.enter_context(mock.patch("frpo_verl.verl_plugin.batch.load_tokenizer", lambda path: Letters()))
        run.forget()
        metrics.take()
        begin(config, trainer)
        rows = rows_of()
        found = {
            "report": [function.__name__ for function, _ in asked],
            "environment": (tmp_path / "run/environment.json").exists(),
        }
        found["limit"] = limit(config) if trainer in V1 else None
        found["advantages"] = compute(config, trainer, rows, found)
        found["metrics"] = metrics.take()
        for row, advantage in zip(rows, found["advantages"], strict=True):
            row["advantages"] = advantage[: len(row["tokens"])].double()
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
        found["gradients"] = gradients(rows, actor, utils.need_reference_policy(config))
        found["files"] = {
            str(file.relative_to(tmp_path)): sorted(map(json.dumps, map(json.loads, file.read_text().splitlines())))
            for file in tmp_path.rglob("*.jsonl")
        }
        rows = rows_of()
        rows[1]["ref_log_prob"][0] = torch.nan
        found["nonfinite"] = raised(compute, config, trainer, rows, {})
        metrics.take()
        run.forget()
    return found


def gradients(rows, actor, reference):
    """Of every row's logits, by the loss that the workers call."""
    tokens = int(sum(row["response_mask"].sum() for row in rows))
    data = micro_batch(rows, tokens, len(rows), reference)
    tu.assign_non_tensor(data, **{STEP: LAST})
    ppo_loss(actor, model_output(rows), data)[0].backward()
    return [row["logits"].grad.clone() for row in rows]


def raised(function, *args):
    """What it returns, or the kind of its error."""
    try:
        return function(*args)
    except (FloatingPointError, RuntimeError) as error:
        return type(error).__name__


def begin(config, trainer):
    """verl's own order: the command's process validates where its `main` says so, the trainer is built."""
    main = MAINS.get(trainer, verl.trainer.main_ppo).main
    if "validate_config(" in inspect.getsource(inspect.unwrap(main)):
        start.prepare(config)
    if trainer in MAINS:
        utils.need_reference_policy(config)
        return
    kind = trainer_base.PPOTrainer if trainer in V1 else ray_trainer.RayPPOTrainer
    try:
        kind.__init__(SimpleNamespace(), *[config] * (1 if trainer in V1 else 10))
    except Exception:  # noqa: BLE001 - verl's constructor wants more than a configuration; the plugin's wrap came first
        assert run.current().config is config


def limit(config):
    """How long verl's buffer of this mode looks for answers that do not come."""
    mode = config.trainer.v1.trainer_mode
    kind = replay_buffer.ReplayBuffer if mode == "sync" else replay_buffer.ReplayBufferAsync
    with mock.patch.object(replay_buffer, "tq", SimpleNamespace(kv_list=dict)):
        with mock.patch("frpo_verl.verl_plugin.guards.waiting.actors", set):
            buffer = kind(mode, config.trainer.v1.get(mode, {}), 8, "drop", {}, poll_interval=0.01)
            buffer._sync_metadata_from_transfer_queue()
    return buffer.frpo_silence.limit


def compute(config, trainer, rows, found):
    """The advantages that this trainer's own function leaves, (B, WIDTH); `found` gets what missing answers did."""
    uids = [f"p{i % PROMPTS}" for i in range(len(rows))]
    scores = torch.zeros(len(rows), WIDTH)
    for i, row in enumerate(rows):
        scores[i, len(row["tokens"]) - 1] = row["score"]
    names = ["response_mask", "old_log_probs", *(["ref_log_prob"] if utils.need_reference_policy(config) else [])]
    if trainer in V1:
        return from_queue(config, trainer, rows, uids, scores, names, found)
    columns = {name: padded([row[name] for row in rows]) for name in names}
    columns["responses"] = padded([row["tokens"] for row in rows]).long()
    batch = DataProto(
        batch=TensorDict(columns, batch_size=len(rows)), non_tensor_batch={"uid": np.array(uids, dtype=object)}
    )
    if trainer == "legacy":
        batch.batch["token_level_scores"] = batch.batch["token_level_rewards"] = scores
        algorithm = config.algorithm
        return ray_trainer.compute_advantage(
            batch, adv_estimator=algorithm.adv_estimator, gamma=algorithm.gamma, lam=algorithm.lam, num_repeat=N,
            norm_adv_by_std_in_grpo=algorithm.norm_adv_by_std_in_grpo, config=algorithm,
        ).batch["advantages"]  # fmt: skip
    kind = OneStepOffRayTrainer if trainer == "one_step_off" else SeparateRayPPOTrainer
    self = SimpleNamespace(config=config, metrics={}, timing_raw={}, reward_tensor=scores, reward_extra_infos_dict={})
    return kind._fit_compute_advantage(self, batch).batch["advantages"]


def from_queue(config, trainer, rows, uids, scores, names, found):
    queue, keys = Queue(), []
    for i, (row, uid) in enumerate(zip(rows, uids, strict=True)):
        keys.append(f"{uid}_{i // PROMPTS}_0")
        length = len(row["tokens"])
        preference = {"preference": (1, -1)[i % 2]} if i > 2 * PROMPTS else {}
        queue.rows[keys[-1]] = {
            "uid": uid, "prompts": torch.tensor([3, 4]), "responses": row["tokens"], "rm_scores": scores[i, :length],
            "extra_fields": preference, **{name: row[name].float() for name in names},
        }  # fmt: skip
    trainer_self = SimpleNamespace(config=config, tokenizer=Letters(), global_steps=LAST, total_training_steps=LAST)
    function = get_trainer_cls(trainer)._compute_advantage
    with mock.patch.multiple(transfer_queue, kv_batch_get=queue.get, kv_batch_put=queue.put):
        function(trainer_self, transfer_queue.KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id="train"), {})
        result = torch.nn.utils.rnn.pad_sequence([queue.rows[key]["advantages"] for key in keys], batch_first=True)
        tags = [{"is_padding": i < 2 * len(keys) // 3} for i in range(len(keys))]  # two thirds were never answered
        batch = transfer_queue.KVBatchMeta(keys=keys, tags=tags, partition_id="train")
        found["missing"] = type(raised(function, trainer_self, batch, {})) is str
        trainer_self.global_steps += 1
        raised(
            function,
            trainer_self,
            transfer_queue.KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id="train"),
            {},
        )
        found["next step"] = [queue.rows[key]["advantages"] for key in keys]
    return result


def set_keys(config, typed):
    """A copy of a configuration with these keys."""
    from omegaconf import OmegaConf

    config = config.copy()
    with open_dict(config):
        for key, value in typed.items():
            OmegaConf.update(config, key, value, force_add=True)
    return config
