"""Checks of the layout: each wrong setting is refused with one line that names the key, its value and the cure."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin.checks.cpu import check_cpu
from frpo_verl.verl_plugin.checks.layout import check_layout

ACTOR, REF, ROLLOUT = (f"actor_rollout_ref.{part}" for part in ("actor", "ref", "rollout"))


def make(**changes):
    """A run on eight GPUs that is right, with dotted keys changed ("__" for ".")."""
    fsdp = {
        "_target_": "verl.workers.config.FSDPActorConfig",
        "strategy": "fsdp2",
        "fsdp_config": {"model_dtype": "fp32"},
    }
    config = OmegaConf.create(
        {
            "data": {"train_batch_size": 256, "max_prompt_length": 2048, "max_response_length": 8192, "val_files": []},
            "actor_rollout_ref": {
                "actor": {**fsdp, "ppo_mini_batch_size": 64, "use_dynamic_bsz": True, "ppo_max_token_len_per_gpu": 20480},
                "ref": {**fsdp, "log_prob_use_dynamic_bsz": True, "log_prob_max_token_len_per_gpu": 20480},
                "rollout": {"n": 5, "top_p": 1, "top_k": -1, "tensor_model_parallel_size": 1, "val_kwargs": {"n": 1},
                            "log_prob_use_dynamic_bsz": True, "log_prob_max_token_len_per_gpu": 20480},
            },
            "trainer": {"n_gpus_per_node": 8, "nnodes": 1, "val_only": False, "val_before_train": True},
            "transfer_queue": {"backend": {"storage_backend": "SimpleStorage", "SimpleStorage": {"total_storage_size": 100000}}},
        }
    )  # fmt: skip
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    return config


MCORE = {"_target_": "verl.workers.config.McoreActorConfig", "strategy": "megatron"}


def megatron(**changes):
    """The same with Megatron."""
    sizes = {f"{n}_parallel_size": 1 for n in ("tensor_model", "pipeline_model", "context", "expert_model")}
    config = make()
    budget = {"ppo_mini_batch_size": 64, "use_dynamic_bsz": True, "ppo_max_token_len_per_gpu": 20480}
    config.actor_rollout_ref.actor = {**MCORE, "megatron": sizes, **budget}
    config.actor_rollout_ref.ref = {**MCORE, "megatron": sizes}
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    return config


def refused(config, has_reference=True):
    with pytest.raises(ConfigError) as error:
        check_layout(config, has_reference=has_reference)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_right_is_accepted_and_left_as_it_is():
    for config in (make(), megatron()):
        before = OmegaConf.to_container(config)
        check_layout(config, has_reference=True)
        assert OmegaConf.to_container(config) == before


def test_a_part_of_a_configuration_is_enough():
    check_layout(OmegaConf.create({"algorithm": {"adv_estimator": "frpo"}}), has_reference=True)


@pytest.mark.parametrize("role", ["actor", "ref"])
def test_engine_and_strategy_belong_together(role):
    key = f"actor_rollout_ref.{role}"
    line = refused(megatron(**{f"{key}.strategy": "fsdp2"}))
    assert line.startswith(f"{key}.strategy=fsdp2 does not belong to McoreActorConfig") and "layout=megatron" in line
    assert "does not belong to FSDPActorConfig" in refused(make(**{f"{key}.strategy": "megatron"}))
    line = refused(megatron(**{f"{key}.fsdp_config": {"param_offload": True}}))
    assert line.startswith(f"{key}.fsdp_config is set and strategy=megatron does not know it")
    assert refused(make(**{f"{key}.megatron": {"param_offload": True}})).startswith(f"{key}.megatron is set")


@pytest.mark.parametrize("role", ["actor", "ref"])
@pytest.mark.parametrize("dtype", ["bf16", "bfloat16", "fp16"])
def test_a_rounded_reference_is_another_model(role, dtype):
    config = make(**{f"actor_rollout_ref.{role}.fsdp_config.model_dtype": dtype})
    line = refused(config)
    assert line.startswith(f"actor_rollout_ref.{role}.fsdp_config.model_dtype={dtype}") and "allowed is fp32" in line
    check_layout(config, has_reference=False)  # nothing is compared


def test_float32_under_any_spelling():
    for dtype in ("fp32", "float32", "torch.float32"):
        check_layout(make(**{f"{ACTOR}.fsdp_config.model_dtype": dtype}), has_reference=True)


@pytest.mark.parametrize(
    "key, switch",
    [
        (f"{ACTOR}.ppo_max_token_len_per_gpu", f"{ACTOR}.use_dynamic_bsz"),
        (f"{ROLLOUT}.log_prob_max_token_len_per_gpu", f"{ROLLOUT}.log_prob_use_dynamic_bsz"),
        (f"{REF}.log_prob_max_token_len_per_gpu", f"{REF}.log_prob_use_dynamic_bsz"),
    ],
)
def test_a_token_budget_holds_one_answer(key, switch):
    check_layout(make(**{key: 10240}), has_reference=True)
    line = refused(make(**{key: 10239}))
    assert line.startswith(f"{key}=10239 does not hold") and "set it to 10240 or more" in line
    check_layout(make(**{key: 10239, switch: False}), has_reference=True)  # then nobody reads it


def test_ranks_that_share_a_sequence_share_the_budget():
    check_layout(
        make(**{f"{ACTOR}.ulysses_sequence_parallel_size": 2, f"{ACTOR}.ppo_max_token_len_per_gpu": 5120}),
        has_reference=True,
    )
    line = refused(
        make(**{f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size": 2, f"{ACTOR}.ppo_max_token_len_per_gpu": 5119})
    )
    assert "=5119 on 2 ranks" in line and "set it to 5120 or more" in line
    check_layout(
        megatron(**{f"{ACTOR}.megatron.context_parallel_size": 2, f"{ACTOR}.ppo_max_token_len_per_gpu": 5120}),
        has_reference=True,
    )


def test_mini_batches_are_divided_over_the_ranks():
    line = refused(make(trainer__n_gpus_per_node=6))
    assert "ppo_mini_batch_size=64 x rollout.n=5 = 320 answers cannot be divided over 6 data-parallel ranks" in line
    check_layout(
        make(**{"trainer.n_gpus_per_node": 6, f"{ACTOR}.ulysses_sequence_parallel_size": 6}), has_reference=True
    )
    check_layout(
        megatron(**{"trainer.n_gpus_per_node": 6, f"{ACTOR}.megatron.tensor_model_parallel_size": 3}),
        has_reference=True,
    )
    line = refused(megatron(**{f"{ACTOR}.megatron.tensor_model_parallel_size": 3}))
    assert "n_gpus_per_node=8 x nnodes=1 is not a multiple of the 3 ranks" in line


def test_ranks_are_divided_over_the_rollout_engines():
    assert f"{ROLLOUT}.tensor_model_parallel_size=3" in refused(make(**{f"{ROLLOUT}.tensor_model_parallel_size": 3}))
    assert "engine's 16 GPUs" in refused(
        make(**{f"{ROLLOUT}.tensor_model_parallel_size": 4, f"{ROLLOUT}.data_parallel_size": 4})
    )
    check_layout(
        make(**{f"{ROLLOUT}.tensor_model_parallel_size": 3, "actor_rollout_ref.hybrid_engine": False}),
        has_reference=True,
    )


def test_experts_are_divided_over_their_ranks():
    key = f"{ACTOR}.megatron.expert_model_parallel_size"
    check_layout(megatron(**{key: 8, "experts": 128}), has_reference=True)
    check_layout(megatron(**{key: 8}), has_reference=True)  # not a recipe: nobody says what the model is
    assert f"{key}=8 with experts=0" in refused(megatron(**{key: 8, "experts": 0}))
    assert f"{key}=8 with experts=60" in refused(megatron(**{key: 8, "experts": 60}))
    assert "not a multiple of the 8 ranks" in refused(
        megatron(**{key: 8, "experts": 128, "trainer.n_gpus_per_node": 4})
    )
    line = refused(megatron(**{key: 8, f"{ACTOR}.megatron.expert_tensor_parallel_size": 2, "experts": 128}))
    assert "not a multiple of the 16 ranks" in line


@pytest.mark.parametrize("key, value", [("top_p", 0.95), ("top_k", 50)])
def test_answers_are_samples_of_the_policy(key, value):
    line = refused(make(**{f"{ROLLOUT}.{key}": value}), has_reference=False)
    assert line.startswith(f"{ROLLOUT}.{key}={value}") and f"val_kwargs.{key} is for validation" in line
    check_layout(make(**{f"{ROLLOUT}.top_k": 0}), has_reference=True)


def test_the_queue_holds_all_samples(tmp_path):
    for name, rows in (("a", 1500), ("b", 46)):
        pq.write_table(pa.table({"prompt": ["x"] * rows}), tmp_path / f"{name}.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    check_layout(make(**{"data.val_files": files, f"{ROLLOUT}.val_kwargs.n": 64}), has_reference=True)
    line = refused(make(**{"data.val_files": files, f"{ROLLOUT}.val_kwargs.n": 65}))
    assert "total_storage_size=100000 holds fewer samples" in line and "= 100490: set it to 200980" in line
    check_layout(
        make(**{"data.val_files": files, f"{ROLLOUT}.val_kwargs.n": 65, "data.val_max_samples": 10}), has_reference=True
    )
    check_layout(make(**{"data.val_files": ["hdfs://there"], f"{ROLLOUT}.val_kwargs.n": 65}), has_reference=True)
    assert "data.train_batch_size x rollout.n = 1310720" in refused(make(data__train_batch_size=262144))
    ahead = {"data.train_batch_size": 15000, "trainer.v1": {"trainer_mode": "colocate_async"}}
    check_layout(make(**ahead), has_reference=True)  # 75000 answers
    ahead["trainer.v1"]["colocate_async"] = {"num_warmup_batches": 1}  # type: ignore[assignment]
    assert "x rollout.n x (1 + colocate_async.num_warmup_batches) = 150000" in refused(make(**ahead))


def test_an_evaluation_needs_a_name_and_validates():
    config = make(trainer__val_only=True)
    config.name = "???"
    assert refused(config).startswith("name is not set") and "add name=SOME_NAME" in refused(config)
    config.name = "model"
    check_layout(config, has_reference=False)
    config.trainer.val_before_train = False
    assert "val_only=true" in refused(config)


def test_an_evaluation_updates_nothing():
    """Budgets, mini-batches and the rollout's own sampling are not looked at."""
    wrong = {"trainer.n_gpus_per_node": 6, f"{ACTOR}.ppo_max_token_len_per_gpu": 5, f"{ROLLOUT}.top_p": 0.9}
    check_layout(make(**wrong, **{"trainer.val_only": True}), has_reference=False)
    refused(make(**wrong))


