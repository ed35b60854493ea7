"""How the tiny model learns: the loss is on the answer, one step is one step of AdamW."""

from dataclasses import replace

import torch

from frpo_verl.quickstart import three_ways, warm_start
from frpo_verl.quickstart.ways_model import Settings

SMALL = Settings(hidden_size=32, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=32, intermediate_size=32)
PROBLEMS = [three_ways.Problem((1, 2), 1), three_ways.Problem((10, 20), 2)]


def test_the_seed_decides_the_model(tokenizer):
    model = warm_start.make_model(SMALL, tokenizer)
    assert model.config.model_type == "qwen3" and model.config.vocab_size == len(tokenizer)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    again, other = (warm_start.make_model(replace(SMALL, seed=s), tokenizer) for s in (0, 1))
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, other.lm_head.weight)


def test_the_loss_is_on_the_answer_only(tokenizer):
    answers = ["#### 3", "#### 30"]
    ids, mask = warm_start.encode_batch(tokenizer, [p.question for p in PROBLEMS], answers)
    assert ids.shape == mask.shape and ids[0, -1] == tokenizer.pad_token_id
    assert [tokenizer.decode(row[m]) for row, m in zip(ids, mask, strict=True)] == [f"{a}<|im_end|>" for a in answers]
    nll, on = warm_start.answer_nll(warm_start.make_model(SMALL, tokenizer), tokenizer, PROBLEMS, answers)
    assert torch.equal(on, mask[:, 1:]) and nll.shape == on.shape
    assert bool((nll[~on] == 0).all()) and bool((nll[on] > 0).all())


def test_a_step_is_adamw_at_the_warm_ups_rate(tokenizer):
    """The first step moves each weight that has a gradient by learning_rate / warmup_steps, and decays matrices alone."""
    settings = replace(SMALL, weight_decay=0.5)
    model, start = (warm_start.make_model(settings, tokenizer) for _ in range(2))
    learner = warm_start.Learner(model, tokenizer, settings)
    learner.step(PROBLEMS, [p.written("B") for p in PROBLEMS])
    rate = settings.learning_rate / settings.warmup_steps
    assert learner.steps == 1 and learner.loss > 0
    assert learner.optimizer.param_groups[0]["lr"] == rate
    for (name, new), old in zip(model.named_parameters(), start.parameters(), strict=True):
        kept = old * (1 - rate * 0.5) if old.ndim > 1 else old
        moved = (new - kept)[new.grad.abs() > 1e-5].abs()
        assert moved.numel() and torch.allclose(moved, torch.full_like(moved, rate), rtol=1e-2), name
    learner.step(PROBLEMS, [p.written("B") for p in PROBLEMS], share=0.25)
    assert learner.optimizer.param_groups[1]["lr"] == settings.learning_rate * 0.25
