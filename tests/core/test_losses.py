"""What every loss does with masked tokens, half precision and wrong settings; each has a file of its own for its equation."""

import itertools
import math

import pytest
import torch

from frpo_verl.core.losses import f_grpo
from frpo_verl.core.losses.clipping import divergence_clip_loss
from frpo_verl.core.losses.rpg import rpg_loss
from frpo_verl.core.losses.terms import read_loss_inputs
from frpo_verl.methods.names import CLIP_MEASURES, RPG_VARIANTS

nan, inf = math.nan, math.inf
MASK = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 0], [1] * 6, [0] * 6])
LOSSES = {"clip": divergence_clip_loss, "rpg": rpg_loss, "f_grpo": f_grpo.f_grpo_loss}
KINDS = [("clip", {"measure": measure, "delta": 0.0231}) for measure in CLIP_MEASURES]
KINDS += [
    ("rpg", {"variant": v, "reinforce": r, "kl_coef": 0.3, "level": level, "reference": reference})
    for v, r, level, reference in itertools.product(RPG_VARIANTS, (False, True), ("token", "sequence"), ("old", "ref"))
]
KINDS += [
    ("f_grpo", {"divergence": name, "length_normalize": by_length})
    for name, by_length in itertools.product(f_grpo.LINKS, (False, True))
]
IDS = ["-".join(map(str, (name, *kind.values()))) for name, kind in KINDS]


def tensors(seed, rows=4, columns=6):
    g = torch.Generator().manual_seed(seed)
    log_prob, old, ref = -3 * torch.rand(3, rows, columns, generator=g)
    advantages = torch.tensor([1.0, -1.0, 0.5, 2.0])[:rows, None].expand(rows, columns)
    return [log_prob, old, advantages, ref]


def loss_of(name, log_prob, old, advantages, ref, mask, **kind):
    """(loss by token or by answer, its metrics)."""
    inputs = read_loss_inputs(log_prob=log_prob, old_log_prob=old, advantages=advantages, mask=mask, ref_log_prob=ref)
    terms = LOSSES[name](inputs, **kind)
    return (terms.sequence_loss if terms.token_loss is None else terms.token_loss), terms.metrics


@pytest.mark.parametrize("name, kind", KINDS, ids=IDS)
def test_masked_positions_have_no_effect(name, kind):
    def run(garbage):
        given = [torch.where(MASK.bool(), x, garbage) for x in tensors(2)]
        given[0].requires_grad_()
        loss, metrics = loss_of(name, *given, MASK, **kind)
        return loss.detach(), torch.autograd.grad(loss.sum(), given[0])[0], metrics

    loss, grad, metrics = run(0.0)
    assert (grad[MASK == 0] == 0).all() and (loss[3] == 0).all() and grad.isfinite().all()
    assert grad[MASK == 1].abs().max() > 0 and (loss.ndim == 1 or (loss[MASK == 0] == 0).all())
    for garbage in (nan, inf, -inf, 1e30):
        dirty_loss, dirty_grad, dirty_metrics = run(garbage)
        assert torch.equal(dirty_loss, loss) and torch.equal(dirty_grad, grad) and dirty_metrics == metrics


@pytest.mark.parametrize("name, kind", KINDS, ids=IDS)
def test_bf16_is_computed_in_float32(name, kind):
    half = [x.bfloat16() for x in tensors(3)]
    loss, _ = loss_of(name, *half, MASK, **kind)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, loss_of(name, *(x.float() for x in half), MASK, **kind)[0])


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("clip", dict(measure="kl4"), "measure='kl4'"),
        ("clip", dict(measure="kl3", delta=0.0), "delta=0.0"),
        ("clip", dict(measure="kl3", delta=-1), "delta=-1"),
        ("clip", dict(measure="kl3", delta=nan), "delta=nan"),
        ("clip", dict(measure="kl3", delta=(0.1, 0.2)), "a pair goes with ratio"),
        ("clip", dict(measure="ratio", delta=(0.1, 0.2, 0.3)), "delta="),
        ("clip", dict(measure="tv", delta=True), "delta=True"),
        ("clip", dict(measure="kl1", delta=701.0), "delta=701.0"),
        ("clip", dict(measure="prob_tv", delta=1.0), "delta=1.0: must be a number in (0, 1)"),
        ("clip", dict(measure="binary_kl", delta=(0.1, 0.2)), "delta=(0.1, 0.2)"),
        ("clip", dict(measure="binary_kl", delta=0.0), "delta=0.0"),
        ("clip", dict(dual_clip_c=1.0), "dual_clip_c=1.0"),
        ("rpg", dict(variant="js"), "variant='js'"),
        ("rpg", dict(level="step"), "level='step'"),
        ("rpg", dict(kl_coef=-0.1), "kl_coef=-0.1"),
        ("rpg", dict(kl_coef=nan), "kl_coef=nan"),
        ("rpg", dict(clip_low=0.0), "clip_low=0.0"),
        ("rpg", dict(clip_high=-1.0), "clip_high=-1.0"),
        ("rpg", dict(dual_clip_c=0.5), "dual_clip_c=0.5"),
        ("rpg", dict(reference="base"), "reference='base'"),
        ("f_grpo", dict(divergence="wasserstein"), "divergence='wasserstein'"),
        ("f_grpo", dict(beta=0.0), "beta=0.0"),
        ("f_grpo", dict(beta=inf), "beta=inf"),
        ("f_grpo", dict(divergence="squared_helinger"), "did you mean 'squared_hellinger'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(name, kind, words):
    with pytest.raises(ValueError) as error:
        loss_of(name, *tensors(0), MASK, **kind)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name, kind", [("rpg", {"reference": "ref"}), ("f_grpo", {})])
def test_a_reference_that_is_missing_is_named(name, kind):
    *rest, _ = tensors(0)
    with pytest.raises(ValueError, match="ref_log_prob is missing"):
        loss_of(name, *rest, None, MASK, **kind)
