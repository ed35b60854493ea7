"""benchmarks/study.py: what a batch pushes each token by, against the equations written out once more."""

import copy
import json
from pathlib import Path

import coverage
import language_model
import pytest
import records
import study
import three_ways
import torch
import transformers


@pytest.fixture
def batch():
    """Two groups of eight answers of 2 to 6 tokens: prompts, answers, mask, rewards, log-probs and reference's."""
    g = torch.Generator().manual_seed(0)
    rows, width = 2 * study.ANSWERS, 6
    lengths = torch.randint(2, width + 1, (rows,), generator=g)
    mask = torch.arange(width) < lengths[:, None]
    answers = torch.where(mask, 5, 0)
    reward = (torch.rand(rows, generator=g) < 0.4).float()
    current, ref = (-torch.rand(rows, width, generator=g) for _ in range(2))
    return torch.full((rows, 3), 7), answers, mask, reward, current.requires_grad_(), ref


@pytest.mark.parametrize("method", ["no KL", "future", "local", "k3 loss", "k2 loss", "reward", "sequence, position"])
@pytest.mark.parametrize("by_std", [False, True])
def test_the_push_of_every_token(batch, method, by_std):
    """-d loss / d log pi = (A_group - beta * regularizer) / tokens of the batch, one on-policy update."""
    prompts, answers, mask, reward, current, ref = batch
    beta = 0.0 if method == "no KL" else 0.3
    loss = study.Step(study.Run(method, beta, by_std, seed=0, steps=1, lr=1e-3))(*batch)
    push = -torch.autograd.grad(loss, current)[0]
    delta = (current.detach() - ref) * mask

    def group_advantage(score):
        score = score.view(2, -1)
        advantage = score - score.mean(1, keepdim=True)
        return (advantage / (score.std(1, keepdim=True) + 1e-6) if by_std else advantage).view(-1, 1)

    outcome, whole = group_advantage(reward), delta.sum(1, keepdim=True)
    loo = torch.zeros_like(whole)  # of the others
    for i in range(len(mask)):
        others = [j for j in range(len(mask)) if j // study.ANSWERS == i // study.ANSWERS and j != i]
        loo[i] = whole[others].mean()
    expected = {
        "no KL": outcome,
        "future": outcome - beta * delta.flip(1).cumsum(1).flip(1),
        "local": outcome - beta * delta,
        "k3 loss": outcome - beta * (1 - (-delta).exp()),
        "k2 loss": outcome - beta * delta,
        "reward": group_advantage(reward - beta * whole[:, 0]),
        "sequence, position": outcome - beta * (whole - loo),
    }[method]
    torch.testing.assert_close(push, expected * mask / mask.sum(), atol=1e-6, rtol=1e-4)


def test_runs_are_planned_once_each():
    runs = three_ways.planned(["core", "std", "beta", "variants"], [1, 2], 40, 5e-4)
    assert len({run.key for run in runs}) == len(runs) == 2 * (5 + 5 + 6 + 3)
    assert {run.beta for run in runs if run.method == "no KL"} == {0.0}


def test_the_cells_of_coverage_are_named_once_each():
    cells = coverage.cells()
    assert len({cell.key for cell in cells}) == len(cells) == len(set(cells))
    assert cells[0].method == "no KL" and {cell.beta for cell in cells if cell.method == "no KL"} == {0.0}


def test_published_runs_are_of_the_same_model(tmp_path):
    """A run that was published stays as it is, and none counts that began with another model."""
    saved = json.loads((Path(__file__).parents[2] / "docs/results/coverage.json").read_text())
    assert [coverage.brief(run) for run in saved["runs"]] == saved["runs"]
    found = coverage.published(Path(__file__).parents[2] / "docs/results/coverage.json", saved["start"])
    assert list(found.values()) == saved["runs"] and set(found) <= {cell.key for cell in coverage.cells()}
    assert not coverage.published(Path(__file__).parents[2] / "docs/results/coverage.json", {"pass@1": 0.1})


def test_methods_are_read_off_at_equal_pass_at_1():
    """Two seeds, two betas: on the straight line between the two ends that enclose it; never beyond the last one."""

    def run(method, beta, seed, one, kl):
        end = {"pass@1": one, "pass@16": 1 - one, "kl": kl, "entropy": 2 * kl}
        return {"method": method, "beta": beta, "seed": seed, "by_std": False, "unsolvable": 0.0, "end": end}

    runs = [run("future", 0.1, 1, 0.35, 1.0), run("future", 0.3, 1, 0.25, 0.5), run("local", 0.1, 1, 0.5, 2.0)]
    found = coverage.read_off(runs, by_std=False)
    assert found[0.3]["future"][1] == pytest.approx({"pass@16": 0.7, "kl": 0.75, "entropy": 1.5})
    assert set(found[0.35]) == {"future"} and not found[0.4]


@pytest.fixture
def tiny():
    """A model of 11 tokens."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4, tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.Qwen3ForCausalLM(config).eval()


def test_gae_pushes_by_the_kl_to_go_and_its_critic_learns(batch, tiny):
    """A critic that says 0 leaves reward - beta KL to go, whitened over the batch; then its values come nearer to that."""
    prompts, answers, mask, reward, current, ref = batch
    step = study.Step(study.Run("GAE", 0.3, False, seed=0, steps=1, lr=1e-3), tiny)
    push = -torch.autograd.grad(step(*batch), current)[0]
    go = ((current.detach() - ref) * mask).flip(1).cumsum(1).flip(1)
    returns = reward[:, None] - 0.3 * go
    white = (returns - returns[mask].mean()) / (returns[mask].var() + 1e-8).sqrt()
    torch.testing.assert_close(push, white * mask / mask.sum(), atol=1e-6, rtol=1e-4)
    step.critic.optimizer.param_groups[0]["lr"] = 0.02
    answers = torch.randint(1, 11, answers.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(40):
        step(prompts, answers, mask, reward, current, ref)
    assert step.figures["explained"] > 0.3


def test_log_probs_share_the_prompt(tiny):
    """A prompt that is read once for its answers gives what reading it for each of them does."""
    model = tiny
    prompts, answers = torch.randint(0, 11, (3, 4)), torch.randint(0, 11, (6, 5))
    rows = torch.cat([prompts.repeat_interleave(2, 0), answers], 1)
    expected = model(input_ids=rows).logits[:, 3:-1].log_softmax(-1)
    torch.testing.assert_close(study.log_probs(model, prompts, answers), expected, atol=1e-5, rtol=1e-4)
    grads = [torch.autograd.grad(study.pick(t, answers).sum(), model.lm_head.weight)[0]
             for t in (expected, study.log_probs(model, prompts, answers))]  # fmt: skip
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-3)
    sampled, mask = study.sample(model, prompts, 2, 5, 1, 0, torch.Generator().manual_seed(0))
    assert sampled.shape == mask.shape == (6, 5)
    for row, seen in zip(sampled.tolist(), mask.tolist(), strict=True):
        end = row.index(1) + 1 if 1 in row else 5
        assert seen == [True] * end + [False] * (5 - end) and set(row[end:]) <= {0}


def test_prompts_of_different_length_are_read_as_each_alone(tiny):
    """Padding on the left changes neither log-probs nor what is sampled."""
    prompts, answers = torch.randint(2, 11, (2, 4)), torch.randint(2, 11, (4, 5))
    prompts[0, :2] = 0
    together = study.log_probs(tiny, prompts, answers, pad=0)
    alone = torch.cat(
        [study.log_probs(tiny, prompts[:1, 2:], answers[:2]), study.log_probs(tiny, prompts[1:], answers[2:])]
    )
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    tiny.lm_head.weight.data *= 1e4  # the likeliest token is certain
    first, mask = study.sample(tiny, prompts, 1, 5, 1, 0, torch.Generator().manual_seed(0))
    single, _ = study.sample(tiny, prompts[:1, 2:], 1, 5, 1, 0, torch.Generator().manual_seed(0))
    assert first[0][mask[0]].tolist() == single[0][: int(mask[0].sum())].tolist()


@pytest.mark.parametrize("method", ["no KL", "future", "k3 loss"])
def test_the_parts_of_a_batch_add_up(tiny, method):
    """A language model's batch goes through verl's loss in parts: the gradient is that of the whole."""
    reference = copy.deepcopy(tiny)
    tiny.lm_head.weight.data += 0.3 * torch.randn_like(tiny.lm_head.weight)
    prompts, answers = torch.randint(2, 11, (4, 3)), torch.randint(2, 11, (8, 5))
    mask, reward = torch.arange(5) < torch.randint(1, 6, (8, 1)), torch.tensor([1.0, 0, 0, 1, 1, 1, 0, 1])
    step = study.Step(study.Run(method, 0.0 if method == "no KL" else 0.3, False, 0, 1, 1e-3), None, 4, 2)
    found = {}
    for kind in (study.Study, language_model.LanguageModel):
        task = kind.__new__(kind)
        task.reference, task.n_answers, task.pad = reference, 2, 0
        task.size = language_model.Size(prompts=4, answers=2, part=3)
        tiny.zero_grad()
        seen = task.backward(tiny, step, prompts, answers, mask, reward)
        found[kind] = {**seen, **{name: p.grad.clone() for name, p in tiny.named_parameters()}}
    torch.testing.assert_close(*found.values(), atol=1e-5, rtol=1e-4)


def test_an_interval_is_students():
    mean, half = records.interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.303 / 3**0.5, rel=1e-3)
