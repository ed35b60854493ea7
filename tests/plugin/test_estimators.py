"""adv_estimator=frpo through verl's own entry point, compute_advantage; its expected gradients: test_sessions.py."""

import pytest
import torch
from batches import advantages, algorithm, batch, random_batch
from toys import group_norm
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage

import frpo_verl
from frpo_verl import methods
from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import metrics


@pytest.mark.parametrize("norm", [True, False])
def test_kl_coef_zero_is_verls_grpo_bit_for_bit(norm):
    rewards, mask, old, ref, uid = random_batch()
    ours = advantages(batch(rewards, mask, old, None, uid), kl_coef=0.0, norm=norm)  # and needs no reference
    theirs = compute_advantage(
        batch(rewards, mask, old, ref, uid), adv_estimator="grpo", norm_adv_by_std_in_grpo=norm, config=algorithm()
    ).batch["advantages"]
    assert torch.equal(ours, theirs)


def test_openrlhfs_rolls_and_prls_formulas():
    """Three spellings of the sum, written from their code: openrlhf (group_norm, k1 in the reward), ROLL, PRL's steps of 1."""
    rewards, mask, old, ref, uid = random_batch(dtype=torch.float64)
    beta, m, last = 0.07, mask.double(), mask.sum(-1) - 1
    z, kl = group_norm(rewards.sum(-1), uid), (old - ref) * m
    token_reward = -beta * kl  # OpenRLHF: the KL is a token reward, the normalised outcome sits on the last token,
    token_reward[torch.arange(len(m)), last] += z  # and the return is the undiscounted sum of what is still to come
    openrlhf = torch.zeros_like(kl)
    for t in reversed(range(kl.shape[1])):
        openrlhf[:, t] = token_reward[:, t:].sum(-1)
    triangle = torch.ones(kl.shape[1], kl.shape[1], dtype=torch.float64).tril()
    roll = z[:, None] * m + (-beta * kl) @ triangle * m  # ROLL: outcome broadcast + triangular sum of the token KL
    prl = torch.zeros_like(kl)  # PRL: value at the end of each token's step; steps of length 1 end at the token
    for i in range(len(m)):
        for t in range(int(last[i]) + 1):
            prl[i, t] = z[i] - beta * sum(float(kl[i, j]) for j in range(t, int(last[i]) + 1))
    ours = advantages(batch(rewards, mask, old, ref, uid), kl_coef=beta)
    for theirs in (openrlhf * m, roll, prl):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_kl_in_the_reward_is_normalised_with_it():
    rewards, mask, old, ref, uid = random_batch(dtype=torch.float64)
    beta, m = 0.5, mask.double()
    score = rewards.sum(-1) - beta * ((old - ref) * m).sum(-1)
    ours = advantages(batch(rewards, mask, old, ref, uid), kl_coef=beta, placement="reward")
    torch.testing.assert_close(ours, group_norm(score, uid)[:, None] * m, rtol=0, atol=1e-9)
    found = metrics.take()  # of the advantages that are used, not of those without the division of the KL
    alone = advantages(batch(rewards, mask, old, ref, uid), kl_coef=0)
    assert found["frpo/regularizer_share"] == pytest.approx(float((ours - alone).abs().sum() / alone.abs().sum()))
    assert found["frpo/sign_flip_frac"] == pytest.approx(float((ours * alone < 0).sum() / m.sum()))
    advantages(batch(rewards, mask, old, ref, uid), kl_coef=beta, placement="sequence")
    others = metrics.take()
    assert set(found) == set(others)
    same = set(found) - {"frpo/regularizer_share", "frpo/sign_flip_frac"}
    assert {k: found[k] for k in same} == pytest.approx({k: others[k] for k in same})


