"""PRL's steps (arXiv 2601.10201v1): where a multi-token step of a response begins.

All tokens of a step take the KL-to-go at the step's *start*. What a token adds to that sum before itself is in the past
when the token is chosen, so the expected gradient is exact for every step length:

    E[ score_t sum_{j>=s} c_j ] = E[ score_t sum_{j>=t} c_j ]    for s <= t, because E[ score_t | s_t ] = 0

The functions return, for each token, the column at which its step starts: `S.gather(1, step_start)` is the suffix to
use, and `regularizer(tokens, ..., step_start)` does that for every divergence. They work on whole batches and on some
of their rows alike.

Differs from PRL's public code, which takes the suffix at the step's *end* and so loses the costs between the token and
that end (a biased estimate for every step longer than one token), and which finds newlines by comparing single token
ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from frpo_verl.core.tokens import keep
from frpo_verl.methods import ranges

__all__ = ["step_starts_by_length", "step_starts_by_newline"]


def _columns_of_starts(begins: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """(R, T) column of the latest True of `begins` up to each valid column; masked columns: themselves."""
    column = torch.arange(begins.shape[1], device=begins.device).expand_as(begins)
    return torch.where(valid, keep(column, begins).cummax(-1).values, column)


def step_starts_by_length(valid: torch.Tensor, step_length: int) -> torch.Tensor:
    """Steps of a fixed number of response tokens, counted from the start of the response.

        step of the p-th response token (p = 0, 1, ...) = floor(p / step_length)

    Args:
        valid: (R, T) bool, True on response tokens. Masked tokens in the middle (tool output) are not counted.
        step_length: tokens in a step; 1 gives every token its own step.

    Returns:
        (R, T) int64: column of the first token of each token's step; a masked column points at itself.

    Raises:
        ValueError: step_length is not a whole number >= 1.
    """
    ranges.STEP_LENGTH.check("step_length", step_length)
    position = valid.cumsum(-1, dtype=torch.int32) - 1
    return _columns_of_starts(valid & (position % int(step_length) == 0), valid)


def step_starts_by_newline(
    tokens: torch.Tensor | Sequence[Sequence[str]],
    valid: torch.Tensor,
    decode: Callable[[int], str] | None = None,
) -> torch.Tensor:
    """Steps that end with a line: a new step begins after every response token whose text contains a newline.

    Tokens that merge a newline with something else (".\\n", "\\n\\n", ")\\n  ") end a step like a bare newline does.

    Args:
        tokens: (R, T) integer token ids, or for each response the list of its T token texts.
        valid: (R, T) bool, True on response tokens; texts of masked tokens are not looked at.
        decode: token id -> its text; called once for each distinct id among the valid tokens of a call (wrap it in
            `functools.cache` where a batch comes in several calls). Needed with ids.

    Returns:
        (R, T) int64: column of the first token of each token's step; a masked column points at itself.

    Raises:
        ValueError: ids without `decode`, or shapes that do not fit the mask.
    """
    ends = _newlines(tokens, valid, decode) & valid
    step = ends.cumsum(-1, dtype=torch.int32) - ends.int() + 1  # 1 + newlines before this token
    reached = keep(step, valid).cummax(-1).values  # 0 before the response
    before = torch.cat([torch.zeros_like(reached[:, :1]), reached[:, :-1]], dim=-1)
    return _columns_of_starts(valid & (step > before), valid)


def _newlines(
    tokens: torch.Tensor | Sequence[Sequence[str]], valid: torch.Tensor, decode: Callable[[int], str] | None
) -> torch.Tensor:
    """(R, T) bool: the token's text contains a newline."""
    if not isinstance(tokens, torch.Tensor):
        if len(tokens) != valid.shape[0] or any(len(row) != valid.shape[1] for row in tokens):
            raise ValueError(f"tokens must be {valid.shape[0]} lists of {valid.shape[1]} texts, one for each column")
        newline = [["\n" in text for text in row] for row in tokens]
        return torch.tensor(newline, dtype=torch.bool, device=valid.device).reshape(valid.shape)
    if decode is None:
        raise ValueError("steps end at newlines of decoded text: pass decode (token id -> text), e.g. a tokenizer's")
    if tokens.shape != valid.shape or tokens.is_floating_point():
        raise ValueError(
            f"tokens must be integers of shape {tuple(valid.shape)}, got {tokens.dtype} of shape {tuple(tokens.shape)}"
        )
    counts = torch.bincount(tokens[valid], minlength=1)
    has_newline = torch.zeros_like(counts, dtype=torch.bool)
    has_newline[[i for i in counts.nonzero().flatten().tolist() if "\n" in decode(i)]] = True
    return has_newline[keep(tokens, valid)]
