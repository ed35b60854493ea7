"""A batch worked through a few answers at a time.

A row is an answer, unless rows share a session: an agent that shortens its context writes one answer as several rows, each
of which continues the one before. Such rows are put end to end,

    answer = row_1 | row_2 | ... | row_K        (1, K T), masked where an answer has fewer rows,

so that no equation needs to know of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import torch

from frpo_verl.core.tokens import chunk_elements, dense_ids, keep, row_chunks

__all__ = ["Rows", "answer_chunks", "answers_of", "last_rows", "rows_of_answers", "write_rows"]

Rows = slice | torch.Tensor  # rows that are an answer each, or (R, K) the rows of each answer in order, -1 for none


def rows_of_answers(
    rows: int, session_ids: Any = None, session_index: torch.Tensor | None = None, group: torch.Tensor | None = None
) -> Rows:
    """Which rows make an answer: all rows, one each, or the rows of each session.

    Args:
        rows: B.
        session_ids: (B,) ids of any kind, equal for the rows of one session; None where each row is one.
        session_index: (B,) the row's place in its session, gaps allowed; the order of the batch by default.
        group: (B,) dense ids of the prompts, if known.

    Raises:
        ValueError: not one id or place for each row, or a session whose rows stand in several groups.
    """
    if session_ids is None:
        return slice(0, rows)
    session = dense_ids(session_ids, rows, "session_ids").cpu()
    if session_index is None:
        session_index = torch.arange(rows)
    if session_index.shape != (rows,):
        raise ValueError(
            f"session_index has shape {tuple(session_index.shape)}: must hold one place for each of the {rows} rows"
        )
    size = torch.bincount(session)
    if rows == 0 or int(size.max()) == 1:
        return slice(0, rows)
    order = torch.argsort(session_index.cpu(), stable=True)
    order = order[torch.argsort(session[order], stable=True)]
    place = torch.arange(rows) - (size.cumsum(0) - size)[session[order]]
    table = torch.full((len(size), int(size.max())), -1)
    table[session[order], place] = order
    if group is not None and not torch.equal(group.cpu()[table[session, 0]], group.cpu()):
        raise ValueError("session_ids: the rows of a session answer one prompt, and must have one group id")
    return table


def answer_chunks(
    answers: Rows, columns: int, device: torch.device, group: torch.Tensor | None = None
) -> Iterator[Rows]:
    """Chunks of whole answers, of whole groups if their ids are given, so few that temporaries stay in the cache.

    Args:
        answers: from `rows_of_answers`.
        columns: T of the batch.
        device: where it lies.
        group: (B,) dense ids; the answers of a group stay together.
    """
    if isinstance(answers, slice) and group is None:
        yield from row_chunks(answers.stop, columns, device)
        return
    table = torch.arange(answers.stop)[:, None] if isinstance(answers, slice) else answers
    size = (table >= 0).sum(-1)
    unit = torch.arange(len(table)) if group is None else group.cpu()[table[:, 0]]
    groups = int(unit.max()) + 1 if len(unit) else 0
    longest = torch.zeros(groups + 1, dtype=size.dtype).scatter_reduce_(0, unit, size, "amax")[unit]
    order = torch.argsort(
        longest * (groups + 1) + unit, stable=True
    )  # answers of alike size together: little is padded
    _, count = torch.unique_consecutive(unit[order], return_counts=True)
    ends = count.cumsum(0).tolist()
    start, budget = 0, chunk_elements(device) // max(1, columns)
    for end, following in zip_longest(ends, ends[1:]):
        if following is None or (following - start) * int(longest[order[following - 1]]) > budget:
            chosen = order[start:end]
            yield table[chosen, : int(size[chosen].max())].to(device)
            start = end


def answers_of(x: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The part of a (B, T) tensor with the rows of an answer end to end, (R, K T); 0 where an answer has fewer rows."""
    if isinstance(rows, slice):
        return x[rows]
    parts = x[rows.clamp(min=0)]
    return (parts if rows.shape[1] == 1 else keep(parts, (rows >= 0)[:, :, None])).flatten(1)


def write_rows(answers: torch.Tensor, rows: Rows, out: torch.Tensor) -> None:
    """The way back: write (R, K T), or (R,) one value for each answer, to the rows of `out`, (B, T) or (B,)."""
    if isinstance(rows, slice):
        out[rows] = answers
        return
    there = rows >= 0
    values = answers[:, None].expand(rows.shape) if answers.dim() == 1 else answers.unflatten(1, (rows.shape[1], -1))
    out[rows[there]] = values[there]


def last_rows(rows: Rows) -> slice | torch.Tensor:
    """The last row of each answer: the one whose score counts."""
    if isinstance(rows, slice):
        return rows
    return rows.gather(1, (rows >= 0).sum(-1, keepdim=True) - 1)[:, 0]
