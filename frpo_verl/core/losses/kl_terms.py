"""Per-token KL terms for a loss, with the local gradient of the divergence that usual estimators miss.

w = pi/ref:       value f(w)/w       gradient c(w) grad log pi        (tokens sampled from pi)
and rho = pi/old: value rho f(w)/w   gradient rho c(w) grad log pi    (from old; old_log_prob given)
c(w) = f'(w) - f'(1)
"""

from __future__ import annotations

import torch

from frpo_verl.core.divergences import Divergence, get_divergence
from frpo_verl.core.losses.terms import LOG_RATIO_CLIP, attach_gradient
from frpo_verl.core.tokens import float_dtype


def local_kl(
    log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    divergence: str | Divergence,
    alpha: float | None = None,
    old_log_prob: torch.Tensor | None = None,
) -> torch.Tensor:
    """A divergence of pi from ref on the sampled token, see above.

    In expectation over the action these are D_f(pi||ref) at that state and its exact gradient with the visited states
    held fixed; the effect on later states is what `placement: future` adds. The constant f'(1) has no expected
    gradient; without it the gradient is 0 at pi = ref. Differentiating the sampled f(w)/w gives f'(w) - f(w)/w instead,
    the gradient of another divergence. Without old_log_prob it is exact on-policy only.

    Args:
        log_prob, ref_log_prob: (...) of the sampled tokens, nats; only log_prob carries gradient. There is no mask:
            positions that a masked sum leaves out get no gradient, whatever they hold.
        divergence: a row of the divergence table by name, k3_is (reverse_kl_k3 with old_log_prob required), or one's
            own.
        alpha: order of the alpha divergence, for the name alpha only.
        old_log_prob: (...) of the policy the tokens came from; None for on-policy tokens.

    Returns:
        (...) float32 or better. Value and c are those of log w and log rho clipped to [-20, 20]; a clipped ratio keeps
        its gradient.

    Raises:
        ValueError: an unknown name, k3_is without old_log_prob, or shapes that differ.

    Source: arXiv 2601.10201 theorem 4.1 (the local coefficient); arXiv 2505.17508 section 2.2 (k3_is).
    """
    if divergence == "k3_is" and old_log_prob is None:
        raise ValueError("local KL k3_is: needs old_log_prob, the log-probabilities of the policy that was sampled")
    for label, x in {"ref_log_prob": ref_log_prob, "old_log_prob": old_log_prob}.items():
        if x is not None and x.shape != log_prob.shape:
            raise ValueError(f"{label} has shape {tuple(x.shape)}; expected log_prob's {tuple(log_prob.shape)}")
    if isinstance(divergence, str):
        divergence = get_divergence("reverse_kl_k3" if divergence == "k3_is" else divergence, alpha)
    dtype = float_dtype(log_prob, ref_log_prob)
    log_prob = log_prob.to(dtype)
    with torch.no_grad():
        log_w = (log_prob - ref_log_prob.to(dtype)).clamp(-LOG_RATIO_CLIP, LOG_RATIO_CLIP)
        value, coefficient = divergence.cost(log_w), divergence.slope(log_w)
        if old_log_prob is not None:
            rho = torch.exp((log_prob - old_log_prob.to(dtype)).clamp(-LOG_RATIO_CLIP, LOG_RATIO_CLIP))
            value, coefficient = rho * value, rho * coefficient
    return attach_gradient(value, coefficient, log_prob)
