"""The registered policy losses and local KL terms: verl's micro-batch in, the core's loss, verl's aggregation out.

verl's `agg_loss` divides by the token and sequence counts of the whole mini-batch (`config.global_batch_info`), so the
way a mini-batch is cut into micro-batches changes nothing. A sequence loss is put on the response's first token and
aggregated by `seq-mean-token-sum`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import torch
from tensordict import TensorDict
from verl.trainer.ppo import core_algos
from verl.utils import tensordict_utils as tu

from .. import methods
from ..core.losses.terms import LossTerms, read_loss_inputs, row_value
from ..core.metrics import policy_clip_fractions
from ..core.tokens import keep
from .batch import STEP
from .health import require
from .hooks import Call
from .policy_loss_config import OfARunOfOurs, section_of

_micro_batch: ContextVar[TensorDict | None] = ContextVar(
    "frpo_verl_micro_batch", default=None
)  # while its loss is computed

CLIP_FRACTIONS = {f"frpo/policy_clip_frac/{sign}_advantage": 0.0 for sign in ("positive", "negative")}


def policy_loss(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: torch.Tensor | None = None,
    *,
    method: methods.Method,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """A policy loss of the table under verl's signature; all tensors (B, T). Returns (loss, metrics)."""
    require("worker")
    settings, reader = section_of(config.policy_loss, method), f"loss_mode={method.name}"
    needs_ref = "reference" in method.all_needs(settings)
    ref = _column("ref_log_prob", reader) if needs_ref else None
    inputs = read_loss_inputs(
        log_prob=log_prob, old_log_prob=old_log_prob, advantages=advantages, mask=response_mask, ref_log_prob=ref
    )
    step = _step(reader) if getattr(settings, "changes", False) else None
    keywords = method.keywords(settings, step)
    metrics = {} if step is None else {"frpo/kl_coef": keywords["kl_coef"]}
    keywords |= {name: config.get(key) for name, key in method.from_verl.items()}
    if method.then is None:
        terms = method.load()(inputs, **keywords)
        loss, found = _aggregate(terms, response_mask, loss_agg_mode, config, rollout_is_weights), terms.metrics
    else:
        advantages, found = method.load()(inputs, **keywords) if needs_ref else (inputs.advantages, {})
        loss, verls = core_algos.get_policy_loss_fn(method.then)(
            old_log_prob=inputs.old_log_prob,
            log_prob=inputs.log_prob,
            advantages=advantages,
            response_mask=response_mask,
            loss_agg_mode=loss_agg_mode,
            config=config,
            rollout_is_weights=rollout_is_weights,
        )
        fractions = clip_fractions(inputs.log_prob, inputs.old_log_prob, advantages, response_mask, config)
        metrics = {**verls, **fractions, **metrics}
    return loss, {**metrics, **{name: float(value) for name, value in found.items()}}


def _has(name: str) -> bool:
    data = _micro_batch.get()
    return data is not None and name in data.keys()


def _column(name: str, reader: str) -> torch.Tensor:
    """A padded column of the micro-batch that `reader` (`key=name`, for the message) cannot do without.

    Raises RuntimeError: it is missing, with what to do.
    """
    if not _has(name):
        raise RuntimeError(
            f"{reader} needs {name!r} in the micro-batch and it is missing: the plugin must be loaded in the workers "
            "and where the trainer starts (run `python -m frpo_verl doctor`)"
        )
    return _micro_batch.get().select(name).to_padded_tensor()[name]  # type: ignore[union-attr]


def _step(reader: str) -> int:
    """The training step, which the driver sends with the batch. Raises RuntimeError: it did not come along, with what to do."""
    if not _has(STEP):
        raise RuntimeError(
            f"{reader}: kl_coef_end needs the training step and the micro-batch has none: use verl's V1 trainer, with "
            "the plugin loaded where it starts"
        )
    return int(tu.get_non_tensor_data(_micro_batch.get(), STEP, None))