def test_pad_rows_tool_tokens_and_integer_masks():
    rewards, mask, old, ref, uid = random_batch(dtype=torch.float64)
    mask[:, 0] = 1
    mask[0] = torch.tensor([1, 1, 0, 0, 1, 1, 0])  # two tool tokens in the middle
    pad = torch.zeros(2, mask.shape[1], dtype=torch.float64)
    more = ((rewards, pad), (mask, pad.long()), (old, pad + torch.nan), (ref, pad - torch.inf))
    ours = advantages(batch(*map(torch.cat, more), [*uid, "pad", "pad"]), kl_coef=0.3)
    plain = advantages(batch(rewards, mask, old, ref, uid), kl_coef=0.3)
    assert torch.equal(ours[:12], plain) and not ours[12:].any()
    d = old[0] - ref[0]
    assert not ours[0, 2:4].any()
    outcome = compute_advantage(batch(rewards, mask, old, ref, uid), adv_estimator="grpo", config=algorithm())
    expected = outcome.batch["advantages"][0, 1] - 0.3 * (d[1] + d[4] + d[5])
    torch.testing.assert_close(ours[0, 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("placement", ["future", "reward"])
def test_missing_or_placeholder_reference_is_refused(placement):
    rewards, mask, old, ref, uid = random_batch()
    with pytest.raises(RuntimeError, match="ref_log_prob.*missing"):
        advantages(batch(rewards, mask, old, None, uid), kl_coef=0.1, placement=placement)
    with pytest.raises(RuntimeError, match="placeholder"):
        advantages(batch(rewards, mask, old, torch.zeros_like(ref), uid), kl_coef=0.1, placement=placement)


@pytest.mark.parametrize("estimator", ["frpo", "rpg_batch_mean"])
@pytest.mark.parametrize("settings", [{"kl_coef": 0.1}, {"kl_coef": 0.1, "placement": "reward"}, {"kl_coef": 0.0}])
def test_whole_rewards_give_the_advantages_of_the_same_numbers(estimator, settings):
    rewards, mask, old, ref, uid = random_batch()
    ours = advantages(batch(rewards.long(), mask, old, ref, uid), estimator, **settings)
    assert torch.equal(ours, advantages(batch(rewards, mask, old, ref, uid), estimator, **settings))


def test_settings_are_checked_on_use():
    with pytest.raises(ConfigError, match="kl_coeff.*did you mean 'kl_coef'"):
        advantages(batch(*random_batch()), kl_coeff=0.1)


def test_batch_may_come_with_the_call():
    """The form in which verl may hand over the batch itself: keyword arguments `batch` and `non_tensor_batch`."""
    data, estimator = batch(*random_batch()), core_algos.get_adv_estimator_fn("frpo")
    call = {"token_level_rewards": data.batch["token_level_rewards"], "response_mask": data.batch["response_mask"]}
    call |= {"config": algorithm(kl_coef=0.1), "index": data.non_tensor_batch["uid"]}
    direct, _ = estimator(**call, batch=data.batch, non_tensor_batch=data.non_tensor_batch)
    assert torch.equal(direct, advantages(data, kl_coef=0.1))
    with pytest.raises(RuntimeError, match="without the batch"):
        estimator(**call)


def test_a_verl_that_hands_the_batch_over_changes_nothing(monkeypatch):
    """verl's function around it has opened the batch: what only that knows (metrics, the queue) is kept."""
    plain = advantages(batch(*random_batch()), kl_coef=0.1)
    wanted = metrics.take()
    data, original = batch(*random_batch()), core_algos.ADV_ESTIMATOR_REGISTRY["frpo"]

    def with_batch(**call):
        return original(**call, batch=data.batch, non_tensor_batch=data.non_tensor_batch)

    monkeypatch.setitem(core_algos.ADV_ESTIMATOR_REGISTRY, "frpo", with_batch)
    assert torch.equal(advantages(data, kl_coef=0.1), plain) and metrics.take() == wanted and len(wanted) > 8


def test_registering_again_changes_nothing():
    before = dict(core_algos.ADV_ESTIMATOR_REGISTRY)
    frpo_verl.register()
    assert core_algos.ADV_ESTIMATOR_REGISTRY == before
    assert set(methods.of_kind("estimator")) <= set(before)
