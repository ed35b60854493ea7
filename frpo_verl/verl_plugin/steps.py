"""PRL's steps for a batch of verl's: by length from the mask, by line from the response's text."""

from __future__ import annotations

import functools

import torch

from ..core.steps import steps_by_length, steps_by_newline
from ..methods.settings import FrpoSettings
from .batch import Batch

_READER = "algorithm.frpo.step=newline"


def step_begins(view: Batch, mask: torch.Tensor, settings: FrpoSettings) -> torch.Tensor | None:
    """(B, T) bool, where a step begins; None where every token is a step."""
    if settings.step == "token":
        return None
    if settings.step == "length":
        return steps_by_length(mask, int(settings.step_length))
    ids = view.optional("responses", fetch=True)
    if ids is None:
        raise RuntimeError(f"{_READER} needs the responses and the batch has none: use step=length")
    tokenizer = _tokenizer(view)  # what the queue hands out may be padded wider than the mask
    return steps_by_newline(ids[:, : mask.shape[1]], mask, lambda token: tokenizer.decode([token]))


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
