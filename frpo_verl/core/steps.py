"""PRL's steps (arXiv 2601.10201v1): where a multi-token step of a response begins.

All tokens of a step take the KL-to-go at the step's *start*. What a token adds to that sum before itself is in the past
when the token is chosen, so the expected gradient is exact for every step length:

    E[ score_t sum_{j>=s} c_j ] = E[ score_t sum_{j>=t} c_j ]    for s <= t, because E[ score_t | s_t ] = 0

The functions return (B, T) bool, True on the first token of a step, a batch's `step_begins`; a step does not cross rows.

Differs from PRL's public code, which takes the suffix at the step's *end* and so loses the costs between the token and
that end (a biased estimate for every step longer than one token), and which finds newlines by comparing single token
ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from frpo_verl.methods import ranges


def steps_by_length(mask: torch.Tensor, step_length: int) -> torch.Tensor:
    """Steps of a fixed number of response tokens, counted from the start of the row.

        step of the p-th response token (p = 0, 1, ...) = floor(p / step_length)

    Args:
        mask: (B, T) any dtype, non-zero = response token. Masked tokens in the middle (tool output) are not counted.
        step_length: tokens in a step, a whole number >= 1; 1 gives every token its own step.
    """
    ranges.STEP_LENGTH.check("step_length", step_length)
    valid = mask.bool()
    position = valid.cumsum(-1, dtype=torch.int32).sub_(1)
    return (position.remainder_(int(step_length)) == 0) & valid


def steps_by_newline(
    tokens: torch.Tensor | Sequence[Sequence[str]], mask: torch.Tensor, decode: Callable[[int], str] | None = None
) -> torch.Tensor:
    """Steps that end with a line: a new step begins after every response token whose text contains a newline.

    Tokens that merge a newline with something else (".\\n", "\\n\\n", ")\\n  ") end a step like a bare newline does.

    Args:
        tokens: (B, T) integer token ids, or for each row the list of its T token texts.
        mask: (B, T) any dtype, non-zero = response token; texts of masked tokens are not looked at.
        decode: token id -> its text; called once for each distinct id among the response tokens. Needed with ids.

    Raises ValueError: ids without `decode`, or shapes that do not fit the mask.
    """
    valid, begins = mask.bool(), torch.zeros_like(mask, dtype=torch.bool)
    ends = _newline_of(tokens, valid, decode)
    for row, kept in enumerate(valid):
        if kept.any():
            line_ends = ends(row)[:-1]  # of every response token but the last: the next one begins a step
            begins[row, kept] = torch.cat([line_ends.new_ones(1), line_ends])
    return begins


def _newline_of(
    tokens: torch.Tensor | Sequence[Sequence[str]], valid: torch.Tensor, decode: Callable[[int], str] | None
) -> Callable[[int], torch.Tensor]:
    """row -> (its response tokens,) bool: the token's text contains a newline."""
    if not isinstance(tokens, torch.Tensor):
        if len(tokens) != valid.shape[0] or any(len(row) != valid.shape[1] for row in tokens):
            raise ValueError(f"tokens must be {valid.shape[0]} lists of {valid.shape[1]} texts, one for each column")
        return lambda row: torch.tensor(["\n" in text for text in tokens[row]], device=valid.device)[valid[row]]
    if decode is None:
        raise ValueError("steps end at newlines of decoded text: pass decode (token id -> text), e.g. a tokenizer's")
    if tokens.shape != valid.shape or tokens.is_floating_point():
        raise ValueError(
            f"tokens must be integers of shape {tuple(valid.shape)}, got {tokens.dtype} of shape {tuple(tokens.shape)}"
        )
    seen = torch.zeros(int(tokens.max()) + 1 if tokens.numel() else 0, dtype=torch.bool, device=tokens.device)
    for row, kept in zip(tokens, valid, strict=True):
        seen[row[kept]] = True
    newline = torch.zeros_like(seen)
    newline[[i for i in seen.nonzero().flatten().tolist() if "\n" in decode(i)]] = True
    return lambda row: newline[tokens[row][valid[row]]]
