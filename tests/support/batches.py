"""Batches as verl's trainers hand them to its advantage functions, and the advantages that come back."""

import numpy as np
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.ray_trainer import compute_advantage

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
