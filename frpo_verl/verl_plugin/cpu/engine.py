"""verl's FSDP2 engine under the device name `cpu`.

verl registers `FSDPEngineWithLMHead` for cuda and npu only. On gloo the same class trains on a CPU; two lines of
it need an answer, both around `torch.distributed.fsdp` and both given in `seams.py`.
"""

from __future__ import annotations


def register_engines(transformer_impl) -> None:
    """Register verl's FSDP2 engines for `device="cpu"` (`strategy=fsdp2` only: FSDP1 needs an accelerator)."""
    registry = transformer_impl.EngineRegistry
    for model_type, engine in (
        ("language_model", transformer_impl.FSDPEngineWithLMHead),
        ("value_model", transformer_impl.FSDPEngineWithValueHead),
    ):
        if "cpu" not in registry._engines.get(model_type, {}).get("fsdp2", {}):
            registry.register(model_type=model_type, backend=["fsdp2"], device=["cpu"])(engine)


def load_value_model(local_path, torch_dtype, model_config, trust_remote_code):
    """verl's value model without flash attention, which it asks for by name and which needs an accelerator."""
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(
        local_path,
        dtype=torch_dtype,
        config=model_config,
        attn_implementation="sdpa",
        trust_remote_code=trust_remote_code,
    )


def copied(weights, spec):
    """What verl's `fsdp2_sharded_save_to_cpu` returns, with weights of its own."""
    return {name: (tensor.clone(), own) for name, (tensor, own) in weights.items()}, spec