def _aggregate(
    terms: LossTerms, mask: torch.Tensor, mode: str, config: Any, weights: torch.Tensor | None
) -> torch.Tensor:
    """verl's mean over the mini-batch, with its rollout weights."""
    if terms.token_loss is not None:
        loss = terms.token_loss if weights is None else terms.token_loss * keep(weights, mask)
    else:
        assert terms.sequence_loss is not None, "a loss has one of the two"
        loss, mode = terms.sequence_loss, "seq-mean-token-sum"
        if weights is not None:
            loss = loss * row_value(weights, mask.bool(), "rollout_is_weights")
        first = mask.bool().to(torch.int8).argmax(dim=-1, keepdim=True)
        loss = torch.zeros_like(mask, dtype=loss.dtype).scatter(-1, first, loss.unsqueeze(-1))
    return core_algos.agg_loss(loss_mat=loss, loss_mask=mask, loss_agg_mode=mode, **config.global_batch_info)


@torch.no_grad()
def clip_fractions(log_prob, old_log_prob, advantages, mask, config) -> dict[str, float]:
    """Share of tokens that verl's vanilla clip holds still, by the sign of the advantage; 0 where there are none."""
    low, high = config.clip_ratio_low, config.clip_ratio_high
    low, high = (config.clip_ratio if width is None else width for width in (low, high))
    ratio = (log_prob.detach().float() - old_log_prob.float()).clamp(-20, 20).exp()
    return CLIP_FRACTIONS | policy_clip_fractions(ratio, advantages, mask, low, high)


# ------------------------------------------------------------------------------------------------ around verl's functions


def around_ppo_loss(call: Call) -> Any:
    """Around verl's `ppo_loss`: the micro-batch is at hand, and vanilla runs of ours log clip fractions by sign."""
    config, data = call["config"], call["data"]
    if not _ours(config):
        return call()
    require("worker")
    opened = _micro_batch.set(data)
    try:
        loss, metrics = call()
    finally:
        _micro_batch.reset(opened)
    if config.policy_loss.get("loss_mode", "vanilla") == "vanilla":
        metrics = {**metrics, **_vanilla_fractions(config, call["model_output"], data)}
    return loss, metrics


def _ours(config: Any) -> bool:
    """Whether a worker's actor configuration belongs to a run of ours; the driver marks each by its class."""
    loss = config.policy_loss
    return (
        isinstance(loss, OfARunOfOurs)
        or methods.find("policy_loss", loss.get("loss_mode", "vanilla")) is not None
        or (config.use_kl_loss and methods.find_local_kl(config.kl_loss_type) is not None)
    )


@torch.no_grad()
def _vanilla_fractions(config: Any, model_output: Any, data: Any) -> dict[str, Any]:
    from verl.utils.metric import AggregationType, Metric
    from verl.workers.utils.padding import no_padding_2_padding

    log_prob = no_padding_2_padding(model_output["log_probs"], data)
    padded = data.select("old_log_probs", "advantages", "response_mask").to_padded_tensor()
    fractions = clip_fractions(log_prob, padded["old_log_probs"], padded["advantages"], padded["response_mask"], config)
    return Metric.from_dict(fractions, aggregation=AggregationType.MEAN)


def around_kl_penalty(call: Call) -> Any:
    """Around verl's `kl_penalty_forward`: our names give value f(w)/w with the exact local gradient; (B, T).

    `k3_is` takes pi_old from the micro-batch, so it exists in the loss only. Positions off the response mask are set
    to 0 here, because some of verl's aggregations multiply by the mask.
    """
    row = methods.find_local_kl(call["kl_penalty"])
    if row is None:
        return call()
    method, order = row
    reader, old = f"kl_loss_type={method.name}", None
    if "old" in method.needs:
        if _micro_batch.get() is None:
            raise ValueError(
                f"kl_penalty={method.name}: importance weights exist in the loss only; use actor.kl_loss_type={method.name}"
            )
        old = _column("old_log_probs", reader)
    value = method.load()(call["logprob"], call["ref_logprob"], method.name, order, old)
    return keep(value, _column("response_mask", reader)) if _has("response_mask") else value
