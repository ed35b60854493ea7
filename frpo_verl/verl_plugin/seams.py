"""Every place of verl that frpo_verl touches.

Line numbers are those of verl 0.9.1. The hex strings are hashes of the wrapped function's source, see `hooks.py`; a
function whose source is not listed is still wrapped, but a run that uses one of our names stops unless
`FRPO_VERL_ALLOW_UNTESTED=1`.
"""

from __future__ import annotations

from .. import names
from . import context
from .hooks import seam, step

# ---------------------------------------------------------------------------------------------- registrations


@step(
    "verl.trainer.ppo.core_algos",
    upstream="trainer/ppo/core_algos.py:116 register_adv_est",
    reason="the registry that algorithm.adv_estimator reads",
)
def register_estimators(module):
    from .estimators import register_estimators

    register_estimators(module)


@step(
    "verl.trainer.ppo.core_algos",
    upstream="trainer/ppo/core_algos.py:53 register_policy_loss",
    reason="the registry that actor.policy_loss.loss_mode reads",
)
def register_policy_losses(module):
    from .policy_losses import register_policy_losses

    register_policy_losses(module)


@step(
    "verl.experimental.agent_loop.agent_loop",
    upstream="experimental/agent_loop/agent_loop.py, _agent_loop_registry",
    reason="agent_name=recorded_response: recorded preference pairs in place of generated answers (f-HAL)",
)
def register_agent_loops(module):
    module._agent_loop_registry["recorded_response"] = {
        "_target_": "frpo_verl.verl_plugin.agent_loops.RecordedResponse"
    }


@step(
    "verl.workers.rollout.base",
    upstream="workers/rollout/base.py:84 _ROLLOUT_REGISTRY",
    reason="rollout.name=hf: the adapter in the workers",
)
def register_rollout_adapter(module):
    module._ROLLOUT_REGISTRY[("hf", "async")] = "frpo_verl.verl_plugin.cpu.rollout.HFAdapter"


@step(
    "verl.workers.rollout.replica",
    upstream="workers/rollout/replica.py:277 RolloutReplicaRegistry",
    reason="rollout.name=hf: the replica in the driver",
)
def register_rollout_replica(module):
    def load():
        from .cpu.rollout import HFReplica

        return HFReplica

    module.RolloutReplicaRegistry.register("hf", load)


# ---------------------------------------------------------------------------------------------- advantages


@seam(
    "verl.trainer.ppo.ray_trainer",
    "compute_advantage",
    upstream="trainer/ppo/ray_trainer.py:187",
    reason="a registered estimator gets rewards and mask only; the batch has old_log_probs and ref_log_prob. Other "
    "estimators' batches are looked at afterwards, for the distance from the reference",
    known={"314695381c755264": "0.9.1"},
)
def compute_advantage(original, data, adv_estimator, *args, **kwargs):
    from .checks import softmax_weights_wanted
    from .reference_metrics import already_logged, log_reference

    call = context.current_advantage_call()
    if adv_estimator not in names.ESTIMATORS:
        data = original(data, adv_estimator, *args, **kwargs)
        if call is None and softmax_weights_wanted(context.PROCESS.run_config):
            from .estimators_rest import apply_softmax_weights

            apply_softmax_weights(data)
        if call is None:
            log_reference(data)
        return data
    if call is not None and call.data is data:
        return original(data, adv_estimator, *args, **kwargs)
    with context.advantage_call(context.AdvantageCall(data=data, **context.trainer_facts())):
        data = original(data, adv_estimator, *args, **kwargs)
    if not already_logged():
        log_reference(data)
    return data


@seam(
    "verl.trainer.ppo.v1.utils",
    "compute_advantage_for_multi_trajectories",
    upstream="trainer/ppo/v1/utils.py:148",
    reason="only the literal `grpo` gets the rule for sessions with several outputs; it needs the rows' batch keys",
    known={"d973cc8aec79bc3d": "0.9.1"},
)
def compute_advantage_for_multi_trajectories(original, data, batch_keys, adv_estimator, *args, **kwargs):
    from .reference_metrics import already_logged, log_reference

    if adv_estimator not in names.ESTIMATORS:
        data = original(data, batch_keys, adv_estimator, *args, **kwargs)
        log_reference(data)  # again: verl's rule asked for the advantages of each session's last output only
        return data
    call = context.AdvantageCall(
        data=data, batch_keys=list(batch_keys), multi_trajectories=original, **context.trainer_facts()
    )
    with context.advantage_call(call):
        data = original(data, batch_keys, adv_estimator, *args, **kwargs)
    if not already_logged():
        log_reference(data)
    return data