def test_the_reference_follows_only_the_deprecated_key():
    """actor.fsdp_config's ranks share the actor's sequences; the reference has its own fsdp_config."""
    new, old = (f"{ACTOR}.{key}ulysses_sequence_parallel_size" for key in ("fsdp_config.", ""))
    small = {f"{ACTOR}.ppo_max_token_len_per_gpu": 2560, f"{ROLLOUT}.log_prob_max_token_len_per_gpu": 2560,
             f"{REF}.log_prob_max_token_len_per_gpu": 2560}  # fmt: skip
    line = refused(make(**small, **{new: 4}))
    assert line.startswith(f"{REF}.log_prob_max_token_len_per_gpu=2560 does not hold")
    assert line.endswith(f"or {old}=4, which the reference follows too (it does not follow the actor's fsdp_config)")
    follows = {f"{REF}.ulysses_sequence_parallel_size": "${oc.select:" + old + ",1}"}  # verl's ref/dp_ref.yaml
    check_layout(make(**small, **follows, **{old: 4}), has_reference=True)
    check_layout(make(**small, **{new: 4, f"{REF}.fsdp_config.ulysses_sequence_parallel_size": 4}), has_reference=True)
    check_layout(make(**small, **{new: 4}), has_reference=False)  # nobody reads it
    check_layout(make(**small, **{new: 4, "actor_rollout_ref.model.lora_rank": 8}), has_reference=True)


