"""Checks of the layout: each wrong setting is refused with one line that names the key, its value and the cure."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from omegaconf import OmegaConf
from tables import cases, says

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin.checks import cpu, layout, refuse, sizes
from frpo_verl.verl_plugin.run import Run

ACTOR, REF, ROLLOUT, MODEL = (f"actor_rollout_ref.{part}" for part in ("actor", "ref", "rollout", "model"))
MCORE = {"_target_": "verl.workers.config.McoreActorConfig", "strategy": "megatron"}
FSDP = {"_target_": "verl.workers.config.FSDPActorConfig", "strategy": "fsdp2", "fsdp_config": {"model_dtype": "fp32"}}
BUDGET = {"ppo_mini_batch_size": 64, "use_dynamic_bsz": True, "ppo_max_token_len_per_gpu": 20480}
OF_LOG_PROBS = {"log_prob_use_dynamic_bsz": True, "log_prob_max_token_len_per_gpu": 20480}


def make(**changes):
    """A run on eight GPUs that is right, with dotted keys changed ("__" for ".")."""
    rollout = {"n": 5, "top_p": 1, "top_k": -1, "tensor_model_parallel_size": 1, "val_kwargs": {"n": 1}, **OF_LOG_PROBS}
    storage = {"storage_backend": "SimpleStorage", "SimpleStorage": {"total_storage_size": 100000}}
    config = OmegaConf.create(
        {
            "data": {"train_batch_size": 256, "max_prompt_length": 2048, "max_response_length": 8192, "val_files": []},
            "actor_rollout_ref": {"actor": {**FSDP, **BUDGET}, "ref": {**FSDP, **OF_LOG_PROBS}, "rollout": rollout},
            "trainer": {"n_gpus_per_node": 8, "nnodes": 1, "val_only": False, "val_before_train": True},
            "transfer_queue": {"backend": storage},
        }
    )
    return change(config, changes)


def megatron(**changes):
    """The same with Megatron."""
    sizes = {f"{n}_parallel_size": 1 for n in ("tensor_model", "pipeline_model", "context", "expert_model")}
    config = make()
    config.actor_rollout_ref.actor = {**MCORE, "megatron": sizes, **BUDGET}
    config.actor_rollout_ref.ref = {**MCORE, "megatron": sizes}
    return change(config, changes)


def change(config, changes):
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value, force_add=True)
    return config


def run_of(config, has_reference):
    """A run that compares with a reference, or does not, whatever its methods are."""
    return type("Part", (Run,), {"has_reference": has_reference})(config)


def check_layout(config, has_reference=True):
    for topic in (layout, sizes):
        refuse(topic.refusals(run_of(config, has_reference)))


def check_cpu(config):
    refuse(cpu.refusals(Run(config)))


def refused(config, has_reference=True):
    with pytest.raises(ConfigError) as error:
        check_layout(config, has_reference=has_reference)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_right_is_accepted_and_left_as_it_is():
    for config in (make(), megatron()):
        before = OmegaConf.to_container(config)
        check_layout(config)
        assert OmegaConf.to_container(config) == before


def test_a_part_of_a_configuration_is_enough():
    check_layout(OmegaConf.create({"algorithm": {"adv_estimator": "frpo"}}))


MESH, FSDP_KEY = f"{ACTOR}.megatron", f"{ACTOR}.fsdp_config"
SMALL = f"{ACTOR}.ppo_max_token_len_per_gpu=2560 {ROLLOUT}.log_prob_max_token_len_per_gpu=2560"
SMALL += f" {REF}.log_prob_max_token_len_per_gpu=2560"
ULYSSES = "ulysses_sequence_parallel_size"
FOLLOWS = f"{REF}.{ULYSSES}=${{oc.select:{ACTOR}.{ULYSSES},1}}"  # verl's ref/dp_ref.yaml

# the engine; "alone" where no method reads a reference; what is changed
CASES = f"""
# ranks that share a sequence share the budget
fsdp2 {ACTOR}.{ULYSSES}=2 {ACTOR}.ppo_max_token_len_per_gpu=5120
fsdp2 {FSDP_KEY}.{ULYSSES}=2 {ACTOR}.ppo_max_token_len_per_gpu=5119 -> =5119 on 2 ranks ... set it to 5120 or more
megatron {MESH}.context_parallel_size=2 {ACTOR}.ppo_max_token_len_per_gpu=5120
# mini-batches are divided over the ranks
fsdp2 trainer.n_gpus_per_node=6
    -> ppo_mini_batch_size=64 x rollout.n=5 = 320 answers cannot be divided over 6 data-parallel ranks
