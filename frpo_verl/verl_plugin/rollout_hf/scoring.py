"""Log-probs of given tokens, as verl asks a distillation teacher for them."""

from __future__ import annotations

from typing import Any

import torch


@torch.inference_mode()
def score(model: Any, ids: list[int]) -> dict[str, list[list[float]]]:
    """log p(token | the tokens before it) in the form of verl's vLLM server.

    Returns:
        prompt_ids, prompt_logprobs: a list of one entry for each token: entry i is that of token i + 1, the last one 0.
    """
    tokens = torch.tensor([ids], device=next(model.parameters()).device)
    log_probs = torch.log_softmax(model(input_ids=tokens).logits[0, :-1].float(), dim=-1)
    chosen = log_probs.gather(-1, tokens[0, 1:, None]).squeeze(-1).tolist()
    return {"prompt_ids": [[i] for i in [*ids[1:], 0]], "prompt_logprobs": [[x] for x in [*chosen, 0.0]]}
