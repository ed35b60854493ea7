"""verl's overrides and variables for an engine on a CPU, in float32."""

from __future__ import annotations

ACTOR, REF = "actor_rollout_ref.actor", "actor_rollout_ref.ref"
LOCAL_LAYERS = (  # fusions of Transformer Engine, Apex or CUDA, which megatron-core's local layers do without
    "apply_rope_fusion",
    "bias_activation_fusion",
    "bias_dropout_fusion",
    "masked_softmax_fusion",
    "moe_grouped_gemm",
    "persist_layer_norm",
)
VARIABLES = {
    "VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
}  # fmt: skip
MEGATRON_VARIABLES = {"TORCHDYNAMO_DISABLE": "1", "CUDA_DEVICE_MAX_CONNECTIONS": "1"}


def fsdp2() -> list[str]:
    precision = "{param_dtype: fp32, reduce_dtype: fp32, buffer_dtype: fp32}"
    return [
        f"{ACTOR}.strategy=fsdp2",
        f"{REF}.strategy=fsdp2",
        *(f"{role}.use_torch_compile=false" for role in (ACTOR, REF)),
        *(
            f"++{role}.fsdp_config.{key}"
            for role in (ACTOR, REF)
            for key in ("dtype=float32", "model_dtype=fp32", "use_torch_compile=false", f"mixed_precision={precision}")
        ),
    ]


def megatron(tensor_parallel: int = 1, pipeline_parallel: int = 1, packed: bool = False) -> list[str]:
    return [
        "model_engine=megatron",
        f"{REF}.megatron.dtype=float32",  # the reference inherits the actor's parallelism and bridge, not its dtype
        f"{ACTOR}.megatron.dtype=float32",
        f"{ACTOR}.megatron.vanilla_mbridge=true",
        f"{ACTOR}.megatron.use_remove_padding={packed}",
        f"{ACTOR}.megatron.sequence_parallel={tensor_parallel > 1}",
        f"{ACTOR}.megatron.tensor_model_parallel_size={tensor_parallel}",
        f"{ACTOR}.megatron.pipeline_model_parallel_size={pipeline_parallel}",
        f"{ACTOR}.megatron.expert_tensor_parallel_size=1",
        f"{ACTOR}.megatron.override_transformer_config.attention_backend=local",
        *(f"+{ACTOR}.megatron.override_transformer_config.{key}=false" for key in LOCAL_LAYERS),
    ]
