"""Placeholders and NaN in the log-probs of a batch: judged once, in the driver; what is left out is out of everything."""

import pytest
import torch
import transfer_queue
from batches import advantages, algorithm, batch, by_session, of_a_run, random_batch, session_batch
from loss_batch import actor_config, micro_batch
from omegaconf import OmegaConf
from queues import Queue
from tensordict import TensorDict
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.workers.utils.losses import ppo_loss

from frpo_verl import methods
from frpo_verl.core import soundness
from frpo_verl.verl_plugin import batch as views
from frpo_verl.verl_plugin import metrics

LOSSES = ("vanilla", *methods.of_kind("policy_loss"))
BESIDE = ("js", "k3_is", "low_var_kl")
AGGREGATIONS = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
PLACEMENTS = ("future", "local", "sequence", "reward", "reward_to_go")
NAN, ROW = float("nan"), 4


def spoilt_batch(column: str, value: float = NAN):
    """A batch with one value that is not finite, on the third token of row 4."""
    rewards, mask, old, ref, uid = random_batch()
    mask[ROW] = 1
    {"old_log_probs": old, "ref_log_prob": ref}[column][ROW, 2] = value
    return rewards, mask, old, ref, uid


OF_THE_POLICY = r"old_log_probs is not finite at row 4, uid p1, response position 2 \(1 such rows\)"
SURE = "ref_log_prob is 0 on every token, a placeholder and not a reference"
READERS = {
    "loss_mode=frpo": {"policy_loss": {"loss_mode": "frpo"}},
    "loss_mode=f_grpo": {"policy_loss": {"loss_mode": "f_grpo"}},
    "loss_mode=rpg_rkl": {"policy_loss": {"loss_mode": "rpg_rkl", "rpg": {"reference": "ref"}}},
    "kl_loss_type=js": {"use_kl_loss": True, "kl_loss_type": "js"},
}
STOPS = [  # the run, the column, a value of it (0: of the whole column), the line
    # the actor would go on computing what the policy's log-prob is: to leave the answer out would not help
    *((of_a_run("frpo", frpo={"kl_coef": 0.1, "on_nonfinite": rule}), "old_log_probs", value, OF_THE_POLICY)
      for rule in ("raise", "zero_row") for value in (NAN, torch.inf, -torch.inf)),
    *((of_a_run(name, gamma=1.0), "old_log_probs", NAN, OF_THE_POLICY) for name in ("grpo", "rloo", "rpg_batch_mean")),
    (of_a_run("frpo", frpo={}), "ref_log_prob", NAN, "adv_estimator=frpo: ref_log_prob is not finite at row 4.*zero_row"),
    *((of_a_run(actor=actor), "ref_log_prob", value, f"{reader}: {line}")
      for reader, actor in READERS.items() for value, line in ((NAN, "ref_log_prob is not finite at row 4"), (0, SURE))),
    (of_a_run(actor={"use_kl_loss": True, "kl_loss_type": "low_var_kl"}), "ref_log_prob", NAN, "ref_log_prob is not finite"),
]  # fmt: skip


@pytest.mark.parametrize("config, column, value, line", STOPS)
def test_what_a_run_of_ours_reads_is_judged_in_the_driver_and_a_foreign_run_is_left_alone(config, column, value, line):
    columns = spoilt_batch(column, value)
    if value == 0:
        columns[3].zero_()
    with pytest.raises((FloatingPointError, RuntimeError), match=line):
        compute_advantage(batch(*columns), adv_estimator=config.adv_estimator, config=config)
    theirs = OmegaConf.create({"algorithm": {"adv_estimator": "grpo"}}).algorithm
    compute_advantage(batch(*columns), adv_estimator="grpo", config=theirs)


