"""Every recipe, method and layout composes as main_ppo composes it, and what makes no sense is refused."""

from pathlib import Path

import main_ppo_seeds as study
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf, open_dict
from tables import cases, says
from verl.trainer.ppo.utils import need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl_config import compose_ppo

import frpo_verl
from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import health
from frpo_verl.verl_plugin.cpu import vllm_cpu
from frpo_verl.verl_plugin.paths import config_names

PROCESSOR = ["cpu", "cpu_vllm", "cpu_async"]
CPU = ["quickstart_cpu", "gsm8k_cpu", "eval_cpu"]
EVALUATIONS = ["eval_math", "eval_aime", "eval_cpu"]
MOE = ["frpo_qwen3_30b_a3b"]
LORA = ["f_grpo_qwen2.5_math_1.5b", "f_grpo_qwen2.5_math_7b", "f_hal_qwen2.5_math_7b"]
DENSE_LAYOUTS = ["fsdp", "fsdp_offload", "hf", "megatron", *PROCESSOR]
MOE_LAYOUTS = ["fsdp_moe", "megatron_moe", "megatron_moe_1node"]


OWN = "its own"  # method or layout: nothing is typed
SENSELESS_METHODS = {("rpg_qwen3_4b", "f_hal"), ("rpg_qwen2.5_math_7b", "f_hal")}  # a group filter would drop the pairs


def layouts_of(recipe):
    """The layouts that make sense for a recipe."""
    if recipe in CPU:
        return PROCESSOR
    if recipe in LORA:  # their keys are FSDP's
        return [layout for layout in DENSE_LAYOUTS if layout != "megatron"]
    return [*MOE_LAYOUTS, "cpu"] if recipe in MOE else DENSE_LAYOUTS


def kind_of(method):
    """What a method changes: the estimator, the policy loss, or the local KL."""
    text = (Path(frpo_verl.__file__).parent / f"recipes/method/{method}.yaml").read_text()
    return "policy loss" if "policy_loss:" in text else "local KL" if "use_kl_loss:" in text else "estimator"


def product():
    """(recipe, method, layout): each recipe as it stands; each with every method, with every layout, and with one method of
    each kind in every layout; each method in every layout. An evaluation trains nothing: no method beside it."""
    rows = [(recipe, OWN, OWN) for recipe in config_names("recipe")]
    methods = sorted(config_names("method"), key=lambda name: (kind_of(name), name))
    for number, recipe in enumerate(config_names("recipe")):
        layouts = layouts_of(recipe)
        if recipe in EVALUATIONS:
            rows += [(recipe, OWN, layout) for layout in layouts]
            continue
        rows += [(recipe, method, layouts[(i + number) % len(layouts)]) for i, method in enumerate(methods)]
        rows += [(recipe, "grpo_kl_loss", layout) for layout in layouts]
    rows += [(recipe, method, layout) for recipe in MOE for method in methods for layout in MOE_LAYOUTS]
    met = {row[1:] for row in rows if row[:2] not in SENSELESS_METHODS}
    rows += [("smoke", method, layout) for method in methods for layout in DENSE_LAYOUTS if (method, layout) not in met]
    return [row for row in dict.fromkeys(rows) if row[:2] not in SENSELESS_METHODS]


def test_the_product_has_every_layout():
    assert {layout for *_, layout in product()} == {OWN, *config_names("layout")}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder where every file and model that a recipe names exists."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vllm_cpu, "installed", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    health.require("driver")  # judged once in a process: before a layout sets VERL_PLATFORM

    def settle(config):
        monkeypatch.setenv("VERL_PLATFORM", "cpu" if config.layout in PROCESSOR else "")
        files = [config.data.train_files, config.data.val_files]
        for path in [p for f in files for p in ([f] if isinstance(f, str) else f)]:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
        if config.actor_rollout_ref.model.path.startswith("build/"):
            (tmp_path / config.actor_rollout_ref.model.path).mkdir(parents=True, exist_ok=True)
        return config

    return settle