fsdp2 trainer.n_gpus_per_node=6 {ACTOR}.{ULYSSES}=6
megatron trainer.n_gpus_per_node=6 {MESH}.tensor_model_parallel_size=3
megatron {MESH}.tensor_model_parallel_size=3 -> n_gpus_per_node=8 x nnodes=1 is not a multiple of the 3 ranks
# and over the rollout engines
fsdp2 {ROLLOUT}.tensor_model_parallel_size=3 -> {ROLLOUT}.tensor_model_parallel_size=3
fsdp2 {ROLLOUT}.tensor_model_parallel_size=4 {ROLLOUT}.data_parallel_size=4 -> engine's 16 GPUs
fsdp2 {ROLLOUT}.tensor_model_parallel_size=3 actor_rollout_ref.hybrid_engine=false
# experts; without the recipes' `experts` nobody says what the model is
megatron {MESH}.expert_model_parallel_size=8 experts=128
megatron {MESH}.expert_model_parallel_size=8
megatron {MESH}.expert_model_parallel_size=8 experts=0 -> {MESH}.expert_model_parallel_size=8 with experts=0
megatron {MESH}.expert_model_parallel_size=8 experts=60 -> {MESH}.expert_model_parallel_size=8 with experts=60
megatron {MESH}.expert_model_parallel_size=8 experts=128 trainer.n_gpus_per_node=4 -> not a multiple of the 8 ranks
megatron {MESH}.expert_model_parallel_size=8 experts=128 {MESH}.expert_tensor_parallel_size=2
    -> not a multiple of the 16 ranks
