"""f-HAL's signed weights, RPG's batch mean, f-GRPO's softmax weights: through verl's compute_advantage and ppo_loss."""

import contextlib

import pytest
import torch
from batches import batch as driver_batch
from loss_batch import actor_config, gradients, log_prob_of, make_rows
from omegaconf import OmegaConf
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl.verl_plugin import batch, metrics, run


def data_of(rows, scores, uid):
    """Padded driver tensors of `make_rows`."""
    pad = lambda name: torch.nn.utils.rnn.pad_sequence([r[name].double() for r in rows], batch_first=True)  # noqa: E731
    rewards = torch.zeros(pad("response_mask").shape, dtype=torch.float64)
    rewards[:, 0] = torch.tensor(scores, dtype=torch.float64)
    return driver_batch(rewards, pad("response_mask").long(), pad("old_log_probs"), pad("ref_log_prob"), uid)


def run_config(estimator="f_hal", **policy_loss):
    loss = {"loss_mode": "f_grpo", **policy_loss}
    return OmegaConf.create(
        {"algorithm": {"adv_estimator": estimator}, "actor_rollout_ref": {"actor": {"policy_loss": loss}}}
    )


@contextlib.contextmanager
def queue(monkeypatch, fields):
    """The V1 trainer's queue, holding `extra_fields` and nothing else."""
    monkeypatch.setattr(batch.Source, "objects", lambda self, column: fields)
    with batch.open_source([], None, None):
        yield


def put_back(rows, advantages):
    for r, a in zip(rows, advantages, strict=True):
        r["advantages"] = a[: len(r["tokens"])]


def close(a, b):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-6)


@pytest.fixture
def mixed(monkeypatch):
    """Four answers of the policy to one prompt, and two recorded pairs."""
    rows = make_rows(n=8, seed=3)
    scores = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    uid = ["a"] * 4 + ["p", "p", "q", "q"]
    signs = [0, 0, 0, 0, 1, -1, 1, -1]
    run.remember(run_config(f_grpo={"beta": 0.1}))

    def weights(preference_weight, subset=range(8)):
        chosen = list(subset)
        data = data_of([rows[i] for i in chosen], [scores[i] for i in chosen], [uid[i] for i in chosen])
        fields = [{"preference": signs[i]} if signs[i] else {} for i in chosen]
        config = OmegaConf.create({"f_hal": {"preference_weight": preference_weight}})
        with queue(monkeypatch, fields):
            return compute_advantage(data, adv_estimator="f_hal", config=config).batch["advantages"]

    return rows, scores, uid, weights


def f_grpo_gradients(rows):
    return gradients(rows, actor_config(policy_loss={"loss_mode": "f_grpo", "f_grpo": {"beta": 0.1}}))[2]


def test_lambda_zero_is_f_grpo_on_the_same_batch(mixed):
    rows, scores, uid, weights = mixed
    put_back(rows, weights(0.0))
    hal = f_grpo_gradients(rows)
    on_policy = rows[:4]
    alone = compute_advantage(data_of(on_policy, scores[:4], uid[:4]), adv_estimator="grpo")
    put_back(on_policy, alone.batch["advantages"])
    close(hal[:4], f_grpo_gradients(on_policy))
    assert all(not g.any() for g in hal[4:])


def test_lambda_one_is_the_preference_loss_alone(mixed):
    """-mean over chosen of g(v) + mean over rejected of f*(g(v)), JS, v = beta sum log pi/ref, re-derived."""
    rows, _, _, weights = mixed
    put_back(rows, weights(1.0))
    hal = f_grpo_gradients(rows)
    assert all(not g.any() for g in hal[:4])
    loss = 0.0
    for i, r in enumerate(rows[4:]):
        log_pi = log_prob_of(r)
        v = 0.1 * ((log_pi - r["ref_log_prob"]) * r["response_mask"]).sum()
        loss = loss + torch.nn.functional.softplus(v if i % 2 else -v) / 2
    close(hal[4:], torch.autograd.grad(loss, [r["logits"] for r in rows[4:]]))


def test_rows_are_counted_and_the_trainer_is_checked(mixed):
    rows, scores, uid, weights = mixed
    metrics.take()
    weights(0.5)
    found = metrics.take()
    counted = {k.rsplit("/", 1)[1]: v for k, v in found.items() if k.startswith("frpo/f_hal/")}
    assert counted == {"on_policy_rows": 4, "chosen_rows": 2, "rejected_rows": 2}
    tensors = data_of(rows[:4], scores[:4], uid[:4]).batch  # recorded answers are no sample of the policy
    mask = tensors["response_mask"].double()
    k1 = ((tensors["old_log_probs"] - tensors["ref_log_prob"]) * mask).sum() / mask.sum()
    assert found["frpo/kl_to_ref/k1"] == pytest.approx(float(k1), abs=1e-7)
    with pytest.raises(RuntimeError, match="V1 trainer only"):
        compute_advantage(data_of(rows, scores, uid), adv_estimator="f_hal", config=OmegaConf.create({}))


def test_a_batch_without_a_pair_is_said_once(mixed, capsys):
    *_, weights = mixed
    for _ in range(2):
        weights(0.37, subset=range(4))
    said = capsys.readouterr().err
    assert said.count("no recorded pair in this batch, so algorithm.f_hal.preference_weight=0.37") == 1
    weights(0.0, subset=range(4))
    weights(0.38)
    assert "no recorded pair" not in capsys.readouterr().err


def test_rpg_batch_mean():
    rows = make_rows(n=4)
    data = data_of(rows, [1.0, 0.0, 0.0, 1.0], ["a", "a", "b", "b"])
    out = compute_advantage(data, adv_estimator="rpg_batch_mean", config=OmegaConf.create({})).batch["advantages"]
    mask = data.batch["response_mask"].double()
    torch.testing.assert_close(out, torch.tensor([0.5, -0.5, -0.5, 0.5])[:, None].double() * mask)