@seam(
    "verl.trainer.ppo.v1.trainer_base",
    "PPOTrainer._compute_advantage",
    upstream="trainer/ppo/v1/trainer_base.py:1743",
    reason="the V1 trainer fetches seven columns; responses and entropy (steps by newline, metrics) are left behind",
    known={"2a4a2aa4a475b228": "0.9.1"},
)
def v1_compute_advantage(original, self, batch, *args, **kwargs):
    import transfer_queue as tq

    def fetch(columns: list[str]) -> dict:
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=columns)
        return dict(data.to_padded_tensor().items())

    def fetch_objects(column: str) -> list:
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[column])
        return [getattr(item, "data", item) for item in list(data[column])]

    tokenizer = getattr(self, "tokenizer", None)
    with context.trainer_call(fetch=fetch, fetch_objects=fetch_objects, tokenizer=tokenizer):
        return original(self, batch, *args, **kwargs)


@seam(
    "verl.trainer.ppo.metric_utils",
    "compute_data_metrics",
    upstream="trainer/ppo/metric_utils.py:429",
    reason="compute_advantage returns no metrics; every trainer calls this one in the driver once a step",
    known={"081d0a19a8270ad7": "0.9.1"},
)
def compute_data_metrics(original, *args, **kwargs):
    return {**original(*args, **kwargs), **context.take_metrics()}


# ---------------------------------------------------------------------------------------------- losses


@seam(
    "verl.workers.utils.losses",
    "ppo_loss",
    upstream="workers/utils/losses.py:57",
    reason="a registered loss gets no ref_log_prob and a local KL no old_log_probs; the micro-batch has both. "
    "FSDP, Megatron and VeOmni engines all call this one",
    known={"d7c0f8772b444f55": "0.9.1"},
)
def ppo_loss(original, config, model_output, data, dp_group=None):
    from .loss_seam import with_clip_fractions

    with context.loss_call(data):
        loss, metrics = original(config, model_output, data, dp_group)
    return loss, with_clip_fractions(metrics, config, model_output, data)


@seam(
    "verl.trainer.ppo.core_algos",
    "kl_penalty_forward",
    upstream="trainer/ppo/core_algos.py:2214",
    reason="a module global that kl_penalty looks up: kl_loss_type and kl_penalty learn the names of our divergences",
    known={"acef8c2d2e49688f": "0.9.1"},
)
def kl_penalty_forward(original, logprob, ref_logprob, kl_penalty):
    if names.local_kl_name(kl_penalty) is None:
        return original(logprob, ref_logprob, kl_penalty)
    from .loss_seam import local_kl_term

    return local_kl_term(logprob, ref_logprob, kl_penalty)


# ---------------------------------------------------------------------------------------------- configuration


@seam(
    "verl.trainer.ppo.utils",
    "need_reference_policy",
    upstream="trainer/ppo/utils.py:75",
    reason="verl loads the reference for its own two KL terms only",
    known={"b8a793a391c04714": "0.9.1"},
)
def need_reference_policy(original, config):
    from .checks import needs_reference

    context.PROCESS.run_config = config
    return bool(original(config)) or needs_reference(config)


@seam(
    "verl.utils.config",
    "validate_config",
    upstream="utils/config.py:88",
    reason="the one place in the driver where a wrong setting can stop a run before anything starts",
    known={"ab4096deecfec745": "0.9.1"},
)
def validate_config(original, config, *args, **kwargs):
    from .checks import check_config

    check_config(config)
    return original(config, *args, **kwargs)


# ---------------------------------------------------------------------------------------------- files of a run


@seam(
    "verl.utils.tracking",
    "FileLogger.__init__",
    upstream="utils/tracking.py:530",
    reason="the file logger truncates its file when a run resumes; the earlier part is kept beside it as NAME.K.jsonl",
    known={"6f4fe3e1c5afbc69": "0.9.1"},
)
def keep_metrics_history(original, self, *args, **kwargs):
    from .run_files import rotate_metrics

    if context.PROCESS.run_config is not None:
        rotate_metrics(*args, **kwargs)
    return original(self, *args, **kwargs)


@seam(
    "verl.utils.checkpoint.checkpoint_manager",
    "find_latest_ckpt_path",
    upstream="utils/checkpoint/checkpoint_manager.py, find_latest_ckpt_path",
    reason="the tracker file is written in place; a run killed in that moment leaves it empty and could not resume",
    known={"ef7c06afc10f04da": "0.9.1"},
)
def find_latest_ckpt_path(original, path, *args, **kwargs):
    from .run_files import repair_checkpoint_tracker

    repair_checkpoint_tracker(path)
    return original(path, *args, **kwargs)


# ---------------------------------------------------------------------------------------------- verl on a processor


@step(
    "verl.plugin.platform",
    upstream="plugin/platform/platform_manager.py:31 PlatformRegistry",
    reason="VERL_PLATFORM=cpu names a platform that verl does not ship",
    only_cpu=True,
)
def register_platform(module):
    from .cpu import platform  # noqa: F401 - registers itself


@seam(
    "verl.utils.distributed",
    "initialize_global_process_group_ray",
    upstream="utils/distributed.py:79",
    reason="builds the backend `cpu:gloo,cpu:gloo`, which torch refuses",
    known={"761a94d1a2e058d3": "0.9.1"},
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
