"""The places of verl, and of vLLM, that are touched only with VERL_PLATFORM=cpu; the form is that of `seams.py`."""

from __future__ import annotations

from .hooks import seam, step


@step(
    "verl.plugin.platform",
    upstream="plugin/platform/platform_manager.py:31 PlatformRegistry",
    reason="VERL_PLATFORM=cpu names a platform that verl does not ship; vLLM's build for it is no `vllm` to verl",
    only_cpu=True,
)
def register_platform(module):
    from .cpu import platform, vllm_cpu  # noqa: F401 - the platform registers itself

    vllm_cpu.name_distribution()


@seam(
    "verl.utils.distributed",
    "initialize_global_process_group_ray",
    upstream="utils/distributed.py:79",
    reason="builds the backend `cpu:gloo,cpu:gloo`, which torch refuses",
    known={"761a94d1a2e058d3": "0.9.0, 0.9.1"},
    only_cpu=True,
)
def initialize_global_process_group_ray(original, timeout_second=None, backend=None):
    return original(timeout_second=timeout_second, backend=backend or "cpu:gloo")


@step(
    "verl.workers.engine.fsdp.transformer_impl",
    upstream="workers/engine/fsdp/transformer_impl.py:1143 EngineRegistry",
    reason="the FSDP engines are registered for cuda and npu only",
    only_cpu=True,
)
def register_engines(module):
    from .cpu.engine import register_engines

    register_engines(module)


@step(
    "verl.workers.engine.fsdp.transformer_impl",
    upstream="workers/engine/fsdp/transformer_impl.py:458 CPUOffloadPolicy(pin_memory=True)",
    reason="pinned memory needs an accelerator; forward-only models ask for it always",
    only_cpu=True,
)
def unpin_offload(module):
    policy = module.CPUOffloadPolicy
    module.CPUOffloadPolicy = lambda pin_memory=False: policy(pin_memory=False)


@step(
    "vllm.model_executor.layers.utils",
    upstream="vllm 0.31.0, model_executor/layers/linear.py:216 remove_weight=True",
    reason="a packed layer drops the weights that the trainer's next ones are loaded into",
    only_cpu=True,
    package="vllm",
)
def keep_vllm_weights(module):
    from .cpu import vllm_cpu

    vllm_cpu.keep_weights(module)


@seam(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer.__init__",
    upstream="trainer/ppo/v1/replay_buffer.py:137",
    reason="it sleeps 2 s between looks for finished answers: nothing beside generation on a GPU, half of a step here",
    known={"0c37a48629991988": "0.9.1", "c3a07f992a84bc2f": "0.9.0"},
    only_cpu=True,
)
def look_often(original, self, *args, **kwargs):
    return original(self, *args, **{"poll_interval": 0.05, **kwargs})
