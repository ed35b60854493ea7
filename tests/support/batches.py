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
        "token_level_rewards": rewards,
        "token_level_scores": rewards,
        "response_mask": mask,
        "old_log_probs": old,
    }
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


def advantages(data, estimator="frpo", **frpo):
    norm = frpo.get("norm", True)
    metrics.take()  # those of earlier advantages
    return compute_advantage(
        data, adv_estimator=estimator, norm_adv_by_std_in_grpo=norm, config=algorithm(estimator, **frpo)
    ).batch["advantages"]


def session_batch(dtype=torch.float64):
    """Two prompts, two sessions each; session 1 of prompt a has three outputs, and rows are shuffled."""
    keys = ["a_0_0", "a_1_0", "a_1_1", "a_1_2", "b_0_0", "b_1_0"]
    order = [3, 0, 4, 1, 5, 2]
    rewards, mask, old, ref, _ = random_batch(rows=6, dtype=dtype)
    rewards = torch.zeros_like(rewards)
    last = mask.sum(-1) - 1
    for i, score in enumerate([0.0, 1.0, 1.0, 1.0, 1.0, 0.0]):
        rewards[i, last[i]] = score
    uid = [k.split("_")[0] for k in keys]
    data = batch(rewards[order], mask[order], old[order], ref[order], [uid[i] for i in order])
    return data, [keys[i] for i in order], old[order], ref[order], mask[order]


def by_session(data, keys, estimator, **frpo):
    return compute_advantage_for_multi_trajectories(
        data, batch_keys=keys, adv_estimator=estimator, config=algorithm(**frpo)
    ).batch["advantages"]