def test_the_engine_reads_the_key_of_the_rank_of_lora():
    flat, section = "actor_rollout_ref.model.lora_rank", "actor_rollout_ref.model.lora.rank"
    line = refused(megatron(**{flat: 32}))
    assert (
        line.startswith(f"{flat}=32 with {ACTOR}.strategy=megatron, which reads {section}=0")
        and "set lora.rank" in line
    )
    line = refused(make(**{section: 16}))
    assert (
        line.startswith(f"{section}=16 with {ACTOR}.strategy=fsdp2, which reads {flat}=0") and "set lora_rank" in line
    )
    for right in (make(**{flat: 32}), megatron(**{section: 32}), megatron(**{flat: 32, section: 32})):
        check_layout(right, has_reference=True)


def test_megatron_wants_a_warm_up_shorter_than_the_run():
    warmup, steps = f"{ACTOR}.optim.lr_warmup_steps", "trainer.total_training_steps"
    line = refused(megatron(**{warmup: 10, steps: 10}))
    assert line.startswith(f"{warmup}=10 is not below the 10 steps") and "set it to -1 or less than 10" in line
    two = {"trainer.v1": {"trainer_mode": "colocate_async", "colocate_async": {"parameter_sync_step": 2}}}
    for changes in ({warmup: 9, steps: 10}, {warmup: -1, steps: 2}, {warmup: 10, steps: None}, {warmup: 10, steps: 10, **two},
                    {warmup: 10, steps: 10, f"{ACTOR}.optim.lr_decay_steps": 20}):  # fmt: skip
        check_layout(megatron(**changes), has_reference=True)
    check_layout(make(**{warmup: 10, steps: 2}), has_reference=True)  # FSDP does not mind


