"""Every place of verl that frpo_verl touches, as a table; `hooks.py` applies it.

A row with a name wraps that function: what it `does` is given the original and the call's arguments. A row without one is
given the module, once it is imported (registrations). A call that a wrap does not understand, and a run that is not ours,
goes to verl untouched. The hashes of sources in `known` are those of the named versions of verl.
"""

from __future__ import annotations

from .hooks import Seam

_BOTH = "0.9.0, 0.9.1"

TABLE = (
    # ------------------------------------------------------------------------------------------ registrations
    Seam(
        "verl.trainer.ppo.core_algos",
        does="registration:register_estimators",
        reason="the registry that algorithm.adv_estimator reads",
    ),
    Seam(
        "verl.trainer.ppo.core_algos",
        does="registration:register_policy_losses",
        reason="the registry that actor.policy_loss.loss_mode reads",
    ),
    Seam(
        "verl.experimental.agent_loop.agent_loop",
        does="registration:register_agent_loops",
        reason="agent_name=recorded_response: recorded preference pairs in place of generated answers (f-HAL)",
    ),
    Seam(
        "verl.workers.rollout.base",
        does="registration:register_rollout_adapter",
        reason="rollout.name=hf: the adapter in the workers",
    ),
    Seam(
        "verl.workers.rollout.replica",
        does="registration:register_rollout_replica",
        reason="rollout.name=hf: the replica in the driver",
    ),
    # ------------------------------------------------------------------------------------------ advantages
    Seam(
        "verl.trainer.ppo.ray_trainer",
        "compute_advantage",
        does="around_advantage:compute",
        reason="a registered estimator gets rewards and mask only; the batch has old_log_probs and ref_log_prob",
        known={"314695381c755264": _BOTH},
        moved_to="verl.trainer.ppo.trainer_utils",  # verl#7237; ray_trainer goes on handing it out
    ),
    Seam(
        "verl.trainer.ppo.v1.utils",
        "compute_advantage_for_multi_trajectories",
        does="around_advantage:compute_by_session",
        reason="only the literal `grpo` gets the rule for sessions with several outputs; it needs the rows' batch keys",
        known={"d973cc8aec79bc3d": _BOTH},
    ),
    Seam(
        "verl.trainer.ppo.v1.trainer_base",
        "PPOTrainer._compute_advantage",
        does="around_advantage:open_queue",
        reason="the V1 trainer fetches seven columns; responses and entropy (steps by newline, metrics) are left behind",
        known={"2a4a2aa4a475b228": _BOTH},
    ),
    Seam(
        "verl.trainer.ppo.metric_utils",
        "compute_data_metrics",
        does="metrics:around_data_metrics",
        reason="compute_advantage returns no metrics; every trainer calls this one in the driver once a step",
        known={"081d0a19a8270ad7": _BOTH},
    ),
    Seam(
        "verl.trainer.ppo.metric_utils",
        "bootstrap_metric",
        does="validation:bootstrap",
        reason="a thousand Python calls for each problem, variable and number of tries: minutes in which every GPU waits",
        known={"7fbfa798df6c8128": _BOTH},
    ),
    # ------------------------------------------------------------------------------------------ losses
    Seam(
        "verl.workers.utils.losses",
        "ppo_loss",
        does="losses:around_ppo_loss",
        reason="a registered loss gets no ref_log_prob and a local KL no old_log_probs; every engine calls this with both",
        known={"d7c0f8772b444f55": _BOTH},
    ),
    Seam(
        "verl.trainer.ppo.core_algos",
        "kl_penalty_forward",
        does="losses:around_kl_penalty",
        reason="a module global that kl_penalty looks up: kl_loss_type and kl_penalty learn the names of our divergences",
        known={"acef8c2d2e49688f": _BOTH},
    ),
    # ------------------------------------------------------------------------------------------ configuration
    Seam(
        "verl.trainer.ppo.utils",
        "need_reference_policy",
        does="start:around_need_reference",
        reason="verl loads the reference for its own two KL terms only; verl.experimental's trainers ask nothing else first",
        known={"b8a793a391c04714": _BOTH},
    ),
    Seam(
        "verl.utils.config",
        "validate_config",
        does="start:around_validate_config",
        reason="the one place in the driver where a wrong setting can stop a run before anything starts",
        known={"ab4096deecfec745": "0.9.1", "ee9da11e3ad4a0da": "0.9.0"},
    ),
    Seam(
        "verl.trainer.ppo.v1.trainer_base",
        "PPOTrainer.__init__",
        does="start:around_trainer",
        reason="the process that trains learns its run: the wraps of files below act for runs of ours only",
        known={"6f938d77859b66ae": "0.9.1", "380e179a0e9b4efa": "0.9.0"},
    ),
    Seam(
        "verl.trainer.ppo.v1.trainer_base",
        "PPOTrainer._init_dataloader",
        does="start:around_dataloader",
        reason="fewer rows than a batch, or than the steps take, are first noticed behind the first validation, or never",
        known={"86cf3749e087b883": _BOTH},
    ),
    Seam(
        "verl.trainer.ppo.ray_trainer",
        "RayPPOTrainer.__init__",
        does="start:around_trainer",
        reason="the same in the legacy trainer",
        known={"882573177494e91b": _BOTH},
        optional=True,
    ),
    Seam(
        "verl.workers.engine_workers",
        "ActorRolloutRefWorker.__init__",
        does="start:around_worker",
        reason="a training worker learns its run: a rollout engine that died is named in time for runs of ours",
        known={"7ec3b78b884c7125": "0.9.1", "889dbe633c253ef2": "0.9.0"},
    ),
    # ------------------------------------------------------------------------------------------ what hangs, breaks or is lost
    Seam(
        "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
        "BucketedWeightSender._init_socket",
        does="guards.weight_transfer:open_socket",
        reason="the sender waits for a dead engine for ever",
        known={"acd9dd63022ee7d0": _BOTH},
        package="vllm",
    ),
    Seam(
        "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
        "BucketedWeightSender.async_send_weights",
        does="guards.weight_transfer:send_weights",
        reason="the time-out becomes a sentence that names the cause",
        known={"48bb4e516c4be9aa": "0.9.1", "e5770437c6806b58": "0.9.0"},
        package="vllm",
    ),
    Seam(
        "verl.trainer.ppo.v1.replay_buffer",
        "ReplayBuffer._sync_metadata_from_transfer_queue",
        does="guards.waiting:look",
        reason="called at each look for finished answers, in a loop without an end: a reward that hangs, a dead agent loop",
        known={"489dc320fdce58c7": _BOTH},
    ),
    Seam(
        "verl.trainer.ppo.v1.replay_buffer",
        "ReplayBuffer.sample",
        does="guards.waiting:sample",
        reason="when every answer failed the error speaks of trajectories, and names a setting that would try for ever",
        known={"cdcecebeb7f0b44e": _BOTH},
    ),
    Seam(
        "verl.workers.engine_workers",
        "TrainingWorker.save_checkpoint",
        does="guards.weights:save",
        reason="a weight that is NaN would be saved, and every later start would resume from it",
        known={"9330450f4d2fdd51": _BOTH},
    ),
    Seam(
        "verl.utils.tracking",
        "FileLogger.__init__",
        does="guards.run_files:keep_metrics",
        reason="the file logger truncates its file when a run resumes; the earlier part is kept beside it as NAME.K.jsonl",
        known={"6f4fe3e1c5afbc69": _BOTH},
    ),
    Seam(
        "verl.utils.checkpoint.checkpoint_manager",
        "find_latest_ckpt_path",
        does="guards.run_files:mend_tracker",
        reason="the tracker file is written in place; a run killed in that moment leaves it empty and could not resume",
        known={"ef7c06afc10f04da": _BOTH},
    ),
    # ------------------------------------------------------------------------------------------ verl on a CPU
    Seam(
        "verl.plugin.platform",
        does="cpu.engine:register_platform",
        reason="VERL_PLATFORM=cpu names a platform that verl does not ship; vLLM's build for it is no `vllm` to verl",
        only_cpu=True,
    ),
    Seam(
        "verl.utils.distributed",
        "initialize_global_process_group_ray",
        does="cpu.engine:start_gloo",
        reason="builds the backend `cpu:gloo,cpu:gloo`, which torch refuses",
        known={"761a94d1a2e058d3": _BOTH},
        only_cpu=True,
    ),
    Seam(
        "verl.workers.engine.fsdp.transformer_impl",
        does="cpu.engine:register_engines",
        reason="the FSDP engines are registered for cuda and npu only",
        only_cpu=True,
    ),
    Seam(
        "verl.workers.engine.fsdp.transformer_impl",
        does="cpu.engine:unpin_offload",
        reason="pinned memory needs an accelerator; forward-only models ask for it always",
        only_cpu=True,
    ),
    Seam(
        "verl.checkpoint_engine.base",
        does="cpu.engine:register_checkpoint_engine",
        reason="checkpoint_engine.backend=zmq: verl's engines move weights between accelerators",
        only_cpu=True,
    ),
    Seam(
        "verl.utils.fsdp_utils",
        "fsdp2_sharded_save_to_cpu",
        does="cpu.engine:keep_a_copy",
        reason="`.cpu()` of a weight on a CPU is the weight itself: the policy kept for old log-probs would move with the trained one",
        known={"ecdb335bb1d3948f": _BOTH},
        only_cpu=True,
    ),
    Seam(
        "verl.utils.model",
        "load_valuehead_model",
        does="cpu.engine:load_value_model",
        reason="asks for flash attention, which needs an accelerator: a critic for outcome=gae and for verl's gae",
        known={"2371ca280654b53b": "0.9.1", "a8eb0107bc1ae283": "0.9.0"},
        only_cpu=True,
    ),
    Seam(
        "vllm.model_executor.layers.utils",
        does="cpu.vllm_cpu:keep_weights",
        reason="a packed layer drops the weights that the trainer's next ones are loaded into",
        only_cpu=True,
        package="vllm",
    ),
    Seam(
        "verl.trainer.ppo.v1.replay_buffer",
        "ReplayBuffer.__init__",
        does="cpu.engine:look_often",
        reason="it sleeps 2 s between looks for finished answers: nothing beside generation on a GPU, half of a step here",
        known={"0c37a48629991988": "0.9.1", "c3a07f992a84bc2f": "0.9.0"},
        only_cpu=True,
    ),
)
