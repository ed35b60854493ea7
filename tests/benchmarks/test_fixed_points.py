"""benchmarks/fixed_points.py: its sums against every answer and every group written out, and against plain gradient ascent."""

import itertools
import math
from pathlib import Path

import automaton
import fixed_points
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def answers(length):
    """Every answer on commit: actions and states (N, T), reward (N,)."""
    a = automaton.commit(length)
    actions = np.array(list(itertools.product(range(3), repeat=length)))
    states = np.zeros_like(actions)
    for t in range(1, length):
        states[:, t] = a.following[states[:, t - 1], actions[:, t - 1]]
    return a, actions, states, a.reward[a.following[states[:, -1], actions[:, -1]]]


@pytest.mark.parametrize("method", ["local", "k3 loss"])
def test_gradient_ascent_ends_at_the_fixed_point(method):
    """The expected gradient, written out over all 81 answers of 4 tokens, is followed until it stops."""
    beta, length = 0.3, 4
    a, actions, states, reward = answers(length)
    log_ref = torch.tensor(np.log(a.reference))
    logits = log_ref.repeat(length, 1, 1).clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.02)
    steps = np.arange(length)[None]
    for _ in range(1500):
        log_pi = logits.log_softmax(-1)[steps, states, actions]
        d = (log_pi - log_ref[states, actions]).detach()
        penalty = d if method == "local" else 1 - (-d).exp()
        chance = log_pi.sum(1).detach().exp()
        loss = -(chance[:, None] * (torch.tensor(reward)[:, None] - beta * penalty) * log_pi).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rate, kl, *_ = automaton.evaluate(a, logits.detach().log_softmax(-1).numpy())
    assert fixed_points.reached(length, beta, method) == pytest.approx((rate, kl), abs=2e-3)


def test_the_best_policy_is_the_one_of_dynamic_programming():
    for beta in (0.05, 0.3):
        log_pi, value = automaton.best_policy(automaton.commit(6), 6, beta)
        rate, kl, *_ = automaton.evaluate(automaton.commit(6), log_pi)
        assert fixed_points.best(1 / beta) == pytest.approx((rate, kl), abs=1e-9)
        assert value == pytest.approx(rate - beta * kl)
    assert all(math.isfinite(x) for x in fixed_points.best(2000.0))


@pytest.mark.parametrize("by_std", [False, True])
def test_the_squared_gradient_of_every_group(by_std):
    """All 19,683 groups of 3 answers of 3 tokens, through the plugin's estimator."""
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo.ray_trainer import compute_advantage

    group, length, beta = 3, 3, 0.4
    a, actions, states, reward = answers(length)
    log_pi, _ = automaton.best_policy(a, length, 0.5)  # near no fixed point: beta is another
    found = fixed_points.squared_gradient(a, log_pi, beta, group, by_std)
    steps = np.arange(length)[None]
    taken, ref = log_pi[steps, states, actions], np.log(a.reference)[states, actions]
    members = np.array(list(itertools.product(range(len(actions)), repeat=group)))
    chance = np.exp(taken.sum(1))[members].prod(1)
    rows = members.ravel()
    scores = torch.zeros(len(rows), length)
    scores[:, -1] = torch.tensor(reward[rows], dtype=torch.float32)
    tensors = {"token_level_rewards": scores, "response_mask": torch.ones(len(rows), length),
               "old_log_probs": torch.tensor(taken[rows]).float(), "ref_log_prob": torch.tensor(ref[rows]).float()}  # fmt: skip
    data = DataProto.from_dict(tensors=tensors, non_tensors={"uid": np.arange(len(rows)) // group})
    pi = np.exp(log_pi)
    size = (1 - 2 * pi + (pi**2).sum(-1, keepdims=True))[steps, states, actions]
    sections = {"local": {"placement": "local"}, "future": {}, "future, position": {"baseline": "position"},
                "sequence": {"placement": "sequence"},
                "sequence, position": {"placement": "sequence", "baseline": "position"},
                "reward only": {"kl_coef": 0.0}}  # fmt: skip
    for name, section in sections.items():
        config = OmegaConf.create({"norm_adv_by_std_in_grpo": by_std, "frpo": {"kl_coef": beta, **section}})
        weights = compute_advantage(data, "frpo", norm_adv_by_std_in_grpo=by_std, config=config).batch["advantages"]
        squares = (weights.numpy().astype(float) ** 2 * size[rows]).sum(1).reshape(-1, group).mean(1)
        assert found[name] == pytest.approx(float(chance @ squares), rel=1e-4), name


def test_the_kl_in_the_reward_weighs_what_it_should_without_the_division():
    plain = fixed_points.in_the_reward(0.05, 0.1, 0.01, 4, by_std=False)
    assert plain["beta"] == pytest.approx(0.01) and plain["share"] < 1e-3
    divided = fixed_points.in_the_reward(0.05, 0.1, 0.01, 4, by_std=True)
    smaller = fixed_points.in_the_reward(0.05, 0.1, 0.0001, 4, by_std=True)
    assert divided["beta"] > 0.1 and smaller["share"] == pytest.approx(divided["share"], rel=0.1)


def test_noise_of_drift_by_hand():
    """Two tokens of KL k and variance v: sums of 2 and 1 of them."""
    k, v = 0.01, fixed_points.token_variance(0.01)
    found = fixed_points.drift(2, 0.5, k, 5)
    assert found["future"] == pytest.approx(0.25 * ((2 * v + 4 * k * k) + (v + k * k)) / 2)
    assert found["sequence, position"] == pytest.approx(0.25 * 2 * v * 1.25)
    assert v == pytest.approx(2 * k, rel=0.2)  # a small KL is half a variance


def test_the_limits_of_beta_by_length_are_those_of_the_page():
    """docs/from_grpo.md: the largest KL of a token at beta 0.01, without and with the baseline."""
    rows = [
        line.split("|")[1:4]
        for line in (ROOT / "docs/from_grpo.md").read_text().splitlines()
        if line[:4] in ("| 96", "| 1,", "| 8,")
    ]
    assert len(rows) == 3
    for length, future, position in rows:
        n = int(length.replace(",", ""))
        assert f"{fixed_points.limit(n, 'future'):.2g}" == future.strip()
        found = fixed_points.limit(n, "future, position")
        assert f"{found:.2g}" == f"{float(position):.2g}" if position.strip() != "any" else found > 4
