"""CoRPO and MaxRL: literal numbers, the properties that they are taken for."""

import pytest
import torch

from frpo_verl.core.outcomes import batch_mean_advantages, corpo_advantages, maxrl_advantages

IDS = ["a", "b", "a", "b", "a"]


def test_corpo_with_literal_numbers():
    scores = torch.tensor([0.2, 0.9, 0.4, 0.7, 0.3])  # means .3 and .8
    found = corpo_advantages(scores, IDS, threshold=0.5)
    torch.testing.assert_close(found, torch.tensor([-0.3, 0.1, -0.1, -0.1, -0.2]))


def test_corpo_never_pushes_below_the_threshold_and_never_sums_above_zero():
    g = torch.Generator().manual_seed(0)
    for threshold in (-0.5, 0.0, 0.5, 1.0):
        scores = torch.rand(60, generator=g, dtype=torch.float64) * 2 - 1
        ids = torch.arange(60) % 7
        found = corpo_advantages(scores, ids, threshold=threshold)
        assert (found[scores < threshold] < 0).all()
        sums = torch.zeros(7, dtype=torch.float64).index_add_(0, ids, found)
        assert (sums <= 1e-12).all()
        means = torch.stack([scores[ids == i].mean() for i in range(7)])
        above = means[ids] > threshold
        torch.testing.assert_close(found[above], (scores - means[ids])[above])


def test_maxrl_with_literal_numbers():
    scores = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    found = maxrl_advantages(scores, IDS, eps=0.0 + 1e-12)
    torch.testing.assert_close(found, torch.tensor([2.0, 0.0, -1.0, 0.0, -1.0], dtype=torch.float64))


def test_maxrl_is_the_gradient_of_log_p_in_a_large_group():
    """A bandit of three arms, rewards 0/1: sum over a population of A grad log pi equals grad log p."""
    logits = torch.tensor([0.3, -1.0, 0.2], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64)
    pi = logits.softmax(0)
    (truth,) = torch.autograd.grad((pi * right).sum().log(), logits)
    counts = (pi.detach() * 2_000_000).round().long()  # a group in which each arm has its share
    arms = torch.repeat_interleave(torch.arange(3), counts)
    advantage = maxrl_advantages(right[arms], torch.zeros(len(arms)))
    loss = (advantage * torch.log_softmax(logits, 0)[arms]).mean()
    (found,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="mean -1"):
        maxrl_advantages(torch.tensor([-1.0, -1.0]), [0, 0])
    with pytest.raises(ValueError, match=r"must be \(B,\)"):
        corpo_advantages(torch.zeros(2, 2), [0, 0])
    with pytest.raises(ValueError, match="one id"):
        maxrl_advantages(torch.zeros(2), [0])


def test_the_batch_mean_with_literal_numbers():
    scores = torch.tensor([1.0, 0.0, 0.5, 4.0, 2.0])
    assert torch.allclose(batch_mean_advantages(scores), scores - 1.5)
    assert torch.equal(batch_mean_advantages(torch.tensor([2.0])), torch.tensor([2.0]))
    padded = torch.cat([scores, torch.tensor([torch.nan, 9.0])])
    found = batch_mean_advantages(padded, torch.tensor([1, 1, 1, 1, 1, 0, 0]))
    assert torch.allclose(found, torch.tensor([-0.5, -1.5, -1.0, 2.5, 0.5, 0.0, 0.0]))
    with pytest.raises(ValueError, match=r"scores must be \(B,\), got shape \(2, 2\)"):
        batch_mean_advantages(torch.zeros(2, 2))
