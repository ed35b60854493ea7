"""What every policy loss returns, and the three small tools they share."""

from typing import NamedTuple

import torch

from frpo_verl.masking import keep

LOG_RATIO_CLIP = 20.0  # bound on |log ratio| before any exp, the same as verl's


class LossTerms(NamedTuple):
    """Unreduced loss of one batch; exactly one of `token_loss` and `sequence_loss` is set.

    token_loss: (B, T) loss of each token, 0 on masked tokens; aggregate over valid tokens.
    sequence_loss: (B,) loss of each response; aggregate as the mean over responses.
    metrics: name -> detached scalar tensor, a mean over the valid tokens (responses) of this batch.
    """

    token_loss: torch.Tensor | None
    sequence_loss: torch.Tensor | None
    metrics: dict[str, torch.Tensor]


class _AttachGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, coefficient, log_prob):
        ctx.save_for_backward(coefficient)
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad_output):
        (coefficient,) = ctx.saved_tensors
        return None, None, grad_output * coefficient


def attach_gradient(value: torch.Tensor, coefficient: torch.Tensor, log_prob: torch.Tensor) -> torch.Tensor:
    """Returns `value` with d out / d log_prob = coefficient, elementwise; all three of one shape.

    Every loss here is a number times grad log pi. Writing that number down once keeps it exact where a clamp
    inside autograd would set it to 0, and costs one multiplication in the backward pass.
    """
    if not value.shape == coefficient.shape == log_prob.shape:
        raise ValueError(
            f"value {tuple(value.shape)}, coefficient {tuple(coefficient.shape)} and log_prob "
            f"{tuple(log_prob.shape)} must have one shape"
        )
    return _AttachGradient.apply(value.detach(), coefficient.detach(), log_prob)


def upcast(x: torch.Tensor) -> torch.Tensor:
    """Returns x in float32 or better (float64 stays)."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def check_token_tensors(mask: torch.Tensor, **tensors: torch.Tensor) -> None:
    """Raises ValueError unless the mask is (B, T) and every named tensor has its shape."""
    if mask.dim() != 2:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; expected (responses, tokens)")
    for name, tensor in tensors.items():
        if tensor.shape != mask.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected the mask's {tuple(mask.shape)}")


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


def group_index(group_ids, rows: int) -> torch.Tensor:
    """Relabels group ids (tensor, array or sequence of any hashable kind, length B) as int64 (B,) from 0."""
    ids = list(group_ids.tolist() if hasattr(group_ids, "tolist") else group_ids) if group_ids is not None else []
    if len(ids) != rows:
        raise ValueError(f"group_ids has length {len(ids)}; expected one id for each of the {rows} responses")
    labels: dict = {}
    return torch.tensor([labels.setdefault(i, len(labels)) for i in ids], dtype=torch.int64)
