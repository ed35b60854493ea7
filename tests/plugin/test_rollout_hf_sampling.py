"""Sampling inside `generate`: the right distribution, one stream for each row, log-probs of what was sampled."""

import pytest
import torch

from frpo_verl.verl_plugin.rollout_hf.sampling import build_processors, row_seed, row_uniforms


def draw(logits, uniforms, **kwargs):
    settings = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, **kwargs}
    processors, sampler = build_processors(uniforms, 0, **settings)
    scores = processors(torch.zeros(logits.shape[0], 0, dtype=torch.long), logits)
    return scores.argmax(-1), sampler.log_probs[0]


@pytest.mark.parametrize("kwargs", [{}, {"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 3}, {"top_p": 0.7}])
def test_frequencies_follow_the_warped_distribution(kwargs):
    n = 40_000
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
    uniforms = row_uniforms([7], n).T  # one stream cut into n rows
    tokens, log_probs = draw(logits.expand(n, -1), uniforms, **kwargs)
    p = torch.softmax(logits / kwargs.get("temperature", 1.0), -1)
    if "top_k" in kwargs:
        p[3:] = 0
    if "top_p" in kwargs:
        p[2:] = 0  # 0.66 + 0.24 passes 0.7 with the second token
    p = p / p.sum()
    share = torch.bincount(tokens, minlength=5) / n
    assert (share - p).abs().max() < 4 * (0.25 / n) ** 0.5
    torch.testing.assert_close(log_probs, p.log()[tokens], rtol=0, atol=1e-5)


def test_temperature_zero_is_the_most_likely_token():
    tokens, _ = draw(torch.tensor([[0.0, 3.0, 1.0]]), None, temperature=0.0)
    assert tokens.tolist() == [1]


def test_a_row_depends_on_its_own_seed_only():
    a, b = row_seed(1, 0, [5, 6], 0), row_seed(1, 0, [5, 6], 1)
    assert torch.equal(row_uniforms([a, b], 4)[1:], row_uniforms([b], 4))
    assert torch.equal(row_uniforms([a], 8)[:, :4], row_uniforms([a], 4))  # a longer limit continues the stream
    others = {row_seed(2, 0, [5, 6], 0), row_seed(1, 1, [5, 6], 0), row_seed(1, 0, [5, 7], 0), b}
    assert a not in others and len(others) == 4


def test_the_edges_of_the_unit_interval_stay_in_the_support():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    for u in (0.0, 1.0 - 2**-53):
        tokens, _ = draw(logits, torch.tensor([[u]], dtype=torch.float64))
        assert tokens.item() in (1, 2)
