"""Distance from the reference for runs whose estimator doesn't log it, so that methods are compared by one number.

A run with verl's `grpo` and a KL loss, f-GRPO, or FRPO with `kl_coef: 0` loads a reference as well; where the batch
carries its log-probs, the driver logs the same `frpo/kl_to_ref/*` as for `frpo`. Nothing but metrics is touched.
"""

from __future__ import annotations

import torch

from .. import diagnostics
from ..advantages import log_ratio
from ..masking import keep
from . import context

OF_THE_REGULARIZER = ("frpo/regularizer_share", "frpo/sign_flip_frac")


def already_logged() -> bool:
    return "frpo/log_ratio_clip_frac" in context.PROCESS.metrics


@torch.no_grad()
def log_reference(data, rows: torch.Tensor | None = None) -> None:
    """Log `frpo/kl_to_ref/*`, KL by position and zero-variance groups of a batch that carries a reference.

    `rows` (B,) bool: the answers that the policy sampled, where others stand beside them. Silent where log-probs are
    missing, a placeholder (all 0) or not finite.
    """
    from .estimators import group_ids

    batch = data.batch
    if any(key not in batch.keys() for key in ("old_log_probs", "ref_log_prob", "response_mask")):
        return
    mask = batch["response_mask"].bool()
    if any(batch[key].shape != mask.shape for key in ("old_log_probs", "ref_log_prob")):
        return  # somebody else's batch: not ours to complain about
    if rows is not None:
        mask = keep(mask, rows.unsqueeze(-1).expand_as(mask))
    delta, clipped = log_ratio(batch["old_log_probs"], batch["ref_log_prob"], mask)
    if not bool(torch.isfinite(delta.sum())) or not bool(batch["ref_log_prob"].any()):
        return
    uid, scores = data.non_tensor_batch.get("uid"), batch.get("token_level_scores", None)
    metrics = diagnostics.regularizer_metrics(
        delta,
        delta,  # with beta = 0 and no outcome nothing is said about a regulariser
        delta.new_zeros(delta.shape[0]),
        mask,
        beta=0.0,
        clip_frac=clipped,
        scores=None if scores is None else scores.sum(dim=-1),
        group_ids=None if uid is None or scores is None else group_ids(uid),
    )
    context.log_metrics({name: value for name, value in metrics.items() if name not in OF_THE_REGULARIZER})
