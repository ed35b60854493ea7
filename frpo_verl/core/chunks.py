"""One pass over a batch, a few answers at a time.

A row is an answer, unless rows share a session: an agent that shortens its context writes one answer as several rows, each
of which continues the one before. Such rows are put end to end,

    answer = row_1 | row_2 | ... | row_K        (1, K T), masked where an answer has fewer rows,

so that no equation needs to know of them. Every column is read once, and nothing of full size is allocated but the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import torch

from frpo_verl.core.tokens import Answers, Columns, read_answers

Rows = slice | torch.Tensor  # rows that are an answer each, or (R, K) the rows of each answer in order, -1 for none
Sums = dict[str, torch.Tensor]


@torch.no_grad()
def one_pass(
    columns: Columns,
    compute: Callable[[Answers], tuple[torch.Tensor, Sums]],
    *,
    clip: float = 20.0,
    whole_groups: bool = False,
) -> tuple[torch.Tensor, Sums]:
    """Apply `compute` to all answers of a batch, so few at a time that temporaries stay in the cache.

    Args:
        columns: the batch.
        compute: answers -> ((R, C) values, read on response tokens, or (R,); tensors with one row for each answer).
        clip: bound of the log-ratio in nats.
        whole_groups: the answers of a group stay together.

    Returns:
        (B, T) values, 0 off the mask, or (B,), one for all rows of an answer; and the tensors of all answers.

    Raises ValueError: a session with several prompts. FloatingPointError: NaN or infinity on a response token.
    """
    answers = rows_of_answers(len(columns.mask), columns.session_ids, columns.session_index, columns.group_ids)
    out, found = None, []
    for rows in answer_chunks(answers, columns.mask, columns.group_ids if whole_groups else None):
        part = read_answers(clip=clip, **_part(columns, rows))
        if part.broken is not None:
            row = int(_rows(rows, columns.mask)[part.broken][0, 0])
            raise FloatingPointError(f"log_prob or ref_log_prob is NaN or infinite on a response token of row {row}")
        value, sums = compute(part)
        if out is None:
            out = value.new_empty(columns.mask.shape[: value.dim()])
        write_rows(value, rows, out, part.valid)
        found.append(sums)
    assert out is not None, "there is at least one chunk"
    return out, {name: torch.cat([sums[name] for sums in found]) for name in found[0]}


def rows_of_answers(
    rows: int,
    session_ids: torch.Tensor | None = None,
    session_index: torch.Tensor | None = None,
    group_ids: torch.Tensor | None = None,
) -> Rows:
    """Which of B rows make an answer: all, one each, or the rows of each session; ids as `Columns` keeps them.

    Raises ValueError: a session whose rows stand in several groups.
    """
    if session_ids is None or rows == 0:
        return slice(0, rows)
    session = session_ids.cpu()
    size = torch.bincount(session)
    if int(size.max()) == 1:
        return slice(0, rows)
    order = torch.arange(rows) if session_index is None else torch.argsort(session_index.cpu(), stable=True)
    order = order[torch.argsort(session[order], stable=True)]
    place = torch.arange(rows) - (size.cumsum(0) - size)[session[order]]
    table = torch.full((len(size), int(size.max())), -1)
    table[session[order], place] = order
    if group_ids is not None and not torch.equal(group_ids[table[session, 0]], group_ids):
        raise ValueError("session_ids: the rows of a session answer one prompt, and must have one group id")
    return table


def answer_chunks(answers: Rows, mask: torch.Tensor, group: torch.Tensor | None = None) -> Iterator[Rows]:
    """Chunks of whole `answers`, of whole groups if their dense ids, (B,), are given; at least one chunk."""
    elements = 2**17 if mask.device.type == "cpu" else 2**24  # a second-level cache; some dozen MB of an accelerator
    budget = max(1, elements // max(1, mask.shape[1]))
    if isinstance(answers, slice) and (group is None or not len(mask)):
        yield from (slice(start, min(start + budget, len(mask))) for start in range(0, max(1, len(mask)), budget))
        return
    table = _rows(answers, mask).cpu()
    size = (table >= 0).sum(-1)
    unit = torch.arange(len(table)) if group is None else group.cpu()[table[:, 0]]
    longest = torch.zeros_like(unit).scatter_reduce_(0, unit, size, "amax")[unit]
    order = torch.argsort(longest * (len(mask) + 1) + unit, stable=True)  # of alike size together: little is padded
    ends = torch.unique_consecutive(unit[order], return_counts=True)[1].cumsum(0).tolist()
    start = 0
    for end, following in zip_longest(ends, ends[1:]):
        if following is None or (following - start) * int(longest[order[following - 1]]) > budget:
            chosen = order[start:end]
            yield table[chosen, : int(size[chosen].max())].to(mask.device)
            start = end


def write_rows(values: torch.Tensor, rows: Rows, out: torch.Tensor, valid: torch.Tensor | None = None) -> None:
    """Write (R, C) values, 0 off `valid`, or (R,), one for each answer, to the rows of `out`, (B, T) or (B,)."""
    if valid is not None and values.dim() == 2:
        into = out[rows] if isinstance(rows, slice) else None
        values = torch.where(valid, values, values.new_zeros(()), out=into)
        if into is not None:
            return
    if isinstance(rows, slice):
        out[rows] = values
        return
    there = rows >= 0
    parts = values[:, None].expand(rows.shape) if values.dim() == 1 else values.unflatten(1, (rows.shape[1], -1))
    out[rows[there]] = parts[there]


def last_rows(rows: Rows) -> slice | torch.Tensor:
    """The last row of each answer: the one whose score counts."""
    if isinstance(rows, slice):
        return rows
    return rows.gather(1, (rows >= 0).sum(-1, keepdim=True) - 1)[:, 0]


def _rows(rows: Rows, mask: torch.Tensor) -> torch.Tensor:
    """(R, K) the same as a table."""
    return torch.arange(len(mask), device=mask.device)[rows, None] if isinstance(rows, slice) else rows


def _part(columns: Columns, rows: Rows) -> dict[str, Any]:
    """What the door reads of some answers, with the rows of an answer end to end."""
    last = last_rows(rows)

    def tokens(x: torch.Tensor | None) -> Any:
        if x is None or isinstance(rows, slice):
            return None if x is None else x[rows]
        there = rows >= 0
        parts = x[last] if rows.shape[1] == 1 else x[rows.clamp(min=0)].flatten(1)
        if bool(there.all()):
            return parts
        return torch.where(there.repeat_interleave(x.shape[1], 1), parts, torch.zeros_like(parts[:1, :1]))

    outcome = columns.outcome
    if outcome is not None and outcome.dim() == 1 and isinstance(rows, torch.Tensor) and rows.shape[1] > 1:
        outcome = outcome[:, None].expand(columns.mask.shape)
    return {
        "log_prob": tokens(columns.log_prob),
        "ref_log_prob": tokens(columns.ref_log_prob),
        "mask": tokens(columns.mask).bool(),
        "outcome": tokens(outcome),
        "group": None if columns.group_ids is None else columns.group_ids[last],
        "step_begins": tokens(columns.step_begins),
        "scores": None if columns.scores is None else columns.scores[last],
        "entropy": tokens(columns.entropy),
        "other_log_prob": tokens(columns.other_log_prob),
    }
