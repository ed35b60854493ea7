"""Checks of a run's layout: settings that verl accepts and that change the method, or that die after the first rollout.

Each error is one line: the key, its value, what is allowed, what to do.
"""

from __future__ import annotations

import sys

from omegaconf import OmegaConf

from ...methods.settings import ConfigError
from .sizes import (
    ROOT,
    check_capacity,
    check_checkpoint,
    check_mini_batch,
    check_model_ranks,
    check_token_budgets,
    lora_ranks,
    select,
)

ENGINES = {"McoreActorConfig": "megatron", "VeOmniActorConfig": "veomni", "TorchTitanActorConfig": "torchtitan"}


def check_layout(config, *, has_reference: bool) -> None:
    """Refuse a layout that would change the method in silence or stop the run after its first rollout.

    Args:
        config: the composed configuration of main_ppo; it is only read.
        has_reference: whether the run compares with a reference model.

    Raises:
        ConfigError: on the first thing that is wrong.
    """
    _check_folder(config)
    _check_engine(config)
    if has_reference:
        _check_model_dtype(config)
    check_capacity(config)
    check_model_ranks(config)
    _check_lora(config, has_reference)
    _check_warmup(config)
    check_checkpoint(config)
    if select(config, "trainer.val_only", False):
        if not select(config, "trainer.val_before_train", True):
            raise ConfigError(
                "trainer.val_before_train=false beside val_only=true: verl would train instead of validating; set it to true"
            )
        return
    _check_sampling(config)
    check_token_budgets(config, has_reference)
    check_mini_batch(config)


def _check_folder(config) -> None:
    """An evaluation whose model has no name has no folder either."""
    if OmegaConf.is_missing(config, "name"):
        raise ConfigError(
            "name is not set: it names the evaluated model's folder, so that no model overwrites "
            "another's answers; add name=SOME_NAME"
        )


def _check_engine(config) -> None:
    """The class of the actor's (and the reference's) settings, the strategy and the sections belong to one engine."""
    for role in ("actor", "ref"):
        target = str(select(config, f"{ROOT}.{role}._target_", "")).rpartition(".")[2]
        strategy = str(select(config, f"{ROOT}.{role}.strategy", ""))
        engine = ENGINES.get(target)
        if target and not strategy.startswith(engine or "fsdp"):
            wanted = engine or "fsdp2"
            raise ConfigError(
                f"{ROOT}.{role}.strategy={strategy} does not belong to {target}: use layout=fsdp or layout=megatron beside "
                f"a recipe, else set model_engine and strategy together (here strategy={wanted})"
            )
        section = "fsdp_config" if engine else "megatron"
        if select(config, f"{ROOT}.{role}.{section}") is not None:
            raise ConfigError(
                f"{ROOT}.{role}.{section} is set and strategy={strategy} does not know it: its worker would stop; remove it"
            )


def _check_model_dtype(config) -> None:
    """FSDP casts the whole module to model_dtype, the rotary frequencies too: the reference is then another model."""
    for role in ("actor", "ref"):
        key = f"{ROOT}.{role}.fsdp_config.model_dtype"
        value = str(select(config, key, "fp32")).removeprefix("torch.")
        if value not in ("fp32", "float32", "float"):
            raise ConfigError(
                f"{key}={value}: FSDP then rounds the rotary frequencies as well, and the log-ratio to the reference is that "
                "of two other models; allowed is fp32 (the passes compute in fsdp_config.dtype=bfloat16 all the same)"
            )


def _check_sampling(config) -> None:
    """With top-p or top-k the answers are not drawn from the policy whose log-probs the method uses."""
    top_p, top_k = select(config, f"{ROOT}.rollout.top_p", 1.0), select(config, f"{ROOT}.rollout.top_k", -1)
    if float(top_p) != 1.0:
        raise ConfigError(
            f"{ROOT}.rollout.top_p={top_p}: answers would not be samples of the policy whose log-probs are used; set it to 1 "
            "(val_kwargs.top_p is for validation)"
        )
    if int(top_k) not in (-1, 0):
        raise ConfigError(
            f"{ROOT}.rollout.top_k={top_k}: answers would not be samples of the policy whose log-probs are used; set it to -1 "
            "(val_kwargs.top_k is for validation)"
        )


def _check_lora(config, has_reference: bool) -> None:
    """The trainer takes the actor without adapters for the reference as soon as one key is set: its engine must read it."""
    strategy, ranks = str(select(config, f"{ROOT}.actor.strategy", "fsdp")), lora_ranks(config)
    if strategy != "megatron" and not strategy.startswith("fsdp"):
        return
    other, own = ("lora_rank", "lora.rank") if strategy == "megatron" else ("lora.rank", "lora_rank")
    if other in ranks and own not in ranks:
        raise ConfigError(
            f"{ROOT}.model.{other}={ranks[other]} with {ROOT}.actor.strategy={strategy}, which reads {ROOT}.model.{own}=0: "
            "there would be no adapters, and the policy would be its own reference; set "
            f"{own}, or use layout={'fsdp' if own == 'lora.rank' else 'megatron'}"
        )
    if (
        ranks
        and select(config, f"{ROOT}.rollout.name") == "hf"
        and not select(config, f"{ROOT}.model.lora.merge", False)
    ):
        raise ConfigError(
            f"{ROOT}.model.lora.merge=false with {ROOT}.rollout.name=hf: this engine takes merged weights only; set it to true"
        )
    _check_adapter(config, strategy, own if own in ranks else None, has_reference)


def _check_adapter(config, strategy: str, rank: str | None, has_reference: bool) -> None:
    """A trained adapter is loaded where its engine looks for it and beside a rank; the reference is without it."""
    right = "lora.adapter_path" if strategy == "megatron" else "lora_adapter_path"
    for path in ("lora_adapter_path", "lora.adapter_path"):
        value = select(config, f"{ROOT}.model.{path}")
        if value is None:
            continue
        if path != right or rank is None:
            own = "lora.rank" if strategy == "megatron" else "lora_rank"
            raise ConfigError(
                f"{ROOT}.model.{path}={value}: {strategy} loads the adapter of {right}, and only beside {own}; this one would be "
                f"left out without a word; set {ROOT}.model.{right} and {own} (the adapter's r)"
            )
        if has_reference:
            print(
                f"frpo_verl: {ROOT}.model.{path}={value}: the reference is the model without this adapter, so the KL does not "
                "start at 0; to start at the adapter, merge it into the model (peft: merge_and_unload) and train a new one",
                file=sys.stderr, flush=True,
            )  # fmt: skip


def _check_warmup(config) -> None:
    """Megatron wants a warm-up that ends before the run does."""
    optim = f"{ROOT}.actor.optim"
    warmup, steps = (
        int(select(config, key, 0)) for key in (f"{optim}.lr_warmup_steps", "trainer.total_training_steps")
    )
    mode = select(config, "trainer.v1.trainer_mode", "sync")
    updates = steps * int(select(config, f"trainer.v1.{mode}.parameter_sync_step", 1))
    decay = int(select(config, f"{optim}.lr_decay_steps", updates))
    if str(select(config, f"{ROOT}.actor.strategy", "")) == "megatron" and steps and 0 < warmup >= decay:
        raise ConfigError(
            f"{optim}.lr_warmup_steps={warmup} is not below the {decay} steps of the schedule "
            f"(trainer.total_training_steps={steps}), and Megatron would stop: set it to -1 or less than {decay}"
        )
