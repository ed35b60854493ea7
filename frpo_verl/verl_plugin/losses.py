"""The registered policy losses and local KL terms: verl's micro-batch in, the core's loss, verl's aggregation out.

verl's `agg_loss` divides by the token and sequence counts of the whole mini-batch (`config.global_batch_info`), so the
way a mini-batch is cut into micro-batches changes nothing. A sequence loss is put on the response's first token and
aggregated by `seq-mean-token-sum`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from verl.trainer.ppo import core_algos

from .. import methods
from ..core.losses.terms import LossTerms, read_loss_inputs, row_value
from ..core.metrics import policy_clip_fractions
from ..core.tokens import keep
from . import policy_loss_config
from .batch import MicroBatch, current_micro_batch, open_micro_batch
from .health import require
from .hooks import arguments
from .policy_loss_config import section_of

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
    ref = _micro_batch().column("ref_log_prob", reader) if needs_ref else None
    inputs = read_loss_inputs(
        log_prob=log_prob, old_log_prob=old_log_prob, advantages=advantages, mask=response_mask, ref_log_prob=ref
    )
    step = _micro_batch().step(reader) if getattr(settings, "changes", False) else None
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


def _micro_batch() -> MicroBatch:
    return current_micro_batch() or MicroBatch({})


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


def around_ppo_loss(original: Callable, *args: Any, **kwargs: Any) -> Any:
    """Around verl's `ppo_loss`: the micro-batch is at hand, and vanilla runs of ours log clip fractions by sign."""
    call = arguments(original, args, kwargs, "config", "model_output", "data")
    if call is None or not _ours(call["config"]):
        return original(*args, **kwargs)
    require("worker")
    with open_micro_batch(call["data"]):
        loss, metrics = original(*args, **kwargs)
    if call["config"].policy_loss.get("loss_mode", "vanilla") == "vanilla":
        metrics = {**metrics, **_vanilla_fractions(**{k: call[k] for k in ("config", "model_output", "data")})}
    return loss, metrics


def _ours(config: Any) -> bool:
    """Whether a worker's actor configuration belongs to a run of ours; the driver marks each by its class."""
    loss = config.policy_loss
    return (
        isinstance(loss, policy_loss_config.PolicyLossConfig)  # a row that is added makes another class
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


def around_kl_penalty(original: Callable, *args: Any, **kwargs: Any) -> Any:
    """Around verl's `kl_penalty_forward`: our names give value f(w)/w with the exact local gradient; (B, T).

    `k3_is` takes pi_old from the micro-batch, so it exists in the loss only. Positions off the response mask are set
    to 0 here, because some of verl's aggregations multiply by the mask.
    """
    call = arguments(original, args, kwargs, "logprob", "ref_logprob", "kl_penalty")
    row = methods.find_local_kl(call["kl_penalty"]) if call is not None else None
    if call is None or row is None:
        return original(*args, **kwargs)
    method, order = row
    batch = current_micro_batch()
    old = None
    if "old" in method.needs:
        if batch is None:
            raise ValueError(
                f"kl_penalty={method.name}: importance weights exist in the loss only; use actor.kl_loss_type={method.name}"
            )
        old = batch.column("old_log_probs", f"kl_loss_type={method.name}")
    value = method.load()(call["logprob"], call["ref_logprob"], method.name, order, old)
    if batch is not None and "response_mask" in batch:
        value = keep(value, batch.column("response_mask", f"kl_loss_type={method.name}"))
    return value
