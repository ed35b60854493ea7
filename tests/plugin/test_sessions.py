"""Sessions of several rows through verl's own session rule: one trajectory, one outcome, one KL-to-go."""

import pytest
import torch
import toys
import yaml
from batches import SESSION_KEYS as KEYS
from batches import SESSION_SCORES as SCORES
from batches import SESSIONS as ANSWERS
from batches import algorithm, batch, by_session, of_a_run, session_batch
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl.core import enumeration as exact
from frpo_verl.core.divergences import get_divergence
from frpo_verl.methods import names
from frpo_verl.verl_plugin import metrics

WIDTH = 4  # columns of a row


def whole(x, place, fill=0.0):
    """(rows, WIDTH) of the batch -> (answers, 3 WIDTH), the rows of a session end to end."""
    out = torch.full((len(ANSWERS), 3 * WIDTH), fill, dtype=x.dtype)
    for i, rows in enumerate(ANSWERS):
        for k, row in enumerate(rows):
            out[i, k * WIDTH : (k + 1) * WIDTH] = x[place[row]]
    return out


def as_one_row(data, place):
    """The same answers, each in one row."""
    columns = {name: whole(data.batch[name], place) for name in ("response_mask", "old_log_probs", "ref_log_prob")}
    rewards = torch.zeros_like(columns["old_log_probs"])
    rewards[:, 0] = torch.tensor([SCORES[rows[-1]] for rows in ANSWERS])
    uid = [KEYS[rows[0]].split("_")[0] for rows in ANSWERS]
    return batch(rewards, columns["response_mask"], columns["old_log_probs"], columns["ref_log_prob"], uid)


def test_kl_coef_zero_is_verls_rule_bit_for_bit():
    ours, theirs = (session_batch(dtype=torch.float32) for _ in range(2))
    assert torch.equal(by_session(*ours[:2], kl_coef=0.0), by_session(*theirs[:2], "grpo"))


KINDS = """
{}
{placement: sequence}
{placement: local}
{placement: reward}
{divergence: js}
{divergence: js, placement: reward}
{discount: 0.9}
{placement: reward_to_go}
{baseline: remaining}
{baseline: position}
{baseline: position, placement: sequence, divergence: forward_kl}
"""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("typed", KINDS.split("\n")[1:-1])
def test_a_session_is_the_answer_that_it_would_be_in_one_row(typed, seed):
    data, keys, place = session_batch(seed)
    frpo = yaml.safe_load(typed)
    metrics.take()
    expected = compute_advantage(
        as_one_row(data, place), adv_estimator="frpo", config=algorithm(kl_coef=0.3, **frpo)
    ).batch["advantages"]
    found = metrics.take()
    got = by_session(data, keys, kl_coef=0.3, **frpo)
    torch.testing.assert_close(whole(got, place), expected, rtol=0, atol=1e-12)
    assert metrics.take() == pytest.approx(found)


@pytest.mark.parametrize("estimator", ["grpo", "rpg_batch_mean"])
def test_other_estimators_see_one_answer_too(estimator):
    data, keys, place = session_batch()
    config = of_a_run(estimator)
    for name in ("old_log_probs", "ref_log_prob"):
        data.batch[name] = data.batch[name].nan_to_num(0.0)
    one = compute_advantage(as_one_row(data, place), adv_estimator=estimator, config=config)
    found = metrics.take()
    got = by_session(data, keys, estimator, config=config)
    torch.testing.assert_close(whole(got, place), one.batch["advantages"].double(), rtol=0, atol=1e-6)
    assert metrics.take() == pytest.approx(found) and "frpo/kl_to_go/first_token/max" in found


def error(divergence, placement, rows, **frpo):
    """Of the regulariser's expected gradient over every trajectory, each cut in so many rows."""
    toy = exact.enumerate_trajectories(vocabulary=3, horizon=4)
    logits, ref_logits = exact.random_logits(toy, 0).requires_grad_(), exact.random_logits(toy, 1)
    old, ref = exact.log_prob(toy, logits).detach(), exact.log_prob(toy, ref_logits)
    order = torch.randperm(rows * toy.count, generator=torch.Generator().manual_seed(2))
    columns = [
        x.reshape(len(order), -1)[order] for x in (toy.mask.long(), toys.garbage(toy, old), toys.garbage(toy, ref))
    ]
    uid = [f"u{i // rows}" for i in order.tolist()]  # groups of one session: A = 0
    keys = [f"u{i // rows}_0_{i % rows}" for i in order.tolist()]
    frpo = {"kl_coef": 0.3, "placement": placement, **({"alpha": 0.5} if divergence == "alpha" else {}), **frpo}
    data = batch(torch.zeros_like(columns[1]), *columns, uid)
    weight = torch.empty_like(columns[1])
    weight[order] = by_session(data, keys, f"frpo_{divergence}", **frpo)
    weight = weight.reshape(toy.count, 4)
    assert torch.isfinite(weight).all() and not weight[~toy.mask].any()
    f = get_divergence(divergence, frpo.get("alpha")).value
    target = toys.local_objective if placement == "local" else exact.objective
    truth = exact.gradient(-0.3 * target(toy, logits, ref_logits, f), logits)
    return exact.relative_error(exact.policy_gradient(toy, logits, weight), truth)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("placement", ["future", "sequence", "local"])
@pytest.mark.parametrize("divergence", names.DIVERGENCES)
def test_the_expected_gradient_is_exact(divergence, placement, rows):
    assert error(divergence, placement, rows) < 1e-10


def test_steps_by_length_end_with_the_row():
    assert error("reverse_kl", "future", 2, step="length", step_length=3) < 1e-10


@pytest.mark.parametrize(
    "estimator, loss, says",
    [
        ("frpo", {"loss_mode": "frpo", "frpo": {"kl_coef": 0.1}}, "loss_mode=frpo"),
        ("grpo", {"loss_mode": "f_grpo"}, "loss_mode=f_grpo"),
        ("grpo", {"loss_mode": "rpg_rkl", "rpg": {"level": "sequence"}}, "loss_mode=rpg_rkl"),
        ("f_hal", {"loss_mode": "f_grpo"}, "adv_estimator=f_hal"),
    ],
)
def test_losses_of_whole_answers_refuse_sessions(estimator, loss, says):
    section = {"frpo": {"kl_coef": 0.0}} if estimator == "frpo" else {}
    config = of_a_run(estimator, {"policy_loss": loss}, **section)
    data, keys, _ = session_batch()
    with pytest.raises(RuntimeError) as error:
        by_session(data, keys, estimator, config=config)
    text = str(error.value)
    assert says in text and "session p_1 has 3 rows" in text and "\n" not in text


@pytest.mark.parametrize("loss", ["rpg_urkl", "atr_grpo", "vanilla"])
def test_losses_by_token_take_them(loss):
    data, keys, _ = session_batch()
    theirs = by_session(session_batch()[0], keys, "grpo")
    assert torch.equal(
        by_session(data, keys, "grpo", config=of_a_run("grpo", {"policy_loss": {"loss_mode": loss}})), theirs
    )