def accept(config):
    """What the driver and the workers do with a configuration before anything is loaded."""
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=False)
    section = config.actor_rollout_ref
    omega_conf_to_dataclass(section.rollout)
    ref = section.ref.copy()
    with open_dict(ref):  # as workers/engine_workers.py builds it
        for new, old in (("micro_batch_size", "log_prob_micro_batch_size"), ("max_token_len_per_gpu", "log_prob_max_token_len_per_gpu"),
                         ("micro_batch_size_per_gpu", "log_prob_micro_batch_size_per_gpu")):  # fmt: skip
            ref[f"ppo_{new}"] = section.ref[old]
            ref.pop(old)
        ref.use_dynamic_bsz = section.ref.log_prob_use_dynamic_bsz
        ref.pop("log_prob_use_dynamic_bsz")
        ref.ppo_mini_batch_size = section.actor.ppo_mini_batch_size
    ref._set_parent(section)
    omega_conf_to_dataclass(OmegaConf.create(OmegaConf.to_container(ref, resolve=True)))
    return OmegaConf.to_container(config, resolve=True)


def refused(config):
    """The one line with which a configuration is refused."""
    with pytest.raises(ConfigError) as error:
        accept(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def named(recipe):
    return ["name=model"] if recipe in ("eval_math", "eval_aime") else []


@pytest.mark.parametrize(
    "recipe, method, layout",
    [pytest.param(*row, marks=[] if row[1:] == (OWN, OWN) else [pytest.mark.slow]) for row in product()],
)
def test_every_recipe_composes_with_every_method_and_layout(workplace, recipe, method, layout):
    typed = [f"{word}={value}" for word, value in (("method", method), ("layout", layout)) if value != OWN]
    typed += ["trainer.nnodes=1"] if layout in ["megatron_moe_1node", *PROCESSOR] else []
    resolved = accept(workplace(compose_ppo(f"+recipe={recipe}", *typed, *named(recipe))))
    assert (resolved["recipe"], resolved["composed_by"]) == (recipe, "frpo_verl")
    assert method in (OWN, resolved["method"]) and layout in (OWN, resolved["layout"])
    name = "model" if named(recipe) else "quickstart" if recipe == "eval_cpu" else resolved["method"]
    assert resolved["run_dir"] == f"runs/{recipe}/{name}"


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize(
    "name, method", [(name, method) for name, task in study.TASKS.items() for method in task.betas]
)
def test_the_study_of_the_placements_composes(workplace, tmp_path, name, method, gpu):
    """benchmarks/main_ppo_seeds.py, with the task of a folder: three terms of six digits."""
    row = {"extra_info": {"question": "123456+111111+000001="}}
    for data in ("data", "coverage"):
        (tmp_path / "large" / data).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "large" / data / "test.parquet")
    task = study.TASKS[name]
    words = [w.format(task.betas[method]) for w in (study.MEAN, *study.METHODS[method])]
    words += task.overrides(Path("large"), gpu)
    resolved = accept(workplace(compose_ppo("+recipe=quickstart_cpu", f"run_dir={tmp_path}", *words)))
    assert (resolved["layout"], resolved["trainer"]["device"]) == (("hf", "cuda") if gpu else ("cpu", "cpu"))
    assert (resolved["data"]["max_prompt_length"], resolved["data"]["max_response_length"]) == (27, 31)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [r for r in config_names("recipe") if r not in [*CPU, *MOE]])
@pytest.mark.parametrize("layout", ["megatron_moe", "megatron_moe_1node"])
def test_a_dense_model_has_no_experts_to_spread(workplace, recipe, layout):
    no_adapters = "actor_rollout_ref.model.lora_rank=0"  # their rank stands under another key there: refused as well
    line = refused(workplace(compose_ppo(f"+recipe={recipe}", f"layout={layout}", no_adapters, *named(recipe))))
    assert "experts=0: the model's experts cannot be spread" in line


