"""The worker: its loss, called as verl's engines call it, and its checkpoint."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf

from ...core.losses.kl_terms import local_kl
from .. import run
from . import toy
from .toy import expect


def _loss(policy_loss: dict, **actor) -> float:
    """The loss of verl's ppo_loss, called as its engines call it, on one micro-batch of all rows."""
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers import engine_workers

    base = {
        "_target_": "verl.workers.config.FSDPActorConfig", "strategy": "fsdp2", "rollout_n": 1,
        "ppo_micro_batch_size_per_gpu": 1, "use_kl_loss": False,
        "policy_loss": {"_target_": "frpo_verl.PolicyLossConfig", **policy_loss},
    }  # fmt: skip
    config = omega_conf_to_dataclass(OmegaConf.create({**base, **actor}))
    columns: dict = {"prompts": toy.PROMPTS, "responses": toy.RESPONSES, "response_mask": toy.MASKS}
    columns |= {"old_log_probs": toy.cut(toy.OLD), "ref_log_prob": toy.cut(toy.REF), "advantages": toy.cut(_outcomes())}
    data = tu.get_tensordict({name: toy.nested(rows) for name, rows in columns.items()})
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=int(toy.MASK.sum()), global_batch_size=len(toy.KEYS))
    output = {"log_probs": toy.of_model(toy.NEW)}
    return float(engine_workers.ppo_loss(config=config, model_output=output, data=data, dp_group=None)[0])


def _outcomes() -> torch.Tensor:
    return toy.spread(toy.outcome(toy.ALONE))


def loss_with_reference() -> None:
    advantages = toy.frpo(keys=toy.ALONE, log_prob=toy.NEW).advantages
    loss = _loss({"loss_mode": "frpo", "frpo": {"kl_coef": toy.BETA}})
    expect("loss_mode=frpo", toy.ratio_loss(advantages), loss)


def loss_of_tokens() -> None:
    loss = _loss({"loss_mode": "atr_grpo", "clip": {"delta": 10.0}})
    expect("loss_mode=atr_grpo, nothing clipped", toy.ratio_loss(_outcomes()), loss)


def kl_of_the_loss() -> None:
    loss = _loss({"loss_mode": "vanilla"}, use_kl_loss=True, kl_loss_coef=0.5, kl_loss_type="k3_is")
    kl = float(local_kl(toy.NEW, toy.REF, "k3_is", old_log_prob=toy.OLD)[toy.MASK].mean())
    expect("vanilla loss + 0.5 kl_loss_type=k3_is", toy.ratio_loss(_outcomes()) + 0.5 * kl, loss)


def broken_weights_refused() -> None:
    from verl.workers import engine_workers

    from ..guards.weights import BrokenWeights

    run.remember(toy.configuration())
    module, saved = torch.nn.Linear(1, 1), []
    torch.nn.init.constant_(module.weight, float("nan"))
    engine = SimpleNamespace(module=module, save_checkpoint=lambda *args, **kwargs: saved.append(args))
    with contextlib.suppress(BrokenWeights):
        engine_workers.TrainingWorker.save_checkpoint(SimpleNamespace(engine=engine), "folder", global_step=1)
    expect("checkpoints written of a weight that is NaN", 0, len(saved))
