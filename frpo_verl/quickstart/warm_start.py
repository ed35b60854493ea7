"""How the tiny model is made and learns: the network, the loss on written answers, one step of supervised learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def make_model(settings: Any, tokenizer: Any) -> Any:
    """A freshly initialised Qwen3 in float32 for this tokenizer; deterministic in ``settings.seed``."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        num_key_value_heads=settings.n_kv_heads,
        head_dim=settings.head_dim,
        initializer_range=settings.init_std,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen3ForCausalLM(config).float()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def template_parts(tokenizer: Any) -> tuple[str, str, str]:
    """What the chat template puts before the question, between question and answer, and after the answer."""
    turns = [{"role": "user", "content": "\x01"}, {"role": "assistant", "content": "\x02"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    before, rest = text.split("\x01")
    between, after = rest.split("\x02")
    return before, between, after.rstrip("\n")


def encode_batch(tokenizer: Any, questions: Sequence[str], answers: Sequence[str]) -> tuple[Any, Any]:
    """Right-padded ids (B, T) int64 and a mask (B, T) bool that is true on the answer and its end marker."""
    import torch

    before, between, after = template_parts(tokenizer)
    prompts = [before + question + between for question in questions]
    texts = [prompt + answer + after for prompt, answer in zip(prompts, answers, strict=True)]
    heads, rows = (tokenizer(some, add_special_tokens=False)["input_ids"] for some in (prompts, texts))
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, len(heads[i]) : len(row)] = True
    return ids, mask


def answer_nll(model: Any, tokenizer: Any, problems: Sequence, answers: Sequence[str]) -> tuple[Any, Any]:
    """Negative log-likelihood (B, T-1) of each token of the answers, 0 off them, and the mask (B, T-1) of those tokens."""
    import torch
    import torch.nn.functional as F

    ids, mask = (x.to(model.device) for x in encode_batch(tokenizer, [p.question for p in problems], answers))
    mask = mask[:, 1:]
    # causal attention over right-padded rows: what stands behind a target cannot reach it, so no attention mask
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    nll = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none")
    return torch.where(mask, nll.view(mask.shape), nll.new_zeros(())), mask


class Learner:
    """Supervised learning on written answers: AdamW, no decay of vectors, gradient norm clipped to 1.

    Args:
        model: changed in place.
        tokenizer: of the model.
        settings: `learning_rate` grows over `warmup_steps`; `weight_decay`.
    """

    def __init__(self, model: Any, tokenizer: Any, settings: Any):
        import torch

        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.steps, self.loss = 0, float("nan")
        decay = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=(0.9, 0.95),
        )

    def step(self, problems: Sequence, answers: Sequence[str], share: float | None = None) -> None:
        """One step on a batch, with `share` of the learning rate (default: the warm-up's); `loss` and `steps` follow."""
        import torch

        self.steps += 1
        if share is None:
            share = min(1.0, self.steps / self.settings.warmup_steps)
        nll, mask = answer_nll(self.model, self.tokenizer, problems, answers)
        loss = nll.sum() / mask.sum()
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * share
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.loss = loss.item()
