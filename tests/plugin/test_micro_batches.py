"""How the rows of a mini-batch fall into micro-batches and onto ranks changes no gradient: every loss, every aggregation."""

import contextlib

import pytest
import torch
import yaml
from loss_batch import actor_config, make_rows, micro_batch, model_output
from omegaconf import OmegaConf
from tables import cases
from verl.workers.utils.losses import ppo_loss
from verl_config import compose_ppo

from frpo_verl import methods
from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import start
from frpo_verl.verl_plugin.checks import needs, refuse
from frpo_verl.verl_plugin.run import Run

NORM = "seq-mean-token-sum-norm"
AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", NORM)
WIDTH = 9  # data.max_response_length
CUTS = {  # for each rank its micro-batches; rows of 2 to 6 tokens, so that they are padded to different widths
    "one rank, one micro-batch": [[[0, 1, 2, 3, 4, 5, 6, 7]]],
    "one rank, 3 and 5": [[[0, 1, 2], [3, 4, 5, 6, 7]]],
    "one rank, row by row": [[[i] for i in range(8)]],
    "two ranks": [[[7, 0], [3], [5]], [[1, 2, 4, 6]]],
}
LOSSES = {name: {"policy_loss": {"loss_mode": name}} for name in ("vanilla", *methods.of_kind("policy_loss"))}
LOSSES |= {
    f"vanilla and kl_loss_type={kl}": {"use_kl_loss": True, "kl_loss_coef": 0.3, "kl_loss_type": kl}
    for kl in ("js", "k3_is", "low_var_kl")
}
LOSSES |= {
    f"divergence_clip by {measure}": {"policy_loss": {"loss_mode": "divergence_clip", "clip": {"measure": measure}}}
    for measure in ("binary_kl", "prob_tv")
}
LOSSES["rpg_rkl by sequence"] = {"policy_loss": {"loss_mode": "rpg_rkl", "rpg": {"level": "sequence"}}}
LOSSES["rpg_urkl to ref"] = {"policy_loss": {"loss_mode": "rpg_urkl", "rpg": {"reference": "ref"}}}


def gradient(rows, config, cut):
    """(loss, gradient of each row) as verl's engines sum it: micro-batches add up, ranks are averaged."""
    tokens = int(sum(r["response_mask"].sum() for r in rows))
    for r in rows:
        r["logits"].grad = None
    total = 0.0
    for rank in cut:
        for micro in rank:
            part = [rows[i] for i in micro]
            output = model_output(part) | {"entropy": model_output(part)["log_probs"] ** 2}
            loss, _ = ppo_loss(config, output, micro_batch(part, tokens, len(rows), dp_size=len(cut)))
            (loss / len(cut)).backward()
            total += float(loss.detach()) / len(cut)
    return total, [r["logits"].grad.clone() for r in rows]


def prepared(mode: str):
    """verl's settings of the aggregation after the plugin has prepared a run of ours."""
    actor = {"loss_agg_mode": mode, "loss_scale_factor": None}
    root = {"composed_by": "frpo_verl", "data": {"max_response_length": WIDTH}, "actor_rollout_ref": {"actor": actor}}
    config = OmegaConf.create(root)
    start.prepare(config)
    return OmegaConf.to_container(config.actor_rollout_ref.actor)


@pytest.mark.parametrize("agg", AGGREGATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_one_gradient_however_the_rows_are_cut(loss, agg):
    answers = make_rows()
    config = actor_config(**LOSSES[loss], entropy_coeff=0.1, **prepared(agg))
    whole, grads = gradient(answers, config, CUTS["one rank, one micro-batch"])
    assert all(g.abs().max() > 1e-6 for g in grads)
    for name, cut in CUTS.items():
        other, cut_grads = gradient(answers, config, cut)
        assert other == pytest.approx(whole, abs=1e-12), name
        for a, b in zip(grads, cut_grads, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=name)


TYPED, OURS = f"actor_rollout_ref.actor.loss_agg_mode={NORM}", "+recipe=frpo_qwen3_1.7b"
FACTORS = {
    f"{OURS} {TYPED}": 8192,
    f"{OURS} {TYPED} actor_rollout_ref.actor.loss_scale_factor=100": 100,
    TYPED: None,
    OURS: None,
}


@pytest.mark.parametrize("typed", FACTORS)
def test_the_factor_is_the_longest_answer_for_a_run_of_ours_and_is_said(typed, capsys):
    config = compose_ppo(*typed.split())
    start.prepare(config)
    assert config.actor_rollout_ref.actor.loss_scale_factor == FACTORS[typed]
    assert config.critic.loss_scale_factor == FACTORS[typed]  # verl's critic follows the actor
    line = "frpo_verl: actor_rollout_ref.actor.loss_scale_factor=8192 (data.max_response_length), because"
    assert (line in capsys.readouterr().err) == (FACTORS[typed] == 8192)


def run(mini, aggregation="token-mean", batch=8, loss="vanilla", use_v1=True, **more):
    actor = {"ppo_mini_batch_size": mini, "loss_agg_mode": aggregation, "policy_loss": {"loss_mode": loss, **more}}
    v1 = {"trainer_mode": "sync", "sync": {"parameter_sync_step": 2 if batch == 16 else 1}}
    root = {"composed_by": "frpo_verl", "algorithm": {"adv_estimator": "frpo"}, "data": {"train_batch_size": batch}}
    root |= {"actor_rollout_ref": {"actor": actor, "rollout": {"n": 4}}, "trainer": {"use_v1": use_v1, "v1": v1}}
    return Run(OmegaConf.create(root))


MINI_BATCHES = """
{mini: 16, aggregation: seq-mean-token-mean} -> refused
{mini: 16, aggregation: seq-mean-token-sum-norm} -> refused
{mini: 3, aggregation: seq-mean-token-sum} -> refused
# two updates of eight
{mini: 16, aggregation: seq-mean-token-mean, batch: 16} -> refused
{mini: 16, loss: f_grpo} -> refused
{mini: 16, loss: rpg_rkl, rpg: {level: sequence}} -> refused
{mini: 16, use_v1: false} -> refused
{mini: 8, aggregation: seq-mean-token-mean}
{mini: 2, aggregation: seq-mean-token-sum-norm}
# a mean over tokens does not count an empty row
{mini: 16, loss: rpg_rkl}
{mini: 16}
{mini: 4, aggregation: seq-mean-token-mean, batch: 16}
# verl.experimental's trainers
{mini: 16, aggregation: seq-mean-token-mean, batch: 0}
"""


@pytest.mark.parametrize("typed, said", cases(MINI_BATCHES))
def test_a_mini_batch_that_verl_would_fill_up_with_empty_rows_is_refused(typed, said):
    refused = pytest.raises(ConfigError, match=r"ppo_mini_batch_size=\d+.*divisor of 8")
    with refused if said else contextlib.nullcontext():
        refuse(needs.mini_batch_refusals(run(**yaml.safe_load(typed))))
