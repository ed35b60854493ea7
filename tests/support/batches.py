"""Batches as verl's trainers hand them to its advantage functions, and the advantages that come back."""

import numpy as np
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

from frpo_verl.verl_plugin import metrics


def batch(rewards, mask, old, ref, uid) -> DataProto:
    """A DataProto as verl's trainers hand it to compute_advantage; the score sits on the last valid token."""
    tensors = {
        "token_level_rewards": rewards, "token_level_scores": rewards, "response_mask": mask, "old_log_probs": old,
    }  # fmt: skip
    if ref is not None:
        tensors["ref_log_prob"] = ref
    data = DataProto(batch=TensorDict(tensors, batch_size=len(mask)))
    data.non_tensor_batch["uid"] = np.array(uid, dtype=object)
    return data


def random_batch(rows=12, width=7, groups=3, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    length = torch.randint(1, width + 1, (rows,), generator=g)
    mask = (torch.arange(width) < length[:, None]).long()
    rewards = torch.zeros(rows, width, dtype=dtype)
    rewards[torch.arange(rows), length - 1] = torch.rand(rows, generator=g, dtype=dtype).round()
    old = -torch.rand(rows, width, generator=g, dtype=dtype) - 0.1
    ref = -torch.rand(rows, width, generator=g, dtype=dtype) - 0.1
    uid = [f"p{i % groups}" for i in range(rows)]
    return rewards, mask, old, ref, uid


def algorithm(estimator="frpo", **frpo):
    norm = frpo.pop("norm", True)
    return OmegaConf.create({"adv_estimator": estimator, "norm_adv_by_std_in_grpo": norm, "frpo": frpo})


def of_a_run(estimator="grpo", actor=None, composed_by="frpo_verl", **algorithm):
    """The `algorithm` section of a whole run, by default of a recipe, as verl's trainers hand it over."""
    sections = {"algorithm": {"adv_estimator": estimator, **algorithm}, "actor_rollout_ref": {"actor": actor or {}}}
    return OmegaConf.create({"composed_by": composed_by, **sections}).algorithm


def advantages(data, estimator="frpo", **frpo):
    norm = frpo.get("norm", True)
    metrics.take()  # those of earlier advantages
    return compute_advantage(
        data, adv_estimator=estimator, norm_adv_by_std_in_grpo=norm, config=algorithm(estimator, **frpo)
    ).batch["advantages"]


# prompt p: sessions of 1, 3 and 2 rows, index 1 of the last one missing; q: two sessions of one row; a pad row
SESSION_KEYS = ["p_0_0", "p_1_0", "p_1_1", "p_1_10", "p_2_0", "p_2_2", "q_0_0", "q_1_0", "pad_0_0"]
SESSIONS = [[0], [1, 2, 3], [4, 5], [6], [7], [8]]
SESSION_SCORES = [0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 1.0, 0.0, 0.0]
SESSION_MASKS = [[1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 1], [1] * 4, [1, 1, 0, 0], [0] * 4]  # fmt: skip


def session_batch(seed=0, dtype=torch.float64):
    """verl's batch of SESSION_KEYS in a random order, its keys, and the place of each key in it."""
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(SESSION_KEYS), generator=g).tolist()
    mask = torch.tensor(SESSION_MASKS)
    old, ref = (torch.where(mask > 0, -torch.rand(mask.shape, generator=g, dtype=dtype), torch.nan) for _ in range(2))
    rewards = torch.zeros(mask.shape, dtype=dtype)
    for i, score in enumerate(SESSION_SCORES):
        rewards[i, int(mask[i].nonzero().max()) if mask[i].any() else 0] = score
    data = batch(rewards[order], mask[order], old[order], ref[order], [SESSION_KEYS[i].split("_")[0] for i in order])
    place = [order.index(i) for i in range(len(SESSION_KEYS))]
    return data, [SESSION_KEYS[i] for i in order], place


def by_session(data, keys, estimator="frpo", config=None, **frpo):
    metrics.take()
    return compute_advantage_for_multi_trajectories(
        data,
        batch_keys=keys,
        adv_estimator=estimator,
        config=algorithm(estimator, **frpo) if config is None else config,
    ).batch["advantages"]
