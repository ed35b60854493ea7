"""Metrics of the driver: kept until verl assembles its own, and the distance from the reference for every run of ours."""

from __future__ import annotations

from typing import Any

import torch

from ..core.advantages import sequence_divergence
from ..core.divergences import DIVERGENCES
from ..core.tokens import Columns, keep
from . import answers, run
from .batch import Batch
from .hooks import Call

_pending: dict[str, list[float]] = {}


def log(found: dict[str, float]) -> None:
    """Keep metrics until verl next assembles its own (`compute_data_metrics`)."""
    for name, value in found.items():
        _pending.setdefault(name, []).append(value)


def take() -> dict[str, float]:
    """The metrics kept so far, which are forgotten.

    A step may hold several advantages (a mini-batch each, `parameter_sync_step` > 1): maxima stay maxima, numbers of
    rows add up, of everything else the mean is taken.
    """
    found = {name: _together(name, values) for name, values in _pending.items()}
    _pending.clear()
    return found


def around_data_metrics(call: Call) -> dict[str, Any]:
    """Around verl's `compute_data_metrics`: the plugin's beside its own."""
    return {**call(), **cut_off(call["batch"]), **take()}


def cut_off(batch: Any) -> dict[str, float]:
    """`frpo/cut_off_frac` of verl's batch: answers as long as the longest whose last token ends no shorter answer.

    An answer that ends with its end marker at the limit is not cut off; verl's `response_length/clip_ratio` counts it.
    Empty where all answers are of one length, and nothing shows what an end is; empty for a run that is not ours.
    """
    if run.current_of_ours() is None or "responses" not in batch.batch:
        return {}
    tensors = batch.batch
    responses = tensors["responses"]
    length = tensors.get("response_length", None)
    if length is None:
        length = tensors["attention_mask"][:, -responses.shape[1] :].sum(-1)
    length, longest = length.long(), int(length.max())
    last = responses.gather(1, (length - 1).clamp(min=0).unsqueeze(1))[:, 0]
    shorter = (length < longest) & (length > 0)
    if not bool(shorter.any()):
        return {}
    cut = (length == longest) & ~torch.isin(last, last[shorter])
    return {"frpo/cut_off_frac": float(cut.float().mean())}


def _together(name: str, values: list[float]) -> float:
    if name.endswith("max"):
        return max(values, key=lambda x: (x != x, x))  # not a number stays visible
    return sum(values) if name.endswith("_rows") else sum(values) / len(values)


def after_advantage(view: Batch) -> None:
    """Hand over what an estimator of ours reported; log the reference where the estimator does not do so itself."""
    if not view.run.regularizes_advantage:
        view.metrics.update(reference(view))
    log(view.metrics)
    answers.write(view)


@torch.no_grad()
def reference(view: Batch) -> dict[str, float]:
    """`frpo/kl_to_ref/*`, KL by position and zero-variance groups of a batch that carries a reference.

    Rows that the policy did not sample (f-HAL's recorded answers) are left out. Empty where log-probs are missing, a
    placeholder (all 0) or not finite: for an estimator of verl's that is no reason to stop.
    """
    old, ref = view.optional("old_log_probs"), view.optional("ref_log_prob")
    mask = view.mask
    if old is None or ref is None or old.shape != mask.shape or ref.shape != mask.shape or not bool(ref.any()):
        return {}
    if view.policy_rows is not None:
        mask = keep(mask, view.policy_rows.unsqueeze(-1).expand_as(mask))
    scores = view.optional("token_level_scores")
    known = {} if scores is None else {"scores": scores.sum(dim=-1), "group_ids": view.groups}
    try:
        return sequence_divergence(Columns(old, ref, mask, **known, **view.sessions), DIVERGENCES["reverse_kl"])[1]
    except FloatingPointError:
        return {}