def test_a_checkpoint_has_the_ranks_of_its_run(tmp_path):
    (tmp_path / "global_step_4/actor").mkdir(parents=True)
    for rank in range(2):
        (tmp_path / f"global_step_4/actor/model_world_size_2_rank_{rank}.pt").touch()
    resume = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(tmp_path / "global_step_4")}
    line = refused(make(**resume))
    assert "is of 2 ranks, and trainer.n_gpus_per_node=8 x nnodes=1 has 8" in line and "verl.model_merger" in line
    check_layout(make(**resume, **{"trainer.n_gpus_per_node": 2}), has_reference=True)
    check_layout(make(**{**resume, "trainer.resume_mode": "disable"}), has_reference=True)
    check_layout(
        make(**{**resume, "trainer.resume_from_path": str(tmp_path)}), has_reference=True
    )  # verl says what is wrong


@pytest.mark.parametrize("visible, gpus", [("", 1), ("NoDevFiles", 1), ("0", 2)])
def test_ray_gets_its_logical_gpus_on_a_processor(monkeypatch, visible, gpus):
    config = make(**{"ray_kwargs.ray_init.num_gpus": gpus, f"{ROLLOUT}.name": "hf"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match="unset CUDA_VISIBLE_DEVICES") as error:
        check_cpu(config)
    assert str(error.value).startswith(f"CUDA_VISIBLE_DEVICES={visible!r}") and "\n" not in str(error.value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    check_cpu(config)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    check_cpu(config)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("ray.is_initialized", lambda: True)  # a process of Ray's: it has set the variable itself
    check_cpu(config)


def test_an_adapter_is_refused_where_it_would_not_be_loaded():
    model = "actor_rollout_ref.model"
    line = refused(make(**{f"{model}.lora_adapter_path": "a"}))
    assert line.startswith(f"{model}.lora_adapter_path=a: fsdp2 loads") and "lora_rank (the adapter's r)" in line
    assert refused(make(**{f"{model}.lora.adapter_path": "a", f"{model}.lora_rank": 8})).startswith(
        f"{model}.lora.adapter"
    )
    line = refused(megatron(**{f"{model}.lora_adapter_path": "a", f"{model}.lora.rank": 8}))
    assert "megatron loads the adapter of lora.adapter_path, and only beside lora.rank" in line
    check_layout(megatron(**{f"{model}.lora.adapter_path": "a", f"{model}.lora.rank": 8}), has_reference=False)


def test_an_adapter_that_the_reference_does_not_have_is_said(capsys):
    config = make(**{"actor_rollout_ref.model.lora_adapter_path": "a", "actor_rollout_ref.model.lora_rank": 8})
    check_layout(config, has_reference=False)
    assert capsys.readouterr().err == ""
    check_layout(config, has_reference=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the reference is the model without this adapter" in line and "merge_and_unload" in line


def test_the_hf_rollout_takes_merged_adapters_only():
    keys = {"actor_rollout_ref.rollout.name": "hf", "actor_rollout_ref.model.lora_rank": 8}
    assert "lora.merge=false with actor_rollout_ref.rollout.name=hf" in refused(make(**keys))
    check_layout(make(**keys, **{"actor_rollout_ref.model.lora.merge": True}), has_reference=True)
