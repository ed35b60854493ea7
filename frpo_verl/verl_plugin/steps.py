"""PRL's steps for a batch of verl's: by length from the mask, by line from the response's text."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from ..core.steps import step_starts_by_length, step_starts_by_newline
from ..methods.settings import FrpoSettings
from .batch import Batch

StepRule = Callable[[slice | torch.Tensor, torch.Tensor], torch.Tensor]
_READER = "algorithm.frpo.step=newline"


def step_rule(view: Batch, settings: FrpoSettings) -> StepRule | None:
    """(rows, their mask) -> the column at which each token's step starts; None where every token is a step."""
    if settings.step == "token":
        return None
    if settings.step == "length":
        return lambda rows, valid: step_starts_by_length(valid, int(settings.step_length))
    ids = view.optional("responses", fetch=True)
    if ids is None:
        raise RuntimeError(f"{_READER} needs the responses and the batch has none: use step=length")
    ids = ids[:, : view.mask.shape[1]]  # what the queue hands out may be padded wider than the mask
    tokenizer = _tokenizer(view)

    @functools.cache
    def decode(token: int) -> str:
        return tokenizer.decode([token])

    return lambda rows, valid: step_starts_by_newline(ids[rows], valid, decode)


def _tokenizer(view: Batch):
    if view.source is not None and view.source.tokenizer is not None:
        return view.source.tokenizer
    path = view.run.get("actor_rollout_ref.model.path")
    if path is None:
        raise RuntimeError(f"{_READER} needs the tokenizer and this trainer hands none over: use step=length")
    return _load(path)


@functools.cache
def _load(path: str):
    from verl.utils import hf_tokenizer

    return hf_tokenizer(path)
