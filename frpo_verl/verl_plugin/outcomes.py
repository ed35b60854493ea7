"""The reward's part of an advantage, by any estimator of verl's registry.

    A_t = A^NAME - beta * reg_t        algorithm.frpo.outcome=NAME

verl's own dispatch computes A^NAME with all that verl hands an estimator. The rows of a session are one response: its last
row has the reward, and all its rows share the value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo import core_algos

from ..core.chunks import last_rows, rows_of_answers, write_rows
from ..core.groups import group_advantages
from ..core.losses.terms import row_value
from ..core.tokens import dense_ids, keep
from .batch import Batch


def outcome_of(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, name: str, norm: bool) -> torch.Tensor:
    """A^NAME of token rewards: (B,) where `grpo` or `none` is asked for, else (B, T), one value for each token.

    Raises RuntimeError: an estimator that tells tokens apart, and a session of several rows.
    """
    if name == "none":
        return rewards.new_zeros(len(rewards))
    if name == "grpo":
        return grpo_rows(view, rewards.sum(dim=-1), norm)
    columns = _columns(view, rewards, mask)
    if not view.sessions:
        return _by_verl(view, columns, name, norm)

    def of(last: torch.Tensor) -> torch.Tensor:
        return row_value(_by_verl(view, columns.select_idxs(last), name, norm), mask[last].bool(), "advantages")

    try:
        return by_answer(view, of)
    except ValueError as error:
        raise RuntimeError(
            f"algorithm.frpo.outcome={name} gives each token an advantage of its own, and this batch has sessions of several "
            "rows: set outcome=grpo, or an agent loop that returns one output"
        ) from error


def by_answer(view: Batch, compute: Callable[[Any], torch.Tensor]) -> torch.Tensor:
    """(B,) on all rows of an answer the value that `compute` has for its last row, by whose index it is called."""
    answers = rows_of_answers(len(view.mask), **view.sessions)
    values = compute(last_rows(answers))
    rows = values.new_zeros(len(view.mask))
    write_rows(values, answers, rows)
    return rows


def grpo_tokens(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, norm: bool) -> torch.Tensor:
    """verl's `grpo` advantage of token rewards, its rule for sessions included; (B, width of the rewards)."""
    uid = view.data.non_tensor_batch.get("uid")
    if view.session_rule is None:
        return core_algos.compute_grpo_outcome_advantage(
            token_level_rewards=rewards, response_mask=mask, index=uid, norm_adv_by_std_in_grpo=norm
        )[0]
    columns = TensorDict({"token_level_rewards": rewards, "response_mask": mask}, batch_size=len(mask))
    data = DataProto(batch=columns, non_tensor_batch={"uid": uid})
    return view.session_rule(
        data,
        batch_keys=view.row_keys,
        adv_estimator=core_algos.AdvantageEstimator.GRPO,
        norm_adv_by_std_in_grpo=norm,
        config=None,
    ).batch["advantages"]


def grpo_rows(view: Batch, scores: torch.Tensor, norm: bool) -> torch.Tensor:
    """The same for one score a response, (B,), in float64 and without verl's loop over the rows.

    Where sessions have several outputs, verl's rule for them on a batch that is one token wide.
    """
    groups = view.groups
    if groups is not None and not view.sessions:
        return group_advantages(scores, groups, norm_by_std=norm)
    ones = torch.ones(len(scores), 1, dtype=torch.int64, device=scores.device)
    return grpo_tokens(view, scores.unsqueeze(-1), ones, norm).squeeze(-1)


def of_groups(view: Batch, rewards: torch.Tensor, mask: torch.Tensor, advantages: Callable) -> torch.Tensor:
    """An estimator of ours that compares the answers to a prompt: `advantages(scores, ids)` of whole answers; (B, T)."""
    scores, ids = rewards.sum(dim=-1), dense_ids(view.data.non_tensor_batch["uid"], len(mask))
    rows = by_answer(view, lambda last: advantages(scores[last], ids[last]).to(rewards.dtype))
    return keep(rows.unsqueeze(-1).expand(mask.shape), mask)


def _columns(view: Batch, rewards: torch.Tensor, mask: torch.Tensor) -> DataProto:
    """A copy of the batch, so that what verl's function writes into it stays out of ours."""
    columns = {**dict(view.data.batch.items()), "token_level_rewards": rewards, "response_mask": mask}
    return DataProto(TensorDict(columns, batch_size=len(mask)), dict(view.data.non_tensor_batch))


def _by_verl(view: Batch, data: DataProto, name: str, norm: bool) -> torch.Tensor:
    from verl.trainer.ppo.v1.utils import compute_advantage

    algorithm = view.run.config.algorithm
    data = compute_advantage(
        data,
        adv_estimator=name,
        gamma=algorithm.get("gamma", 1.0),
        lam=algorithm.get("lam", 1.0),
        num_repeat=int(view.run.get("actor_rollout_ref.rollout.n", 1)),
        norm_adv_by_std_in_grpo=norm,
        config=algorithm,
    )
    if name == core_algos.AdvantageEstimator.GAE.value:
        view.returns = data.batch["returns"]  # what the critic learns
    return data.batch["advantages"]
