"""What verl's trainer needs to run on a CPU (VERL_PLATFORM=cpu): its FSDP2 engine under that device name, on gloo.

verl registers the engines for cuda and npu only; on gloo the same classes train on a CPU.
"""

from __future__ import annotations

from typing import Any

from ..hooks import Call


def register_platform(_module: Any) -> None:
    """verl's platform `cpu`, and the name of vLLM's build for it."""
    from . import device, vllm_cpu  # noqa: F401 - the platform registers itself

    vllm_cpu.name_distribution()


def start_gloo(call: Call) -> Any:
    """Around verl's `initialize_global_process_group_ray`."""
    return call.function(call["timeout_second"], call["backend"] or "cpu:gloo")


def register_engines(transformer_impl: Any) -> None:
    """verl's FSDP2 engines for `device="cpu"` (`strategy=fsdp2` only: FSDP1 needs an accelerator)."""
    registry = transformer_impl.EngineRegistry
    for model_type, engine in (
        ("language_model", transformer_impl.FSDPEngineWithLMHead),
        ("value_model", transformer_impl.FSDPEngineWithValueHead),
    ):
        if "cpu" not in registry._engines.get(model_type, {}).get("fsdp2", {}):
            registry.register(model_type=model_type, backend=["fsdp2"], device=["cpu"])(engine)


def unpin_offload(transformer_impl: Any) -> None:
    """Offloaded weights in memory that is not pinned."""
    policy = transformer_impl.CPUOffloadPolicy
    transformer_impl.CPUOffloadPolicy = lambda pin_memory=False: policy(pin_memory=False)


def register_checkpoint_engine(_module: Any) -> None:
    """The checkpoint engine `zmq`."""
    from . import checkpoint_engine  # noqa: F401 - it registers itself


def keep_a_copy(call: Call) -> Any:
    """Around verl's `fsdp2_sharded_save_to_cpu`: the kept weights are copies."""
    weights, spec = call()
    return {name: (tensor.clone(), own) for name, (tensor, own) in weights.items()}, spec


def load_value_model(call: Call) -> Any:
    """verl's value model without flash attention, which it asks for by name."""
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(
        call["local_path"],
        dtype=call["torch_dtype"],
        config=call["model_config"],
        attn_implementation="sdpa",
        trust_remote_code=call["trust_remote_code"],
    )


def look_often(call: Call) -> Any:
    """Around verl's `ReplayBuffer.__init__`: a look for finished answers each 0.05 s."""
    return call.function(*call.args, **{"poll_interval": 0.05, **call.kwargs})