@pytest.mark.parametrize("loss_mode", LOSSES)
def test_a_micro_batch_of_one_row_whose_reference_is_sure_passes(loss_mode, monkeypatch):
    """log 1 = 0 exactly: an answer of one token that both models are sure of is no placeholder; no loss asks for one."""
    monkeypatch.setattr(soundness, "all_zero", None)
    log_prob = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    zeros = {name: [torch.zeros(1, dtype=torch.float64)] for name in ("old_log_probs", "ref_log_prob")}
    columns = {**zeros, "advantages": [torch.ones(1).double()], "response_mask": [torch.ones(1, dtype=torch.long)]}
    loss, _ = ppo_loss(actor_config(policy_loss={"loss_mode": loss_mode}), output(log_prob), worker_batch(columns))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(log_prob.grad).all()


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("baseline", ["none", "position"])
def test_the_other_answers_have_the_advantages_of_a_batch_without_it(placement, baseline):
    if placement.startswith("reward") and baseline == "position":
        return
    settings = {"kl_coef": 0.1, "placement": placement, "baseline": baseline}
    columns = spoilt_batch("ref_log_prob")
    data = batch(*columns)
    ours = advantages(data, on_nonfinite="zero_row", **settings)
    found = metrics.take()
    assert found.pop("frpo/nonfinite_rows") == 1
    keep = torch.arange(len(ours)) != ROW
    rest = [x[keep] if torch.is_tensor(x) else [u for i, u in enumerate(x) if i != ROW] for x in columns]
    torch.testing.assert_close(ours[keep], advantages(batch(*rest), **settings), rtol=0, atol=1e-6)
    assert not ours[ROW].any() and found == pytest.approx(metrics.take())
    assert not data.batch["response_mask"][ROW].any() and not data.batch["ref_log_prob"][ROW].any()
    assert list(data.non_tensor_batch["uid"]) == columns[-1]  # other readers see the ids as they are


def test_without_such_an_answer_the_count_is_0_and_nothing_changes():
    plain = advantages(batch(*random_batch()), kl_coef=0.1)
    assert torch.equal(advantages(batch(*random_batch()), kl_coef=0.1, on_nonfinite="zero_row"), plain)
    assert metrics.take()["frpo/nonfinite_rows"] == 0


def test_the_rows_of_one_session_are_left_out_together():
    data, keys, _ = session_batch()
    data.batch["ref_log_prob"][keys.index("p_1_10"), 0] = NAN
    ours = by_session(data, keys, kl_coef=0.1, on_nonfinite="zero_row")
    for i, key in enumerate(keys):
        assert bool(ours[i].any()) == (not key.startswith(("p_1", "pad"))), key
    assert metrics.take()["frpo/nonfinite_rows"] == 3


def left_out(loss_mode, agg, actor=None):
    """(loss, gradient) of a batch whose row 4 was left out by the driver, and of the same batch without that row."""
    data = batch(*double(spoilt_batch("ref_log_prob")))
    placement = "reward" if "one_value" in needs(loss_mode) else "future"
    advantages(data, kl_coef=0.1, placement=placement, on_nonfinite="zero_row", allow_multiple_kl=True)
    data.batch["advantages"] = data.batch["advantages"].double()
    given = {name: data.batch[name] for name in ("old_log_probs", "ref_log_prob", "advantages", "response_mask")}
    given["log_prob"] = given["old_log_probs"] + 0.1
    alone = {name: x[torch.arange(12) != ROW] for name, x in given.items()}
    return [worker_loss(part, loss_mode, agg, entropy_coeff=0.1, **(actor or {})) for part in (given, alone)]


def double(columns):
    return [x.double() if torch.is_tensor(x) and x.is_floating_point() else x for x in columns]


def worker_loss(given, loss_mode, agg, **actor):
    """(loss, gradient of log_prob, metrics) of these columns as a part of a mini-batch of twelve answers."""
    log_prob = given["log_prob"].clone().requires_grad_()
    part = {name: list(x) for name, x in given.items() if name != "log_prob"}
    config = actor_config(policy_loss={"loss_mode": loss_mode}, loss_agg_mode=agg, loss_scale_factor=7, **actor)
    size = int(given["response_mask"].sum())
    loss, found = ppo_loss(config, output(log_prob, "entropy_coeff" in actor), worker_batch(part, size, 12))
    return loss.detach(), torch.autograd.grad(loss, log_prob)[0], found


def needs(loss_mode):
    method = methods.find("policy_loss", loss_mode)
    return method.needs if method is not None else ()


def of(metrics):
    return {name: torch.as_tensor(getattr(m, "values", m), dtype=torch.float64) for name, m in metrics.items()}


