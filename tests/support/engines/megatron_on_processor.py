"""What verl's Megatron engine and megatron-core's local layers need beside the processor platform of frpo_verl.

Import it before verl, or name it in VERL_USE_EXTERNAL_MODULES, so that every process of a run has it. A change is made
when its module gets imported, and in no other process. Lines are those of verl 0.9.1, megatron-core 0.16.1, mbridge 0.15.1.
"""

from __future__ import annotations

import inspect
import os
import re

import wrapt


def when_imported(module: str, only_cpu: bool = False):
    if only_cpu and os.environ.get("VERL_PLATFORM") != "cpu":
        return lambda function: None
    return lambda function: wrapt.register_post_import_hook(function, module)


@when_imported("verl.workers.engine.base", only_cpu=True)  # verl's last module before Megatron's own
def cuda_names(module):
    import cuda_names_on_processor

    cuda_names_on_processor.install()


@when_imported("verl.workers.engine.megatron.transformer_impl", only_cpu=True)
def engines_for_cpu(module):
    """workers/engine/megatron/transformer_impl.py:1168,1495 register for cuda."""
    for kind, engine in (
        ("language_model", module.MegatronEngineWithLMHead),
        ("value_model", module.MegatronEngineWithValueHead),
    ):
        if "cpu" not in module.EngineRegistry._engines.get(kind, {}).get("megatron", {}):
            module.EngineRegistry.register(model_type=kind, backend="megatron", device="cpu")(engine)


@when_imported("verl.workers.config.engine")
def float32_allowed(module):
    """workers/config/engine.py:218 asserts bfloat16 or float16; the engine itself takes float32."""
    check = module.McoreEngineConfig.__post_init__

    def without_dtype(self):
        dtype = self.dtype
        object.__setattr__(self, "dtype", "bfloat16")
        check(self)
        object.__setattr__(self, "dtype", dtype)

    module.McoreEngineConfig.__post_init__ = without_dtype


@when_imported("megatron.core.tensor_parallel.random", only_cpu=True)
def one_generator(module):
    """tensor_parallel/random.py:73 writes to torch.cuda.default_generators."""
    import torch

    module._set_cuda_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)


@when_imported("megatron.core.transformer.torch_norm")
def norm_with_sequence_parallelism(module):
    """transformer/torch_norm.py:32 refuses sequence parallelism, which mbridge turns on with tensor parallelism.

    The mark on the weight makes `finalize_model_grads` add its gradient over the tensor-parallel ranks.
    """
    import torch

    def new(cls, config, hidden_size, eps=1e-5, **kwargs):
        layer = torch.nn.RMSNorm(hidden_size, eps=eps)
        layer.weight.sequence_parallel = config.sequence_parallel
        return layer

    module.WrappedTorchNorm.__new__ = new


@when_imported("megatron.core.transformer.dot_product_attention")
def causal_attention(module):
    """transformer/dot_product_attention.py:142 takes verl's mask of real tokens for one of what to hide, and no packing.

    Rows are padded on the right, so a causal mask is enough; packed rows are attended to one by one.
    """
    import torch

    padded_rows = module.DotProductAttention.forward

    def forward(self, query, key, value, attention_mask, *args, packed_seq_params=None, **kwargs):
        if packed_seq_params is None:
            return padded_rows(self, query, key, value, None, *args, **kwargs)
        bounds = packed_seq_params.cu_seqlens_q_padded
        bounds = (packed_seq_params.cu_seqlens_q if bounds is None else bounds).tolist()
        rows = []
        for first, end in zip(bounds, bounds[1:], strict=False):
            q, k, v = (x[first:end].transpose(0, 1).unsqueeze(0) for x in (query, key, value))
            rows.append(torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
        return torch.cat(rows, dim=2).squeeze(0).transpose(0, 1).flatten(1)

    module.DotProductAttention.forward = forward


@when_imported("megatron.core.transformer.moe.moe_utils")
def no_fused_router(module):
    """transformer/moe/moe_utils.py:1192 reads a name that exists beside Transformer Engine alone."""
    if not hasattr(module, "te_general_gemm"):
        module.te_general_gemm = None


@when_imported("mbridge.core.llm_bridge")
def local_layers(module):
    """core/llm_bridge.py:149 asks for Transformer Engine's layers; megatron-core has plain ones."""
    spec = module.get_gpt_decoder_block_spec

    def local_spec(config, use_transformer_engine=True, **kwargs):
        return spec(config, use_transformer_engine=False, normalization="RMSNorm", **kwargs)

    local_spec.__signature__ = inspect.signature(spec)  # mbridge looks for `vp_stage` in it
    module.get_gpt_decoder_block_spec = local_spec


INPUT_NORM = {"input_layernorm.weight": ["model.layers.{layer_number}.input_layernorm.weight"]}
MLP_NORM = {"pre_mlp_layernorm.weight": ["model.layers.{layer_number}.post_attention_layernorm.weight"]}


@when_imported("mbridge.models.qwen2")
def names_of_norms(module):
    """Transformer Engine fuses a norm into the linear layer behind it, and mbridge knows it under that layer's name."""
    module.Qwen2Bridge._OTHER_MAPPING = INPUT_NORM
    module.Qwen2Bridge._MLP_MAPPING |= MLP_NORM


@when_imported("mbridge.models.qwen2moe")
def names_of_experts(module):
    """The plain experts are numbered in another place of the name than the grouped ones."""
    bridge = module.Qwen2MoEBridge
    mapping = bridge._weight_name_mapping_mlp

    def plain(self, name):
        return mapping(self, re.sub(r"local_experts\.(\d+)\.(linear_fc\d)\.weight", r"\2.weight\1", name))

    bridge._OTHER_MAPPING = INPUT_NORM
    bridge._weight_name_mapping_mlp = plain


@when_imported("frpo_verl.verl_plugin.checks")
def engines_are_known(module):
    """The plugin refuses an engine that nobody has registered for a processor; main_ppo has not imported any by then."""
    import verl.workers.engine  # noqa: F401
