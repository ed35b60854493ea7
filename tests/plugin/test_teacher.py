"""algorithm.frpo.reference=teacher: where the log-probs come from, what the gradient is, what verl's own losses compute."""

import pytest
import torch
import transfer_queue
from batches import batch, random_batch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import kl_penalty
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl.core import enumeration as exact
from frpo_verl.verl_plugin import metrics, run
from frpo_verl.verl_plugin.batch import open_source
from frpo_verl.verl_plugin.rollout_hf.scoring import score


def nested(rows):
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def queue(teacher, mask, monkeypatch):
    """The trainer's queue with prompts of two tokens; the teacher's entry i is that of token i + 1, as verl's servers write it."""
    lengths = mask.sum(-1).tolist()
    rows = [
        torch.cat([torch.tensor([9.0, *row[:n], 0.0])]).unsqueeze(-1)
        for row, n in zip(teacher.tolist(), lengths, strict=True)
    ]
    columns = TensorDict(
        {"teacher_logprobs": nested(rows), "prompts": nested([torch.zeros(2, dtype=torch.int64) for _ in lengths]),
         "responses": nested([torch.zeros(n, dtype=torch.int64) for n in lengths])},
        batch_size=len(lengths),
    )  # fmt: skip
    monkeypatch.setattr(
        transfer_queue, "kv_batch_get", lambda keys, partition_id, select_fields: columns.select(*select_fields)
    )


def advantages(data, **frpo):
    config = OmegaConf.create(
        {"algorithm": {"adv_estimator": "frpo", "frpo": frpo}, "trainer": {},
         "actor_rollout_ref": {"model": {"path": None}}}
    )  # fmt: skip
    run.remember(config)
    data.batch["entropy"] = torch.ones(data.batch["response_mask"].shape)
    with open_source([], "train", None, step=1):
        return compute_advantage(data, adv_estimator="frpo", config=config.algorithm).batch["advantages"]


@pytest.mark.parametrize("placement", ["future", "local", "sequence"])
def test_the_teacher_stands_where_the_reference_stood(placement, monkeypatch):
    rewards, mask, old, teacher, uid = random_batch()
    expected = advantages(batch(rewards, mask, old, teacher, uid), kl_coef=0.3, placement=placement)
    queue(teacher, mask, monkeypatch)
    data = batch(rewards, mask, old, None, uid)
    found = advantages(data, kl_coef=0.3, placement=placement, reference="teacher")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert metrics.take()["frpo/kl_to_ref/k1"] != 0


def test_a_batch_that_no_teacher_scored_stops(monkeypatch):
    rewards, mask, old, _, uid = random_batch()
    monkeypatch.setattr(transfer_queue, "kv_batch_get", lambda **_: TensorDict({}, batch_size=len(mask)))
    with pytest.raises(RuntimeError, match="no teacher scored this batch; set distillation.enabled=true"):
        advantages(batch(rewards, mask, old, None, uid), reference="teacher")


def test_scores_are_the_models_own_log_probs_in_the_form_of_verls_server():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
                    num_key_value_heads=1, head_dim=16)
    ).eval()  # fmt: skip
    ids = [3, 1, 4, 1, 5]
    truth = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
    found = score(model, ids)
    assert [row[0] for row in found["prompt_ids"]] == [1, 4, 1, 5, 0]
    expected = [float(truth[i, token]) for i, token in enumerate(ids[1:])] + [0.0]
    assert [row[0] for row in found["prompt_logprobs"]] == pytest.approx(expected, abs=1e-6)


def gradients(seed):
    """The gradient of KL(pi || teacher) of whole answers, and what each way to distil computes in expectation."""
    toy = exact.enumerate_trajectories(vocabulary=3, horizon=4)
    logits = exact.random_logits(toy, seed).requires_grad_()
    teacher = exact.log_prob(toy, exact.random_logits(toy, seed + 100))
    old = exact.log_prob(toy, logits).detach()
    chance = exact.probability(toy, logits)
    truth = exact.gradient((chance * (exact.log_prob(toy, logits) - teacher).sum(-1)).sum(), logits)
    found = {}
    for kind in ("k1", "k2", "k3", "abs"):
        values = kl_penalty(exact.log_prob(toy, logits), teacher, kind)
        loss = (chance.detach() * torch.where(toy.mask, values, 0.0).sum(-1)).sum()
        found[f"loss_mode={kind}"] = exact.gradient(loss, logits)
    for kind in ("k1", "k3"):
        weight = torch.where(toy.mask, kl_penalty(old, teacher, kind), 0.0)
        found[f"loss_mode={kind} use_policy_gradient=true"] = exact.policy_gradient(toy, logits, weight)
    to_go = torch.where(toy.mask, old - teacher, 0.0).flip(-1).cumsum(-1).flip(-1)
    data = batch(torch.zeros_like(old), toy.mask.long(), old, teacher, [f"u{i}" for i in range(toy.count)])
    ours = advantages(data, kl_coef=1.0, outcome="none")
    torch.testing.assert_close(ours, torch.where(toy.mask, -to_go, 0.0), rtol=0, atol=1e-12)
    found["adv_estimator=frpo outcome=none"] = -exact.policy_gradient(toy, logits, ours)
    return {name: exact.relative_error(gradient, truth) for name, gradient in found.items()}


def test_what_each_way_to_distil_computes():
    errors = [gradients(seed) for seed in range(8)]
    mean = {name: sum(e[name] for e in errors) / len(errors) for name in errors[0]}
    assert mean["adv_estimator=frpo outcome=none"] < 1e-10
    assert mean["loss_mode=k1"] == pytest.approx(1, abs=1e-9)  # no gradient at all
    assert mean["loss_mode=k2"] == pytest.approx(
        mean["loss_mode=k1 use_policy_gradient=true"], abs=1e-6
    )  # the local one
    assert all(error > 0.1 for name, error in mean.items() if "frpo" not in name), mean
    print({name: round(error, 3) for name, error in mean.items()})
