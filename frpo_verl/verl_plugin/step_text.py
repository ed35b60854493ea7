"""What `step: newline` needs beyond log-probs: the response's token ids and the tokenizer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from omegaconf import OmegaConf

from . import context

_tokenizers: dict[str, object] = {}


def _tokenizer():
    call = context.current_advantage_call()
    if call is not None and call.tokenizer is not None:
        return call.tokenizer
    config = context.PROCESS.run_config
    path = OmegaConf.select(config, "actor_rollout_ref.model.path", default=None) if config is not None else None
    if path is None:
        raise RuntimeError(
            "algorithm.frpo.step=newline needs the tokenizer and this trainer hands none over: use step=length"
        )
    if path not in _tokenizers:
        from verl.utils import hf_tokenizer

        _tokenizers[path] = hf_tokenizer(path)
    return _tokenizers[path]


def response_ids(batch, mask: torch.Tensor) -> tuple[torch.Tensor, Callable[[int], str]]:
    """(token ids (B, T), id -> text) of the responses of the batch under way."""
    call = context.current_advantage_call()
    if "responses" in batch.keys():
        ids = batch["responses"]
    elif call is not None and call.fetch is not None:
        ids = call.fetch(["responses"])["responses"]
    else:
        raise RuntimeError("algorithm.frpo.step=newline needs the responses and the batch has none: use step=length")
    tokenizer = _tokenizer()
    return ids[:, : mask.shape[1]], lambda token: tokenizer.decode([token])
