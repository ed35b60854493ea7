import math

import pytest
import torch
from toys import frpo

from frpo_verl.core.divergences import DIVERGENCES
from frpo_verl.core.losses.frpo import frpo_loss_advantages
from frpo_verl.core.losses.terms import read_loss_inputs


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    log_prob, old, ref = -torch.rand(3, 5, 7, generator=generator) * 3
    mask = torch.rand(5, 7, generator=generator) < 0.7
    mask[4] = False
    advantages = torch.randn(5, generator=generator)
    return dict(log_prob=log_prob, old_log_prob=old, ref_log_prob=ref, mask=mask, advantages=advantages)


@pytest.mark.parametrize("name", ["reverse_kl", "js"])
def test_it_is_the_advantage_of_the_current_policy(name):
    x = batch()
    x["log_prob"].requires_grad_()
    got, metrics = frpo_loss_advantages(read_loss_inputs(**x), kl_coef=0.3, divergence=DIVERGENCES[name])
    columns = (x["advantages"], x["log_prob"].detach(), x["ref_log_prob"], x["mask"])
    expected = frpo(*columns, kl_coef=0.3, divergence=DIVERGENCES[name])
    torch.testing.assert_close(got, expected.advantages)
    assert not got.requires_grad and (got[~x["mask"]] == 0).all()
    assert metrics["frpo/loss_kl_to_ref"] == pytest.approx(expected.metrics["frpo/kl_to_ref/k1"])
    assert metrics["frpo/loss_log_ratio_clip_frac"] == 0.0


def test_the_bound_and_its_share():
    x = batch(1)
    x["log_prob"][0, 0], x["mask"][0, 0] = -50.0, True
    inputs = read_loss_inputs(**x)
    far, metrics = frpo_loss_advantages(inputs, kl_coef=1.0, divergence=DIVERGENCES["reverse_kl"], log_ratio_clip=20.0)
    assert metrics["frpo/loss_log_ratio_clip_frac"] == pytest.approx(1 / int(x["mask"].sum()))
    wide, metrics = frpo_loss_advantages(inputs, kl_coef=1.0, divergence=DIVERGENCES["reverse_kl"], log_ratio_clip=80.0)
    assert metrics["frpo/loss_log_ratio_clip_frac"] == 0.0 and wide[0, 0] > far[0, 0] + 10


@pytest.mark.parametrize("name", ["log_prob", "ref_log_prob"])
def test_a_nan_on_a_response_token_is_not_hidden(name):
    x = batch(2)
    x["mask"][1, :4] = True
    x[name][1, 3] = math.nan
    got, metrics = frpo_loss_advantages(read_loss_inputs(**x), kl_coef=0.1, divergence=DIVERGENCES["reverse_kl"])
    assert torch.equal(got.isnan(), x["mask"] & (torch.arange(5) == 1)[:, None])
    assert all(math.isfinite(v) for v in metrics.values())


def test_refuses():
    x = batch()
    inputs = read_loss_inputs(**x)
    with pytest.raises(ValueError, match="kl_coef=-1"):
        frpo_loss_advantages(inputs, kl_coef=-1, divergence=DIVERGENCES["js"])
    with pytest.raises(ValueError, match="ref_log_prob is missing"):
        frpo_loss_advantages(inputs._replace(ref_log_prob=None), kl_coef=0.1, divergence=DIVERGENCES["js"])