@pytest.mark.parametrize("agg", AGGREGATIONS)
@pytest.mark.parametrize("loss_mode, kl", [*((name, "") for name in LOSSES), *(("vanilla", kl) for kl in BESIDE)])
def test_it_is_in_no_loss_no_gradient_and_no_count(loss_mode, kl, agg):
    if "one_value" in needs(loss_mode) and agg != "token-mean":
        return
    beside = {"use_kl_loss": True, "kl_loss_type": kl, "kl_loss_coef": 0.3} if kl else {}
    (loss, grad, found), (other, without, _) = left_out(loss_mode, agg, beside)
    assert torch.isfinite(loss) and loss == pytest.approx(float(other), abs=1e-12)
    assert torch.isfinite(grad).all() and not grad[ROW].any()
    torch.testing.assert_close(grad[torch.arange(12) != ROW], without, rtol=0, atol=1e-12)
    assert all(torch.isfinite(numbers).all() for numbers in of(found).values())


def output(log_prob, entropy=False):
    """Flat log-probs of prompt and response, shifted left by one as a model puts them out."""
    pad = log_prob.new_zeros(len(log_prob), 1)
    flat = torch.cat([pad, log_prob, pad], dim=1).flatten()
    return {"log_probs": flat, **({"entropy": flat.detach() ** 2} if entropy else {})}


def worker_batch(columns, tokens: int = 1, answers: int = 1) -> TensorDict:
    rows = [{"tokens": torch.ones(len(mask), dtype=torch.long)} for mask in columns["response_mask"]]
    rows = [{**row, **{name: values[i] for name, values in columns.items()}} for i, row in enumerate(rows)]
    return micro_batch(rows, tokens, answers)


def test_the_workers_see_it_in_the_queue(monkeypatch):
    """verl's engines count the tokens of `loss_mask`, its loss those of `response_mask`, its metrics read the queue."""
    rewards, mask, old, ref, _ = spoilt_batch("ref_log_prob")
    queue, keys = Queue(), [f"p{i}_0_0" for i in range(12)]
    columns = {"response_mask": mask, "loss_mask": mask, "ref_log_prob": ref, "old_log_probs": old}
    for i, key in enumerate(keys):
        queue.rows[key] = {name: x[i, : mask[i].sum()].clone() for name, x in columns.items()}
    before = {key: dict(row) for key, row in queue.rows.items()}
    monkeypatch.setattr(transfer_queue, "kv_batch_get", queue.get)
    monkeypatch.setattr(transfer_queue, "kv_batch_put", queue.put)
    data = batch(rewards, mask, old, ref, [key.split("_")[0] for key in keys])
    with views.open_source(keys, "train", None):
        by_session(data, keys, "frpo", kl_coef=0.1, on_nonfinite="zero_row")
    for name in ("response_mask", "loss_mask", "ref_log_prob"):
        assert not queue.rows[keys[ROW]][name].any() and queue.rows[keys[3]][name].any()
    assert torch.equal(queue.rows[keys[ROW]]["old_log_probs"], old[ROW])
    for key, row in queue.rows.items():
        assert all(x.shape == before[key][name].shape and x.dtype == before[key][name].dtype for name, x in row.items())


@pytest.mark.parametrize("agg", AGGREGATIONS)
@pytest.mark.parametrize("column", ["old_log_probs", "ref_log_prob", "advantages", "log_prob"])
@pytest.mark.parametrize("loss_mode", [name for name in LOSSES if name != "vanilla"])
def test_nan_on_a_masked_token_is_in_no_loss_and_in_no_metric(loss_mode, column, agg):
    if "one_value" in needs(loss_mode) and agg != "token-mean":
        return
    _, mask, old, ref, _ = double(random_batch())
    mask[ROW] = torch.tensor([1, 1, 0, 1, 1, 0, 0])
    given = {"old_log_probs": old, "ref_log_prob": ref, "advantages": torch.ones_like(old), "log_prob": old + 0.1}
    given["response_mask"] = mask
    loss, grad, found = worker_loss(given, loss_mode, agg)
    given[column] = given[column].masked_fill(mask == 0, NAN)
    other, spoilt, also = worker_loss(given, loss_mode, agg)
    assert torch.equal(loss, other) and torch.equal(grad, spoilt)
    assert {k: v.tolist() for k, v in of(found).items()} == {k: v.tolist() for k, v in of(also).items()}


def test_a_masked_nan_of_the_batch_is_nothing():
    columns = random_batch()
    plain = advantages(batch(*columns), kl_coef=0.1)
    for column in columns[2:4]:
        column.masked_fill_(columns[1] == 0, NAN)
    assert torch.equal(advantages(batch(*columns), kl_coef=0.1), plain)
    compute_advantage(batch(*columns), adv_estimator="frpo", config=algorithm(kl_coef=0.1))
