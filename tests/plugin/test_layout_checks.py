"""Checks of the layout: each wrong setting is refused with one line that names the key, its value and the cure."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from omegaconf import OmegaConf
from tables import says, tables

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


BUDGETS = {f"{ACTOR}.ppo_max_token_len_per_gpu": f"{ACTOR}.use_dynamic_bsz"}  # key of tokens -> the switch
BUDGETS |= {f"{part}.log_prob_max_token_len_per_gpu": f"{part}.log_prob_use_dynamic_bsz" for part in (ROLLOUT, REF)}
CASES = tables("layout")["all"]
CASES += [row for role in (ACTOR, REF) for row in tables("layout", ROLE=role)["of_a_role"]]
CASES += [row for key, switch in BUDGETS.items() for row in tables("layout", KEY=key, SWITCH=switch)["of_a_budget"]]


@pytest.mark.parametrize("typed, said", CASES)
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
