"""What the wraps of `ppo_loss` and `kl_penalty_forward` do with a micro-batch."""

from __future__ import annotations

import torch

from .. import names
from ..diagnostics import policy_clip_fractions
from ..losses import local_kl
from ..masking import keep
from . import context


def local_kl_term(log_prob: torch.Tensor, ref_log_prob: torch.Tensor, kl_type: str) -> torch.Tensor:
    """The local KL term of one of our names: value f(w)/w, exact local gradient; (B, T).

    `k3_is` takes pi_old from the micro-batch, so it exists in the loss only. Positions off the response mask are set
    to 0 here, because some of verl's aggregations multiply by the mask.
    """
    name, alpha = names.local_kl_name(kl_type)
    data = context.current_loss_call()
    old = None
    if name == "k3_is":
        if data is None:
            raise ValueError(
                "kl_penalty=k3_is: importance weights exist in the loss only; use actor.kl_loss_type=k3_is"
            )
        old = data.select("old_log_probs").to_padded_tensor()["old_log_probs"]
    value = local_kl(log_prob, ref_log_prob, name, alpha, old)
    if data is not None and "response_mask" in data.keys():
        value = keep(value, data.select("response_mask").to_padded_tensor()["response_mask"])
    return value


@torch.no_grad()
def with_clip_fractions(metrics: dict, config, model_output, data) -> dict:
    """verl's metrics plus the clip fractions by the sign of the advantage, for vanilla runs of ours.

    A worker does not know the estimator; a reference that verl's own KL loss does not read is there for us.
    """
    if "ref_log_prob" not in data or config.use_kl_loss or config.policy_loss.get("loss_mode", "vanilla") != "vanilla":
        return metrics
    from verl.utils.metric import AggregationType, Metric
    from verl.workers.utils.padding import no_padding_2_padding

    from .policy_losses import CLIP_FRACTIONS, clip_widths

    log_prob = no_padding_2_padding(model_output["log_probs"], data).detach().float()
    padded = data.select("old_log_probs", "advantages", "response_mask").to_padded_tensor()
    ratio = (log_prob - padded["old_log_probs"].float()).clamp(-20, 20).exp()
    fractions = CLIP_FRACTIONS | policy_clip_fractions(
        ratio, padded["advantages"], padded["response_mask"], *clip_widths(config)
    )
    return {**metrics, **Metric.from_dict(fractions, aggregation=AggregationType.MEAN)}