@pytest.mark.parametrize("check", config_names("check"))
@pytest.mark.parametrize("recipe", ["frpo_qwen3_30b_a3b", "rpg_qwen3_4b", "f_hal_qwen2.5_math_7b"])
def test_a_check_goes_behind_every_recipe(workplace, recipe, check):
    resolved = accept(workplace(compose_ppo(f"+recipe={recipe}", f"+check={check}")))
    assert (
        resolved["run_dir"].startswith(f"runs/{check}/{recipe}/") and resolved["trainer"]["total_training_steps"] == 2
    )
    assert check != "twin" or resolved["layout"] == "cpu"


def test_the_check_of_memory_keeps_every_group_and_has_no_warm_up(workplace):
    """Answers that all end at the limit may all get one reward: a filter would ask for other groups for ever."""
    for layout in ("fsdp", "megatron"):  # Megatron wants a warm-up shorter than the two steps
        resolved = accept(workplace(compose_ppo("+recipe=rpg_qwen3_4b", f"layout={layout}", "+check=fit")))
        assert resolved["algorithm"]["filter_groups"]["enable"] is False
        assert resolved["actor_rollout_ref"]["actor"]["optim"]["lr_warmup_steps"] == -1


def test_a_check_in_front_of_the_recipe_would_lose_its_folder():
    """Why the docs say: behind. Hydra composes in the order typed."""
    assert compose_ppo("+check=fit", "+recipe=smoke").run_dir == "runs/smoke/frpo"


SENSELESS = cases("""
+recipe=frpo_qwen3_4b layout=megatron_moe -> experts=0: the model's experts cannot be spread
+recipe=frpo_qwen3_30b_a3b layout=megatron_moe trainer.n_gpus_per_node=5 -> =5 x nnodes=4 is not a multiple of the 8 ranks
+recipe=frpo_qwen3_4b model_engine=megatron -> does not belong to McoreActorConfig
+recipe=frpo_qwen3_4b trainer.n_gpus_per_node=6 -> = 320 answers cannot be divided over 6
+recipe=frpo_qwen3_4b data.max_response_length=20000 -> ppo_max_token_len_per_gpu=20480 does not hold
+recipe=rpg_qwen3_4b method=f_hal -> algorithm.filter_groups.enable=true
+recipe=rpg_qwen2.5_math_7b method=f_hal -> algorithm.filter_groups.enable=true
+recipe=frpo_qwen3_4b actor_rollout_ref.ref.fsdp_config.model_dtype=bf16 -> model_dtype=bf16
+recipe=rpg_qwen3_4b actor_rollout_ref.actor.clip_ratio_high=0.3 -> clip_ratio_high=0.3
+recipe=f_grpo_qwen2.5_math_1.5b layout=megatron -> which reads actor_rollout_ref.model.lora.rank=0
+recipe=rpg_qwen3_4b layout=megatron trainer.total_training_steps=10 -> lr_warmup_steps=10 is not below
+recipe=eval_math -> name is not set
+recipe=eval_math name=a +check=fit -> val_before_train=false beside val_only=true
+recipe=smoke layout=fsdp_moe -> rollout.tensor_model_parallel_size=4
+recipe=frpo_qwen3_4b +algorithm.f_hal.preference_weight=0.5 -> algorithm.f_hal is set and nobody reads it
""")


@pytest.mark.parametrize("typed, said", SENSELESS)
def test_what_makes_no_sense_is_refused_with_one_line(workplace, typed, said):
    assert says(refused(workplace(compose_ppo(*typed.split()))), said)


