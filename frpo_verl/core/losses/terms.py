"""The door of the policy losses, what they return, and the two small tools they share.

loss = sum_t token_loss_t,    d loss / d log pi_t = a number that each loss writes down (`attach_gradient`)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from frpo_verl.core.tokens import check_2d, float_dtype, keep

LOG_RATIO_CLIP = 20.0  # bound on |log ratio| before any exp, the same as verl's


class LossInputs(NamedTuple):
    """A mini-batch fit for arithmetic: one dtype (float32 or float64), 0 off the mask in every tensor.

    log_prob: (B, T) of the sampled tokens, nats; carries the gradient, which is 0 off the mask.
    old_log_prob: (B, T) of the policy that sampled them.
    advantages: (B, T).
    mask: (B, T) bool, True on response tokens.
    ref_log_prob: (B, T) of a fixed reference, or None.
    """

    log_prob: torch.Tensor
    old_log_prob: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    ref_log_prob: torch.Tensor | None = None


class LossTerms(NamedTuple):
    """Unreduced loss of one batch; exactly one of `token_loss` and `sequence_loss` is set.

    token_loss: (B, T) loss of each token, 0 on masked tokens; aggregate over valid tokens.
    sequence_loss: (B,) loss of each response; aggregate as the mean over responses.
    metrics: name -> detached scalar tensor, a mean over the valid tokens (responses) of this batch.
    """

    token_loss: torch.Tensor | None
    sequence_loss: torch.Tensor | None
    metrics: dict[str, torch.Tensor]


def read_loss_inputs(
    *,
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    ref_log_prob: torch.Tensor | None = None,
) -> LossInputs:
    """The door: checks shapes, upcasts and masks, once.

    Args:
        log_prob, old_log_prob, ref_log_prob: (B, T) of the sampled tokens, nats; only log_prob carries gradient.
        advantages: (B, T), or (B,) for one value on all tokens of a response.
        mask: (B, T) any dtype, non-zero = response token; other positions have no effect on any value or gradient,
            whatever they hold.

    Raises ValueError: shapes or dtypes that do not fit.
    """
    check_2d(mask, log_prob=log_prob, old_log_prob=old_log_prob, ref_log_prob=ref_log_prob)
    if advantages.shape not in (mask.shape, mask.shape[:1]):
        raise ValueError(
            f"advantages has shape {tuple(advantages.shape)}: must be (B,) or (B, T) of {tuple(mask.shape)}"
        )
    mask = mask.bool()
    advantages = advantages if advantages.dim() == 2 else advantages[:, None].expand(mask.shape)
    given = [x for x in (log_prob, old_log_prob, advantages, ref_log_prob) if x is not None]
    dtype = float_dtype(*given)

    def constant(x: torch.Tensor) -> torch.Tensor:
        return keep(x.detach().to(dtype), mask)

    return LossInputs(
        keep(log_prob.to(dtype), mask),
        constant(old_log_prob),
        constant(advantages),
        mask,
        None if ref_log_prob is None else constant(ref_log_prob),
    )


class _AttachGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, coefficient: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(coefficient)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        (grad_output,), (coefficient,) = grad_outputs, ctx.saved_tensors
        # a masked sum sends 0 to positions it left out: whatever the coefficient is there, it must stay 0
        return None, None, (grad_output * coefficient).masked_fill_(grad_output == 0, 0.0)


def attach_gradient(value: torch.Tensor, coefficient: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
    """Returns `value` with d out / d log_prob = coefficient, elementwise; all three of one shape.

    Every loss here is a number times grad log pi; written down once it stays exact where a clamp inside autograd would
    set it to 0.
    """
    if not value.shape == coefficient.shape == log_prob.shape:
        raise ValueError(
            f"value {tuple(value.shape)}, coefficient {tuple(coefficient.shape)} and log_prob "
            f"{tuple(log_prob.shape)} must have one shape"
        )
    out: torch.Tensor = _AttachGradient.apply(value.detach(), coefficient.detach(), log_prob)
    return out


def row_value(x: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """One number per response from a tensor that holds it on every valid token: (B, T) or (B,) -> (B,).

    Responses without a valid token give 0. Raises ValueError where the valid tokens of one response differ: a
    sequence-level loss has one weight per response, and picking one of several would be another objective.
    """
    has_token = mask.any(dim=-1)
    if x.dim() == 1:
        if x.shape[0] != mask.shape[0]:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected ({mask.shape[0]},)")
        return keep(x, has_token)
    highest = keep(keep(x, mask, -torch.inf).amax(dim=-1), has_token)
    lowest = keep(keep(x, mask, torch.inf).amin(dim=-1), has_token)
    differs = highest - lowest > 1e-5 * highest.abs().clamp(min=1e-3)
    if bool(differs.any()):
        row = int(differs.int().argmax())
        raise ValueError(
            f"{name} of response {row} varies over its tokens ({float(lowest[row]):.6g} to "
            f"{float(highest[row]):.6g}); a sequence-level loss needs one value per response: use an outcome "
            f"estimator such as grpo, or a token-level loss"
        )
    return highest