# answers are samples of the policy
fsdp2 alone {ROLLOUT}.top_p=0.95 -> ^{ROLLOUT}.top_p=0.95 ... val_kwargs.top_p is for validation
fsdp2 alone {ROLLOUT}.top_k=50 -> ^{ROLLOUT}.top_k=50 ... val_kwargs.top_k is for validation
fsdp2 {ROLLOUT}.top_k=0
# an evaluation needs a name, validates, and updates nothing: budgets, mini-batches and sampling are not looked at
fsdp2 trainer.val_only=true name=??? -> ^name is not set ... add name=SOME_NAME
fsdp2 alone trainer.val_only=true name=model
fsdp2 trainer.val_only=true name=model trainer.val_before_train=false -> val_only=true
fsdp2 alone trainer.val_only=true trainer.n_gpus_per_node=6 {ACTOR}.ppo_max_token_len_per_gpu=5 {ROLLOUT}.top_p=0.9
# the reference follows only the deprecated key of the actor, not the actor's fsdp_config; without it nobody reads it
fsdp2 {SMALL} {FSDP_KEY}.{ULYSSES}=4
    -> ^{REF}.log_prob_max_token_len_per_gpu=2560 does not hold
    ... or {ACTOR}.{ULYSSES}=4, which the reference follows too (it does not follow the actor's fsdp_config)$
fsdp2 {SMALL} {FOLLOWS} {ACTOR}.{ULYSSES}=4
fsdp2 {SMALL} {FSDP_KEY}.{ULYSSES}=4 {REF}.fsdp_config.{ULYSSES}=4
fsdp2 alone {SMALL} {FSDP_KEY}.{ULYSSES}=4
fsdp2 {SMALL} {FSDP_KEY}.{ULYSSES}=4 {MODEL}.lora_rank=8
# each engine has its own key for the rank of LoRA
megatron {MODEL}.lora_rank=32
    -> ^{MODEL}.lora_rank=32 with {ACTOR}.strategy=megatron, which reads {MODEL}.lora.rank=0 ... set lora.rank
fsdp2 {MODEL}.lora.rank=16
    -> ^{MODEL}.lora.rank=16 with {ACTOR}.strategy=fsdp2, which reads {MODEL}.lora_rank=0 ... set lora_rank
fsdp2 {MODEL}.lora_rank=32
megatron {MODEL}.lora.rank=32
megatron {MODEL}.lora.rank=32 {MODEL}.lora_rank=32
# an adapter is refused where it would not be loaded
fsdp2 {MODEL}.lora_adapter_path=a -> ^{MODEL}.lora_adapter_path=a: fsdp2 loads ... lora_rank (the adapter's r)
fsdp2 {MODEL}.lora.adapter_path=a {MODEL}.lora_rank=8 -> ^{MODEL}.lora.adapter
megatron {MODEL}.lora_adapter_path=a {MODEL}.lora.rank=8
    -> megatron loads the adapter of lora.adapter_path, and only beside lora.rank
megatron alone {MODEL}.lora.adapter_path=a {MODEL}.lora.rank=8
fsdp2 {ROLLOUT}.name=hf {MODEL}.lora_rank=8 -> lora.merge=false with {ROLLOUT}.name=hf
fsdp2 {ROLLOUT}.name=hf {MODEL}.lora_rank=8 {MODEL}.lora.merge=true
# Megatron wants a warm-up shorter than the run; FSDP does not mind
megatron {ACTOR}.optim.lr_warmup_steps=10 trainer.total_training_steps=10
    -> ^{ACTOR}.optim.lr_warmup_steps=10 is not below the 10 steps ... set it to -1 or less than 10
megatron {ACTOR}.optim.lr_warmup_steps=9 trainer.total_training_steps=10
megatron {ACTOR}.optim.lr_warmup_steps=-1 trainer.total_training_steps=2
megatron {ACTOR}.optim.lr_warmup_steps=10 trainer.total_training_steps=null
megatron {ACTOR}.optim.lr_warmup_steps=10 trainer.total_training_steps=10 {ACTOR}.optim.lr_decay_steps=20
megatron {ACTOR}.optim.lr_warmup_steps=10 trainer.total_training_steps=10 trainer.v1.trainer_mode=colocate_async
    trainer.v1.colocate_async.parameter_sync_step=2
fsdp2 {ACTOR}.optim.lr_warmup_steps=10 trainer.total_training_steps=2
"""

# for each of actor and ref, ROLE
OF_BOTH = """
megatron ROLE.strategy=fsdp2 -> ^ROLE.strategy=fsdp2 does not belong to McoreActorConfig ... layout=megatron
fsdp2 ROLE.strategy=megatron -> does not belong to FSDPActorConfig
megatron ROLE.fsdp_config.param_offload=true -> ^ROLE.fsdp_config is set and strategy=megatron does not know it
fsdp2 ROLE.megatron.param_offload=true -> ^ROLE.megatron is set
# a rounded reference is another model; without one nothing is compared
fsdp2 ROLE.fsdp_config.model_dtype=bf16 -> ^ROLE.fsdp_config.model_dtype=bf16 ... allowed is fp32
fsdp2 ROLE.fsdp_config.model_dtype=bfloat16 -> ^ROLE.fsdp_config.model_dtype=bfloat16 ... allowed is fp32
fsdp2 ROLE.fsdp_config.model_dtype=fp16 -> ^ROLE.fsdp_config.model_dtype=fp16 ... allowed is fp32
fsdp2 alone ROLE.fsdp_config.model_dtype=bf16
fsdp2 ROLE.fsdp_config.model_dtype=fp32
fsdp2 ROLE.fsdp_config.model_dtype=float32
fsdp2 ROLE.fsdp_config.model_dtype=torch.float32
"""

# for each KEY of tokens and the SWITCH without which nobody reads it
OF_BUDGETS = """
fsdp2 KEY=10240
fsdp2 KEY=10239 -> ^KEY=10239 does not hold ... set it to 10240 or more
fsdp2 KEY=10239 SWITCH=false
"""
ALL = [CASES, *(OF_BOTH.replace("ROLE", role) for role in (ACTOR, REF))]
ALL.append(
    OF_BUDGETS.replace("KEY", f"{ACTOR}.ppo_max_token_len_per_gpu").replace("SWITCH", f"{ACTOR}.use_dynamic_bsz")
)
for part in (ROLLOUT, REF):
    switch = f"{part}.log_prob_use_dynamic_bsz"
    ALL.append(OF_BUDGETS.replace("KEY", f"{part}.log_prob_max_token_len_per_gpu").replace("SWITCH", switch))


@pytest.mark.parametrize("typed, said", [row for table in ALL for row in cases(table)])
def test_a_layout_is_refused_in_one_line_or_accepted(typed, said):
    engine, *words = typed.split()
    has_reference = "alone" not in words
    pairs = (word.partition("=") for word in words if word != "alone")
    changes = {key: value if value[0] in "$?" else yaml.safe_load(value) for key, _, value in pairs}
    config = {"fsdp2": make, "megatron": megatron}[engine](**changes)
    if said:
        assert says(refused(config, has_reference), said)
    else:
        check_layout(config, has_reference=has_reference)


def test_the_queue_holds_all_samples(tmp_path):
    for name, count in (("a", 1500), ("b", 46)):
        pq.write_table(pa.table({"prompt": ["x"] * count}), tmp_path / f"{name}.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    check_layout(make(**{"data.val_files": files, f"{ROLLOUT}.val_kwargs.n": 64}))
    line = refused(make(**{"data.val_files": files, f"{ROLLOUT}.val_kwargs.n": 65}))
    assert "total_storage_size=100000 holds fewer samples" in line and "= 100490: set it to 200980" in line
    check_layout(make(**{"data.val_files": files, f"{ROLLOUT}.val_kwargs.n": 65, "data.val_max_samples": 10}))
    check_layout(make(**{"data.val_files": ["hdfs://there"], f"{ROLLOUT}.val_kwargs.n": 65}))
    assert "data.train_batch_size x rollout.n = 1310720" in refused(make(data__train_batch_size=262144))
    ahead = {"data.train_batch_size": 15000, "trainer.v1": {"trainer_mode": "colocate_async"}}
    check_layout(make(**ahead))  # 75000 answers
    ahead["trainer.v1"]["colocate_async"] = {"num_warmup_batches": 1}  # type: ignore[assignment]
    assert "x rollout.n x (1 + colocate_async.num_warmup_batches) = 150000" in refused(make(**ahead))


def test_a_checkpoint_has_the_ranks_of_its_run(tmp_path):
    (tmp_path / "global_step_4/actor").mkdir(parents=True)
    for rank in range(2):
        (tmp_path / f"global_step_4/actor/model_world_size_2_rank_{rank}.pt").touch()
    resume = {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": str(tmp_path / "global_step_4")}
    line = refused(make(**resume))
    assert "is of 2 ranks, and trainer.n_gpus_per_node=8 x nnodes=1 has 8" in line and "verl.model_merger" in line
    check_layout(make(**resume, **{"trainer.n_gpus_per_node": 2}))
    check_layout(make(**{**resume, "trainer.resume_mode": "disable"}))
    check_layout(make(**{**resume, "trainer.resume_from_path": str(tmp_path)}))  # verl says what is wrong


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


def test_an_adapter_that_the_reference_does_not_have_is_said():
    config = make(**{"actor_rollout_ref.model.lora_adapter_path": "a", "actor_rollout_ref.model.lora_rank": 8})
    assert list(layout.cautions(run_of(config, False))) == []
    (line,) = layout.cautions(run_of(config, True))
    assert "the reference is the model without this adapter" in line and "merge_and_unload" in line