def test_engine_keys_follow_the_layout():
    config = compose_ppo("+recipe=frpo_qwen3_30b_a3b", "layout=megatron_moe_1node", "trainer.nnodes=1")
    section = config.actor_rollout_ref
    assert section.actor.strategy == section.ref.strategy == "megatron"
    assert section.ref.megatron.expert_model_parallel_size == 8  # the reference follows the actor
    assert section.actor.megatron.optimizer_offload is False and section.actor.megatron.param_offload is True
    assert section.actor.optim.override_optimizer_config.optimizer_cpu_offload is True
    assert section.actor.megatron.override_transformer_config.moe_router_dtype == "fp32"
    for layout in DENSE_LAYOUTS:
        config = compose_ppo("+recipe=smoke", f"layout={layout}")
        assert config.ray_kwargs.ray_init.get("address") == ("local" if layout in PROCESSOR else None)
        chosen = config.actor_rollout_ref
        assert chosen.actor.entropy_from_logits_with_chunking is True
        assert chosen.actor.strategy == ("megatron" if layout == "megatron" else "fsdp2")
        assert chosen.rollout.name == ("hf" if layout in ("cpu", "cpu_async", "hf") else "vllm")


TYPED = cases("""
# what docs/recipes.md tells to type
+recipe=frpo_qwen3_4b method=frpo_k3 +algorithm.frpo.baseline=position
+recipe=prl_qwen2.5_math_1.5b algorithm.frpo.kl_coef=0.005 algorithm.frpo.step_length=256
+recipe=prl_qwen2.5_math_1.5b method=prl_newline
+recipe=rpg_qwen3_4b method=grpo_kl_loss algorithm.filter_groups.enable=false
    reward.reward_kwargs.overlong_buffer_cfg.enable=false actor_rollout_ref.actor.clip_ratio_low=0.1
    actor_rollout_ref.actor.clip_ratio_high=0.1
+recipe=rpg_qwen3_4b data.max_response_length=2048
+recipe=frpo_qwen3_4b method=atr_grpo actor_rollout_ref.actor.policy_loss.clip.delta=0.0331
+recipe=f_grpo_qwen2.5_math_1.5b actor_rollout_ref.actor.policy_loss.f_grpo.divergence=kl run_dir=runs/f_grpo_kl
+recipe=frpo_qwen3_4b layout=fsdp_offload trainer.n_gpus_per_node=2
+recipe=qwen3_1.7b_gsm8k layout=fsdp_offload trainer.n_gpus_per_node=1
+recipe=prl_qwen2.5_math_1.5b layout=hf trainer.n_gpus_per_node=1
+recipe=f_grpo_qwen2.5_math_7b layout=megatron actor_rollout_ref.model.lora.rank=32
+recipe=frpo_qwen3_30b_a3b trainer.nnodes=2 actor_rollout_ref.actor.ppo_max_token_len_per_gpu=10240
+recipe=frpo_qwen3_30b_a3b trainer.nnodes=128 data.train_batch_size=4096 actor_rollout_ref.actor.ppo_mini_batch_size=1024
    actor_rollout_ref.rollout.n=16
+recipe=frpo_qwen3_4b trainer.logger=[console,file,wandb] trainer.project_name=PROJECT trainer.experiment_name=RUN
+recipe=frpo_qwen3_4b +ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES=frpo_verl
+recipe=prl_qwen2.5_math_7b +actor_rollout_ref.model.override_config.max_position_embeddings=32768
+recipe=eval_math name=a actor_rollout_ref.rollout.val_kwargs.n=8 data.max_response_length=3072
""")


@pytest.mark.parametrize("typed", [typed for typed, _ in TYPED])
def test_what_the_page_says_can_be_typed(workplace, typed):
    accept(workplace(compose_ppo(*typed.split())))


def test_a_recipe_of_ones_own_inherits_from_ours(workplace, tmp_path):
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    (tmp_path / "mine" / "recipe" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - frpo_qwen3_4b\n  - _self_\nrecipe: mine\ndata: {train_files: data/mine.parquet}\n"
    )
    config = workplace(compose_ppo("+recipe=mine", f"hydra.searchpath=[file://{tmp_path}/mine]", "method=rpg_urkl"))
    resolved = accept(config)
    assert resolved["run_dir"] == "runs/mine/rpg_urkl" and resolved["data"]["train_files"] == "data/mine.parquet"
    assert resolved["data"]["train_batch_size"] == 256
