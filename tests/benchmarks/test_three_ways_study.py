"""benchmarks/three_ways.py: what a batch pushes each token by, against the equations written out once more."""

import pytest
import torch

pytest.importorskip("verl")
study = pytest.importorskip("three_ways")


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
    loo = torch.zeros_like(delta)  # of the others that reach the position
    for i in range(len(mask)):
        others = [j for j in range(len(mask)) if j // study.ANSWERS == i // study.ANSWERS and j != i]
        for t in range(mask.shape[1]):
            reach = [whole[j, 0] for j in others if mask[j, t]]
            loo[i, t] = torch.stack(reach).mean() if reach else 0.0
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
    runs = study.planned(["core", "std", "beta", "variants"], [1, 2], 40, 5e-4)
    assert len({run.key for run in runs}) == len(runs) == 2 * (5 + 5 + 6 + 3)
    assert {run.beta for run in runs if run.method == "no KL"} == {0.0}


def test_an_interval_is_students():
    mean, half = study.interval([1.0, 2.0, 3.0])
    assert mean == 2.0 and half == pytest.approx(4.303 / 3**0.5, rel=1e-3)
