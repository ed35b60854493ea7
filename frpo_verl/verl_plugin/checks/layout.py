"""Engines, dtypes, sampling and adapters that verl accepts and that change the method, or die after the first rollout."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import OmegaConf

from ..run import Run

ROOT = "actor_rollout_ref"
MODEL, ROLLOUT = f"{ROOT}.model", f"{ROOT}.rollout"
ENGINES = {"McoreActorConfig": "megatron", "VeOmniActorConfig": "veomni", "TorchTitanActorConfig": "torchtitan"}


def refusals(run: Run) -> Iterator[str]:
    """A layout that would change the method in silence or stop the run after its first rollout."""
    if OmegaConf.is_missing(run.config, "name"):
        yield (
            "name is not set: it names the evaluated model's folder, so that no model overwrites another's answers; add "
            "name=SOME_NAME"
        )
    for role in ("actor", "ref"):
        yield from _engine(run, role)
    yield from _adapters(run)
    if run.get("trainer.val_only", False) and not run.get("trainer.val_before_train", True):
        yield "trainer.val_before_train=false beside val_only=true: verl would train instead of validating; set it to true"
    if run.get("trainer.val_only", False):
        return
    for name, off, allowed in (("top_p", 1, (1,)), ("top_k", -1, (-1, 0))):
        value = run.get(f"{ROLLOUT}.{name}", off)
        if float(value) not in allowed:
            yield (
                f"{ROLLOUT}.{name}={value}: answers would not be samples of the policy whose log-probs are used; set it to "
                f"{off} (val_kwargs.{name} is for validation)"
            )


def cautions(run: Run) -> Iterator[str]:
    """What is obeyed and still may not be what is meant."""
    for path in ("lora_adapter_path", "lora.adapter_path"):
        value = run.get(f"{MODEL}.{path}")
        if value is not None and run.has_reference:
            yield (
                f"{MODEL}.{path}={value}: the reference is the model without this adapter, so the KL does not start at 0; to "
                "start at the adapter, merge it into the model (peft: merge_and_unload) and train a new one"
            )


def _engine(run: Run, role: str) -> Iterator[str]:
    """The class of a role's settings, the strategy and the sections belong to one engine, which keeps the model as it is."""
    key, strategy = f"{ROOT}.{role}", str(run.get(f"{ROOT}.{role}.strategy", ""))
    target = str(run.get(f"{key}._target_", "")).rpartition(".")[2]
    engine = ENGINES.get(target)
    if target and not strategy.startswith(engine or "fsdp"):
        yield (
            f"{key}.strategy={strategy} does not belong to {target}: use layout=fsdp or layout=megatron beside a recipe, else "
            f"set model_engine and strategy together (here strategy={engine or 'fsdp2'})"
        )
    section = "fsdp_config" if engine else "megatron"
    if run.get(f"{key}.{section}") is not None:
        yield f"{key}.{section} is set and strategy={strategy} does not know it: its worker would stop; remove it"
    dtype = str(run.get(f"{key}.fsdp_config.model_dtype", "fp32"))
    if run.has_reference and dtype.removeprefix("torch.") not in ("fp32", "float32", "float"):
        yield (
            f"{key}.fsdp_config.model_dtype={dtype}: FSDP then rounds the rotary frequencies as well, and the log-ratio to the "
            "reference is that of two other models; allowed is fp32 (the passes compute in fsdp_config.dtype=bfloat16 all the same)"
        )


def lora_ranks(run: Run) -> dict[str, int]:
    """The keys of LoRA's rank that are set: lora_rank is FSDP's, lora.rank is Megatron's, the trainer reads both."""
    ranks = {key: int(run.get(f"{MODEL}.{key}", 0)) for key in ("lora_rank", "lora.rank")}
    return {key: rank for key, rank in ranks.items() if rank > 0}


def _adapters(run: Run) -> Iterator[str]:
    """The trainer takes the actor without adapters for the reference as soon as one key is set: its engine must read it.

    A trained adapter is loaded where its engine looks for it and beside a rank; the reference is without it.
    """
    strategy, ranks = str(run.get(f"{ROOT}.actor.strategy", "fsdp")), lora_ranks(run)
    megatron = strategy == "megatron"
    if not megatron and not strategy.startswith("fsdp"):
        return
    own, other, here, there = ("lora_rank", "lora.rank", "lora_adapter_path", "megatron")
    if megatron:
        own, other, here, there = ("lora.rank", "lora_rank", "lora.adapter_path", "fsdp")
    if other in ranks and own not in ranks:
        yield (
            f"{MODEL}.{other}={ranks[other]} with {ROOT}.actor.strategy={strategy}, which reads {MODEL}.{own}=0: there would "
            f"be no adapters, and the policy would be its own reference; set {own}, or use layout={there}"
        )
    if ranks and run.get(f"{ROLLOUT}.name") == "hf" and not run.get(f"{MODEL}.lora.merge", False):
        yield (
            f"{MODEL}.lora.merge=false with {ROLLOUT}.name=hf: this engine takes merged weights only; set it to true"
        )
    for path in ("lora_adapter_path", "lora.adapter_path"):
        value = run.get(f"{MODEL}.{path}")
        if value is not None and (path != here or own not in ranks):
            yield (
                f"{MODEL}.{path}={value}: {strategy} loads the adapter of {here}, and only beside {own}; this one would be left "
                f"out without a word; set {MODEL}.{here} and {own} (the adapter's r)"
            )
