"""From log-probs to the regularised token advantage (FRPO, arXiv 2601.10201v2), in one pass over the rows.

    A_t = A - beta * reg_t                                     Eq. 5.1
    reg_t = f'(w_t) + sum_{j>t} f(w_j)/w_j                     Theorem 4.1, w = pi/ref on the sampled token

Tensors are padded (B, T): B responses, T columns, a mask that is non-zero on response tokens (EOS included) and zero on
padding and, in multi-turn data, on tool tokens. The rows of a session are one response: the sums run through them in
their order (`chunks`). Nothing here carries a gradient: advantages are constants of the policy gradient. The whole chain (door, regulariser, advantage, metrics) runs on a chunk of rows before the next is touched, so
that every tensor is read once and nothing of full size is allocated but the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from frpo_verl.core import regularizers
from frpo_verl.core.chunks import Rows, answer_chunks, answers_of, last_rows, rows_of_answers, write_rows
from frpo_verl.core.divergences import Divergence
from frpo_verl.core.groups import position_baseline
from frpo_verl.core.metrics import MetricSums
from frpo_verl.core.regularizers import FRPO, Regularizer, regularizer
from frpo_verl.core.tokens import check_2d, dense_ids, float_dtype, read_rows, reverse_cumsum, select_
from frpo_verl.methods import ranges

__all__ = [
    "Regularized",
    "Regularizer",
    "reference_metrics",
    "regularized_advantages",
    "regularizer",
    "sequence_divergence",
]

StepStarts = Callable[[slice | torch.Tensor, torch.Tensor], torch.Tensor]


class Regularized(NamedTuple):
    """What `regularized_advantages` returns.

    advantages: (B, T) float32 (float64 if a log-prob tensor is), 0 off the mask.
    metrics: floats under names of `metrics.METRIC_NAMES`.
    bad_rows: (B,) bool, rows of responses dropped for a NaN or infinite log-prob: their advantage is 0 everywhere and
        no metric counts them. None if there is none.
    """

    advantages: torch.Tensor
    metrics: dict[str, float]
    bad_rows: torch.Tensor | None


@torch.no_grad()
def regularized_advantages(
    outcome: torch.Tensor,
    log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    mask: torch.Tensor,
    *,
    kl_coef: float,
    regularizer: Regularizer = FRPO,
    steps: StepStarts | None = None,
    group_ids: Any = None,
    session_ids: Any = None,
    session_index: torch.Tensor | None = None,
    log_ratio_clip: float = 20.0,
    entropy: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
    other_log_prob: torch.Tensor | None = None,
) -> Regularized:
    """The regularised token advantage and what the regulariser did, in one pass over the rows.

        A_t = A - beta * (reg_t - baseline_t) on response tokens, exactly 0 elsewhere

    Args:
        outcome: (B,) advantage of each response (group-normalised verifier reward), or (B, T) one per token.
        log_prob: (B, T) log pi of the sampled tokens, nats; half precision is computed in float32.
        ref_log_prob: (B, T) log ref of the same tokens, nats, at the same temperature.
        mask: (B, T) any dtype, non-zero = response token. NaN and inf elsewhere have no effect.
        kl_coef: beta >= 0.
        regularizer: divergence, placement, discount and baseline.
        steps: None for steps of one token, or a function (rows, valid (R, T)) -> (R, T) int64 columns at which each
            token's step starts; rows is a slice or an index tensor. For placement future.
        group_ids: (B,) ids of any kind, equal for the responses of one prompt; needed by baseline position, and for
            the metric zero_variance_groups.
        session_ids: (B,) ids of any kind, equal for the rows of one session, which are one response; None where each
            row is one.
        session_index: (B,) the row's place in its session; by default the order of the batch.
        log_ratio_clip: bound of |log w| in nats.
        entropy: (B, T) of the policy at each token in nats, for its metrics.
        scores: (B,) raw rewards for the metric zero_variance_groups; by default the outcome.
        other_log_prob: (B, T) log-probs of the same tokens from another engine, for the metric
            frpo/rollout_log_prob_diff_max.

    Returns:
        Regularized.

    Raises:
        ValueError: shapes, dtypes, ids or numbers that do not fit; steps with a placement that has no future sum.

    Source: arXiv 2601.10201v2, Eq. 5.1.

    Examples:
        >>> log_prob, ref_log_prob = torch.tensor([[-1.0, -2.0, -0.5]]), torch.tensor([[-1.5, -2.0, -1.0]])
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> result = regularized_advantages(torch.tensor([1.0]), log_prob, ref_log_prob, mask, kl_coef=0.1)
        >>> result.advantages
        tensor([[0.9500, 1.0000, 0.0000]])
        >>> result.metrics["frpo/kl_to_ref/k1"]
        0.25
    """
    check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob, entropy=entropy, other_log_prob=other_log_prob)
    if outcome.shape not in (mask.shape, mask.shape[:1]):
        raise ValueError(f"outcome has shape {tuple(outcome.shape)}: must be (B,) or (B, T) of {tuple(mask.shape)}")
    ranges.KL_COEF.check("kl_coef", kl_coef)
    ranges.LOG_RATIO_CLIP.check("log_ratio_clip", log_ratio_clip)
    if steps is not None and regularizer.placement != "future":
        raise ValueError(f"placement={regularizer.placement!r} has no future sum: steps need placement=future")
    by_position = regularizer.baseline == "position"
    if by_position and group_ids is None:
        raise ValueError("baseline='position' needs group_ids: one id for each response, equal within a prompt")

    dtype, device = float_dtype(log_prob, ref_log_prob), log_prob.device
    advantages = torch.empty(mask.shape, dtype=dtype, device=device)
    outcome = outcome.to(dtype)[:, None] if outcome.dim() == 1 else outcome
    bad_rows = torch.zeros(mask.shape[0], dtype=torch.bool, device=device)
    sums = MetricSums(mask.shape[0], device)
    group = None if group_ids is None else dense_ids(group_ids, mask.shape[0]).to(device)
    answers = rows_of_answers(mask.shape[0], session_ids, session_index, group)
    # the suffix sums of delta, which the metrics read, are the regulariser of plain FRPO
    is_kl_to_go = regularizer.divergence.cost_is_slope and regularizer.placement == "future"
    is_kl_to_go = is_kl_to_go and regularizer.discount == 1.0 and steps is None

    for rows in answer_chunks(answers, mask.shape[1], device, group if by_position else None):
        tokens = read_rows(
            answers_of(log_prob, rows), answers_of(ref_log_prob, rows), answers_of(mask, rows), log_ratio_clip, dtype
        )
        step_start = None if steps is None else _steps_of(steps, rows, tokens.valid)
        reg = regularizers.regularizer(tokens, regularizer, step_start)
        kl_to_go = reg if is_kl_to_go else reverse_cumsum(tokens.delta)
        last = last_rows(rows)
        if by_position and group is not None:
            reg = reg - position_baseline(reg, tokens.valid, group[last], whole=regularizer.placement == "sequence")
        a = _outcome_of(outcome, rows, mask.shape[1]).to(dtype)
        in_place = advantages[rows] if isinstance(rows, slice) else None  # an index tensor gives a copy
        advantage = select_(torch.sub(a, reg, alpha=kl_coef, out=in_place), tokens.bits)
        if in_place is None:
            write_rows(advantage, rows, advantages)
        if tokens.bad_rows is not None:
            write_rows(tokens.bad_rows, rows, bad_rows)
        difference = None
        if other_log_prob is not None:
            difference = answers_of(log_prob, rows).to(dtype) - answers_of(other_log_prob, rows).to(dtype)
        sums.add_tokens(last, tokens, kl_to_go, None if entropy is None else answers_of(entropy, rows), difference)
        sums.add_regularizer(last, tokens, a, reg, advantage)
    metrics = sums.result(beta=kl_coef, group_ids=group_ids, scores=scores)
    return Regularized(advantages, metrics, bad_rows if bool(bad_rows.any()) else None)


def _outcome_of(outcome: torch.Tensor, rows: Rows, columns: int) -> torch.Tensor:
    """(R, 1) or (R, K T) outcome of some answers; the rows of one answer may differ in it."""
    if isinstance(rows, slice) or rows.shape[1] == 1:
        return answers_of(outcome, rows)
    return answers_of(outcome.expand(-1, columns), rows)


def _steps_of(steps: StepStarts, rows: Rows, valid: torch.Tensor) -> torch.Tensor:
    """(R, K T) columns at which the steps of some answers start; a step ends with its row."""
    if isinstance(rows, slice):
        return steps(rows, valid)
    columns = valid.shape[1] // rows.shape[1]
    starts = steps(rows.flatten().clamp(min=0), valid.reshape(-1, columns)).reshape(*rows.shape, columns)
    return (starts + columns * torch.arange(rows.shape[1], device=valid.device)[:, None]).flatten(1)


@torch.no_grad()
def sequence_divergence(
    log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    mask: torch.Tensor,
    *,
    divergence: Divergence,
    log_ratio_clip: float = 20.0,
    session_ids: Any = None,
    session_index: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The sampled divergence of a whole response, to be put into its reward (placement `reward`).

        D_i = sum_t f(w_t)/w_t     (reverse KL: the sequence log-ratio), unbiased for sum_t D_f(s_t)

    Args:
        log_prob, ref_log_prob: (B, T) of the sampled tokens, nats.
        mask: (B, T) any dtype, non-zero = response token.
        divergence: a row of the divergence table, or one's own.
        log_ratio_clip: bound of |log w| in nats.
        session_ids, session_index: (B,) as in `regularized_advantages`; the rows of a session share its sum.

    Returns:
        cost: (B,) float32 (float64 for float64), nats; 0 for a response without valid tokens.
        bad_rows: (B,) bool, rows of responses with a NaN or infinite log-prob on a valid token, cost 0; None if none.

    Raises:
        ValueError: shapes that do not fit. Source: arXiv 2601.10201v2, Eq. 4.1 and Appendix D.1.
    """
    check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob)
    ranges.LOG_RATIO_CLIP.check("log_ratio_clip", log_ratio_clip)
    dtype, device = float_dtype(log_prob, ref_log_prob), log_prob.device
    cost = torch.empty(mask.shape[0], dtype=dtype, device=device)
    bad_rows = torch.zeros(mask.shape[0], dtype=torch.bool, device=device)
    answers = rows_of_answers(mask.shape[0], session_ids, session_index)
    for rows in answer_chunks(answers, mask.shape[1], device):
        tokens = read_rows(
            answers_of(log_prob, rows), answers_of(ref_log_prob, rows), answers_of(mask, rows), log_ratio_clip, dtype
        )
        write_rows(divergence.cost(tokens.delta).sum(-1), rows, cost)
        if tokens.bad_rows is not None:
            write_rows(tokens.bad_rows, rows, bad_rows)
    return cost, bad_rows if bool(bad_rows.any()) else None


