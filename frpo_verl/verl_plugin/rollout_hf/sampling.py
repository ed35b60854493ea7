"""Reproducible sampling inside transformers' `generate`.

`generate` draws from one global generator, so a row's tokens depend on which rows share its batch. Requests reach a
server in any order; a run could then never be repeated. `SeededSampling` is a logits processor that, after the usual
temperature, top-k and top-p warpers, draws every row from its own stream of uniforms by inverting the cumulative
distribution, and leaves that one token as the only finite score. `generate(do_sample=False)` then picks it.

    token_t = min { v : sum_{v' <= v} p_t(v') > u_t },     u_t ~ U(0, 1) from the row's own stream
    log_prob_t = log p_t(token_t)

The log-probs are those of the distribution that was sampled (verl's `logprobs_mode: processed_logprobs`).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


def row_seed(seed: int, version: int, prompt_ids: list[int], occurrence: int) -> int:
    """A 128-bit seed for one answer: the run's seed, the weights' version, the prompt, and which answer to it this is."""
    digest = hashlib.blake2b(digest_size=16)
    for value in (seed, version, occurrence, *prompt_ids):
        digest.update(int(value).to_bytes(8, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


def row_uniforms(seeds: list[int], length: int) -> torch.Tensor:
    """Uniforms in [0, 1), float64, shape (rows, length): row i depends on `seeds[i]` and nothing else."""
    rows = [np.random.Generator(np.random.Philox(seed)).random(length) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


class SeededSampling(LogitsProcessor):
    """Draw each row from its own uniforms; with `uniforms=None` take the most likely token (temperature 0)."""

    def __init__(self, uniforms: torch.Tensor | None, prompt_width: int):
        self.uniforms = uniforms
        self.prompt_width = prompt_width
        self.log_probs: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        log_p = torch.log_softmax(scores.float(), dim=-1)
        if self.uniforms is None:
            token = log_p.argmax(dim=-1, keepdim=True)
        else:
            cumulative = log_p.double().exp().cumsum(dim=-1)
            u = self.uniforms[:, input_ids.shape[1] - self.prompt_width].to(scores.device).unsqueeze(-1)
            token = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True).clamp_(max=scores.shape[-1] - 1)
        self.log_probs.append(log_p.gather(-1, token).squeeze(-1))
        return torch.full_like(scores, -torch.inf).scatter_(-1, token, 0.0)


def build_processors(
    uniforms: torch.Tensor | None, prompt_width: int, *, temperature: float, top_p: float, top_k: int
) -> tuple[LogitsProcessorList, SeededSampling]:
    """The warpers in the order of transformers' own sampler (temperature, top-k, top-p), then `SeededSampling`."""
    processors = LogitsProcessorList()
    if uniforms is not None:
        if temperature != 1.0:
            processors.append(TemperatureLogitsWarper(float(temperature)))
        if top_k is not None and top_k > 0:
            processors.append(TopKLogitsWarper(int(top_k)))
        if top_p is not None and top_p < 1.0:
            processors.append(TopPLogitsWarper(float(top_p)))
    sampler = SeededSampling(uniforms, prompt_width)
    processors.append(sampler)
    return processors, sampler
