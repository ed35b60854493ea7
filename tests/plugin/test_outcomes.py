"""algorithm.frpo.outcome: any estimator of verl's beside FRPO's KL, through verl's own entry points."""

import numpy as np
import pytest
import torch
from batches import batch, random_batch
from omegaconf import OmegaConf
from toys import to_go
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

from frpo_verl.core import enumeration as exact
from frpo_verl.methods import names

BY_RESPONSE = [
    "grpo", "grpo_vectorized", "grpo_passk", "rloo", "rloo_vectorized", "opo", "gpg", "reinforce_plus_plus_baseline",
    "gdpo", "corpo", "maxrl",
]  # fmt: skip
PARTS = {"gdpo_reward_keys": ["right", "short"], "gdpo_reward_weights": [1.0, 0.5]}


def algorithm(estimator, **sections):
    return OmegaConf.create(
        {"adv_estimator": estimator, "gamma": 1.0, "lam": 0.9, "norm_adv_by_std_in_grpo": True, **PARTS, **sections}
    )


def rows(seed=0):
    rewards, mask, old, ref, uid = random_batch(seed=seed, dtype=torch.float64)
    scores = torch.rand(len(mask), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rewards[torch.arange(len(mask)), mask.sum(-1) - 1] = scores
    return rewards, mask, old, ref, uid


def ask(data, estimator, **sections):
    return compute_advantage(data, adv_estimator=estimator, gamma=1.0, lam=0.9, config=algorithm(estimator, **sections))


def all_columns(data, mask):
    """What estimators read besides rewards: gae a critic's values, gdpo the parts of the reward and where answers end."""
    ones = torch.ones(len(mask), 1, dtype=torch.long)
    data.batch["prompts"], data.batch["attention_mask"] = ones, torch.cat([ones, mask.long()], 1)
    scores = data.batch["token_level_rewards"].sum(-1).numpy()
    data.non_tensor_batch |= {"right": scores, "short": scores**2}
    data.batch["values"] = torch.linspace(0, 1, mask.numel(), dtype=torch.float64).reshape(mask.shape)
    return data


def full(columns):
    """A batch of these columns, and what estimators read besides."""
    return all_columns(batch(*columns), columns[1])


@pytest.mark.parametrize("name", [*BY_RESPONSE, "reinforce_plus_plus", "gae", "none"])
@pytest.mark.parametrize("placement", ["future", "local", "sequence"])
def test_the_advantage_is_the_outcome_minus_the_kl(name, placement):
    columns = rewards, mask, old, ref, _ = rows()
    theirs = ask(full(columns), name).batch if name != "none" else {"advantages": 0.0, "returns": 0.0}
    delta = torch.where(mask.bool(), old - ref, 0.0)
    kl = {"future": to_go(old, ref, mask), "local": delta, "sequence": delta.sum(-1, keepdim=True)}[placement]
    data = ask(full(columns), "frpo", frpo={"outcome": name, "kl_coef": 0.3, "placement": placement})
    expected = torch.where(mask.bool(), theirs["advantages"] - 0.3 * kl, 0.0)
    torch.testing.assert_close(data.batch["advantages"], expected, rtol=0, atol=1e-6)
    assert torch.equal(data.batch["token_level_rewards"], rewards)  # verl's function works on a copy
    assert name != "gae" or torch.equal(data.batch["returns"], theirs["returns"])  # what the critic learns


@pytest.mark.parametrize("name", [*BY_RESPONSE, "gae"])
def test_without_a_kl_it_is_the_estimator_itself(name):
    columns = rows()
    theirs = ask(full(columns), name).batch
    ours = ask(full(columns), "frpo", frpo={"outcome": name, "kl_coef": 0.0}).batch
    expected = torch.where(columns[1].bool(), theirs["advantages"], 0.0)
    torch.testing.assert_close(ours["advantages"], expected, rtol=0, atol=0)
    assert name != "gae" or torch.equal(ours["returns"], theirs["returns"])


@pytest.mark.parametrize("name", [name for name in BY_RESPONSE if name != "gdpo"])
def test_in_the_reward_the_outcome_is_that_of_the_fused_reward(name):
    rewards, mask, old, ref, uid = rows()
    rewards = rewards + torch.where(rewards > 0, 5.0, 0.0)  # MaxRL's rewards are positive, less the KL too
    cost = ((old - ref) * mask).sum(-1)
    fused = rewards.clone()
    fused[torch.arange(len(mask)), mask.sum(-1) - 1] -= 0.3 * cost
    theirs = ask(full((fused, mask, old, ref, uid)), name).batch["advantages"]
    section = {"outcome": name, "kl_coef": 0.3, "placement": "reward"}
    ours = ask(full((rewards, mask, old, ref, uid)), "frpo", frpo=section)
    torch.testing.assert_close(ours.batch["advantages"], torch.where(mask.bool(), theirs, 0.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name, placement, reward, kl", [
    ("rloo", "future", 1, 1), ("rloo", "sequence", 1, 1), ("rloo", "reward", 1, 1), ("rloo_vectorized", "reward", 1, 1),
    ("grpo", "future", 0.5, 1), ("grpo", "sequence", 0.5, 1), ("grpo", "reward", 0.5, 0.5),
])  # fmt: skip
def test_the_whole_expected_gradient_beside_a_mean_of_two(name, placement, reward, kl):
    """Every pair of answers as a group: `reward` grad E[r] - beta `kl` grad KL, a mean that holds the answer halves."""
    toy = exact.enumerate_trajectories(vocabulary=3, horizon=2)
    logits, ref_logits = exact.random_logits(toy, 0).requires_grad_(), exact.random_logits(toy, 1)
    pairs = torch.cartesian_prod(*[torch.arange(toy.count)] * 2)
    each = pairs.flatten()
    log_p, mask = exact.log_prob(toy, logits)[each], toy.mask[each]
    r = torch.linspace(0, 1, toy.count, dtype=torch.float64)
    scores = torch.zeros_like(log_p)
    scores[torch.arange(len(each)), mask.sum(-1) - 1] = r[each]
    uid = [str(i // 2) for i in range(len(each))]
    section = {"outcome": name, "kl_coef": 0.3, "placement": placement}
    data = batch(scores, mask.long(), log_p.detach(), exact.log_prob(toy, ref_logits)[each], uid)
    weight = ask(data, "frpo", norm_adv_by_std_in_grpo=False, frpo=section).batch["advantages"]
    p = exact.probability(toy, logits).detach()[pairs].prod(-1).repeat_interleave(2)
    found = exact.gradient((p[:, None] * weight * mask * log_p).sum() / 2, logits)
    expected_reward = exact.gradient((exact.probability(toy, logits) * r).sum(), logits)
    divergence = exact.gradient(exact.objective(toy, logits, ref_logits, lambda x: x.exp() * x), logits)
    torch.testing.assert_close(found, reward * expected_reward - 0.3 * kl * divergence, rtol=0, atol=1e-8)


def sessions():
    """Two prompts with two sessions each; one session has three rows, and only its last one has the score."""
    keys = ["a_0_0", "a_1_0", "a_1_1", "a_1_2", "b_0_0", "b_1_0"]
    rewards, mask, old, ref, _ = random_batch(rows=6, dtype=torch.float64)
    rewards = torch.zeros_like(rewards)
    for i, score in enumerate([0.2, 0.0, 0.0, 0.9, 1.0, 0.4]):
        rewards[i, mask[i].sum() - 1] = score
    return keys, rewards, mask, old, ref, [k[0] for k in keys]


@pytest.mark.parametrize("name", ["rloo", "corpo", "maxrl", "opo"])
def test_the_rows_of_a_session_share_the_outcome_of_its_last(name):
    keys, rewards, mask, old, ref, uid = sessions()
    last = [0, 3, 4, 5]
    alone = batch(rewards[last], mask[last], old[last], ref[last], [uid[i] for i in last])
    theirs = ask(alone, name).batch["advantages"]
    data = compute_advantage_for_multi_trajectories(
        batch(rewards, mask, old, ref, uid), batch_keys=keys, adv_estimator="frpo",
        config=algorithm("frpo", frpo={"outcome": name, "kl_coef": 0.0}),
    )  # fmt: skip
    first = data.batch["advantages"][:, 0]
    torch.testing.assert_close(first, theirs[:, 0][torch.tensor([0, 1, 1, 1, 2, 3])], rtol=0, atol=1e-6)


def test_an_outcome_by_token_and_sessions_of_several_rows_stop():
    keys, rewards, mask, old, ref, uid = sessions()
    data = all_columns(batch(rewards, mask, old, ref, uid), mask)
    with pytest.raises(RuntimeError, match="outcome=gae gives each token an advantage of its own"):
        compute_advantage_for_multi_trajectories(
            data, batch_keys=keys, adv_estimator="frpo", config=algorithm("frpo", frpo={"outcome": "gae"})
        )


def test_the_trap_of_corpo_is_said(capsys):
    rewards, mask, old, ref, uid = random_batch()
    ask(batch(rewards, mask, old, ref, uid), "corpo", corpo={"threshold": 1.0})
    assert "threshold=1 with rewards of 0 and 1: no right answer is pushed up" in capsys.readouterr().err


def test_the_table_knows_every_outcome_of_verl():
    theirs = {name.value if hasattr(name, "value") else name for name in core_algos.AdvantageEstimator}
    assert theirs - {"remax"} <= set(names.OUTCOME_KEYS)
    assert theirs - {"remax", *names.OUTCOMES_BY_TOKEN} == set(BY_RESPONSE) - set(names.OUTCOMES_OF_OURS)
    assert np.all([core_algos.get_adv_estimator_fn(name) for name in theirs])