@torch.no_grad()
def reference_metrics(
    log_prob: torch.Tensor,
    ref_log_prob: torch.Tensor,
    mask: torch.Tensor,
    *,
    log_ratio_clip: float = 20.0,
    group_ids: Any = None,
    session_ids: Any = None,
    session_index: torch.Tensor | None = None,
    scores: torch.Tensor | None = None,
    entropy: torch.Tensor | None = None,
    other_log_prob: torch.Tensor | None = None,
) -> dict[str, float]:
    """The distance from the reference, for runs whose advantages are another estimator's.

    Args:
        log_prob, ref_log_prob: (B, T) of the sampled tokens, nats.
        mask: (B, T) any dtype, non-zero = response token.
        log_ratio_clip: bound of |log w| in nats.
        group_ids, scores: (B,) both needed for the metric zero_variance_groups.
        session_ids, session_index: (B,) as in `regularized_advantages`.
        entropy: (B, T) of the policy at each token in nats, for its metrics.
        other_log_prob: as in `regularized_advantages`.

    Returns:
        the metrics of `regularized_advantages` without those of the regulariser; rows with a NaN or infinite log-prob
        on a valid token count in none.

    Raises:
        ValueError: shapes that do not fit.
    """
    check_2d(mask, log_prob=log_prob, ref_log_prob=ref_log_prob, entropy=entropy, other_log_prob=other_log_prob)
    ranges.LOG_RATIO_CLIP.check("log_ratio_clip", log_ratio_clip)
    sums, dtype = MetricSums(mask.shape[0], log_prob.device), float_dtype(log_prob, ref_log_prob)
    answers = rows_of_answers(mask.shape[0], session_ids, session_index)
    for rows in answer_chunks(answers, mask.shape[1], log_prob.device):
        tokens = read_rows(
            answers_of(log_prob, rows), answers_of(ref_log_prob, rows), answers_of(mask, rows), log_ratio_clip, dtype
        )
        difference = None
        if other_log_prob is not None:
            difference = answers_of(log_prob, rows).to(dtype) - answers_of(other_log_prob, rows).to(dtype)
        entropies = None if entropy is None else answers_of(entropy, rows)
        sums.add_tokens(last_rows(rows), tokens, reverse_cumsum(tokens.delta), entropies, difference)
    return sums.result(group_ids=group_ids, scores=scores)
