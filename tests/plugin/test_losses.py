"""Our policy losses and local KL terms through verl's own ppo_loss."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from loss_batch import actor_config, gradients, log_prob_of, make_rows, micro_batch, model_output, nested
from verl.trainer.ppo import core_algos
from verl.workers.utils.losses import ppo_loss

from frpo_verl import methods
from frpo_verl.core.divergences import get_divergence
from frpo_verl.core.losses.kl_terms import local_kl
from frpo_verl.core.losses.rpg import rpg_loss
from frpo_verl.core.losses.terms import read_loss_inputs
from frpo_verl.core.regularizers import Regularizer, regularize
from frpo_verl.core.tokens import read_answers
from frpo_verl.methods import names
from frpo_verl.methods.settings import POLICY_LOSS, Section


def close(a, b, tol=1e-10):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tol)


@pytest.mark.parametrize("variant", names.RPG_VARIANTS)
@pytest.mark.parametrize("prefix", ["rpg_", "rpg_rf_"])
@pytest.mark.parametrize("reference", ["old", "ref"])
def test_rpg_reaches_the_core_with_its_settings(prefix, variant, reference):
    rows = make_rows()
    settings = {"kl_coef": 0.3, "reference": reference, "clip_low": None, "clip_high": None, "dual_clip_c": None}
    config = actor_config(policy_loss={"loss_mode": prefix + variant, "rpg": settings})
    _, _, ours = gradients(rows, config, reference=reference == "ref")
    tokens = sum(int(r["response_mask"].sum()) for r in rows)
    expected = []
    for r in rows:
        log_prob = log_prob_of(r)[None]
        inputs = read_loss_inputs(
            log_prob=log_prob, old_log_prob=r["old_log_probs"][None], advantages=r["advantages"][None],
            mask=r["response_mask"][None], ref_log_prob=r["ref_log_prob"][None] if reference == "ref" else None,
        )  # fmt: skip
        terms = rpg_loss(
            inputs, variant=variant, reinforce=prefix == "rpg_rf_", kl_coef=0.3, reference=reference,
            clip_low=None, clip_high=None, dual_clip_c=None,
        )  # fmt: skip
        expected.append(torch.autograd.grad(terms.token_loss.sum() / tokens, r["logits"])[0])
    close(ours, expected)


def test_atr_grpo_is_divergence_clip_with_kl3():
    rows = make_rows(updates=1.0)
    _, metrics, atr = gradients(rows, actor_config(policy_loss={"loss_mode": "atr_grpo", "clip": {"delta": 0.02}}))
    clip = {"delta": 0.02, "measure": "kl3"}
    _, _, kl3 = gradients(rows, actor_config(policy_loss={"loss_mode": "divergence_clip", "clip": clip}))
    close(atr, kl3)
    clip = {"delta": [0.18689, 0.21355], "measure": "ratio"}  # the same interval as a pair of ratio widths
    _, _, ratio = gradients(rows, actor_config(policy_loss={"loss_mode": "divergence_clip", "clip": clip}))
    close(atr, ratio)
    assert any(k.startswith("actor/pg_clipfrac") for k in metrics)


@pytest.mark.parametrize("divergence", ["reverse_kl", "js"])
def test_loss_frpo_recomputes_the_kl_to_go_from_the_current_policy(divergence):
    rows = make_rows()
    frpo = {"kl_coef": 0.3, "divergence": divergence}
    _, metrics, ours = gradients(rows, actor_config(policy_loss={"loss_mode": "frpo", "frpo": frpo}))
    for r in rows:
        log_prob = log_prob_of(r).detach()[None]
        mask = r["response_mask"][None]
        answers = read_answers(log_prob, r["ref_log_prob"][None], mask)
        reg = regularize(answers, Regularizer(divergence=get_divergence(divergence)))
        r["advantages"] = (r["advantages"] - 0.3 * reg[0]).detach()
    _, _, vanilla = gradients(rows, actor_config())
    close(ours, vanilla)
    assert {"frpo/loss_kl_to_ref", "frpo/policy_clip_frac/positive_advantage"} <= set(metrics)


@pytest.mark.parametrize("loss_mode", ["f_grpo", "frpo"])
def test_a_loss_without_its_reference_says_so(loss_mode):
    with pytest.raises(RuntimeError, match=f"loss_mode={loss_mode} needs 'ref_log_prob'"):
        gradients(make_rows(), actor_config(policy_loss={"loss_mode": loss_mode}), reference=False)


def test_clip_fractions_stay_after_a_row_with_a_section_of_its_own_was_added(monkeypatch):
    @dataclass(frozen=True)
    class Mine(Section):
        KEY: ClassVar[str] = f"{POLICY_LOSS}.mine"
        width: float = 1.0

    config = actor_config()
    row = methods.Method("mine", "policy_loss", "frpo_verl.core.losses.rpg:rpg_loss", section=Mine)
    monkeypatch.setitem(methods.METHODS, ("policy_loss", "mine"), row)
    _, metrics, _ = gradients(make_rows(), config)
    assert "frpo/policy_clip_frac/positive_advantage" in metrics


def test_unknown_keys_are_refused():
    with pytest.raises(Exception, match=r"rpg.kl_coeff: unknown key \(did you mean 'kl_coef'\?\)"):
        actor_config(policy_loss={"loss_mode": "rpg_rkl", "rpg": {"kl_coeff": 1}})
    with pytest.raises(Exception, match="unexpected keyword argument 'rgp'"):
        actor_config(policy_loss={"loss_mode": "rpg_rkl", "rgp": {"kl_coef": 1}})


def test_rollout_weights_multiply_the_loss():
    rows = make_rows()
    tokens = sum(int(r["response_mask"].sum()) for r in rows)

    def gradient(loss_mode, weight):
        data = micro_batch(rows, tokens, len(rows))
        data["rollout_is_weights"] = nested([torch.full_like(r["old_log_probs"], weight) for r in rows])
        loss, _ = ppo_loss(actor_config(policy_loss={"loss_mode": loss_mode}), model_output(rows), data)
        return torch.autograd.grad(loss, [r["logits"] for r in rows])

    for loss_mode in ("atr_grpo", "rpg_urkl", "f_grpo"):
        close([0.5 * g for g in gradient(loss_mode, 1.0)], gradient(loss_mode, 0.5))


@pytest.mark.parametrize("typed", ["js", "alpha:0.5", "k3_is"])
def test_a_local_kl_reaches_the_loss_with_its_gradient(typed):
    rows, (name, _, order) = make_rows(), typed.partition(":")
    kl = {"use_kl_loss": True, "kl_loss_coef": 0.7, "kl_loss_type": typed, "loss_agg_mode": "token-sum"}
    _, metrics, with_kl = gradients(rows, actor_config(**kl))
    _, _, without = gradients(rows, actor_config(loss_agg_mode="token-sum"))
    assert "kl_loss" in metrics
    for r, a, b in zip(rows, with_kl, without, strict=True):
        old = r["old_log_probs"] if name == "k3_is" else None
        value = local_kl(log_prob_of(r), r["ref_log_prob"], name, float(order) if order else None, old)
        (truth,) = torch.autograd.grad(0.7 * value[r["response_mask"] > 0].sum(), r["logits"])
        torch.testing.assert_close(a - b, truth, rtol=0, atol=1e-10)


def test_verls_own_kl_terms_are_untouched():
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    for name in ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3"):
        assert torch.equal(core_algos.kl_penalty(a, b, name), core_algos.kl_penalty_forward.__wrapped__(a, b, name))
    assert torch.equal(core_algos.kl_penalty(a, b, "js"), core_algos.kl_penalty_forward(a, b, "js"))
    with pytest.raises(ValueError, match="kl_penalty=k3_is"):
        core_algos.kl_penalty(a, b, "k3_is")
