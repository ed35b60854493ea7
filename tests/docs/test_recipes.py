"""Every recipe, method and layout composes as main_ppo composes it, and holds what the papers state."""

import re
from pathlib import Path

import main_ppo_seeds as study
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf, open_dict
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


def test_the_product_leaves_no_pair_out():
    rows, trained = product(), [r for r in config_names("recipe") if r not in EVALUATIONS]
    assert {(r, m) for r in trained for m in config_names("method")} - {row[:2] for row in rows} == SENSELESS_METHODS
    found = {(recipe, layout, kind_of(method)) for recipe, method, layout in rows if method != OWN}
    assert found == {
        (r, y, k) for r in trained for y in layouts_of(r) for k in ("estimator", "policy loss", "local KL")
    }
    assert {(r, y) for r in EVALUATIONS for y in layouts_of(r)} <= {(r, y) for r, _, y in rows}
    assert {(m, y) for m in config_names("method") for y in config_names("layout")} <= {row[1:] for row in rows}


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
    ref = OmegaConf.create(OmegaConf.to_container(_attached(ref, section), resolve=True))
    omega_conf_to_dataclass(ref)
    return OmegaConf.to_container(config, resolve=True)


def refused(config):
    """The one line with which a configuration is refused."""
    with pytest.raises(ConfigError) as error:
        accept(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def _attached(ref, section):
    ref._set_parent(section)
    return ref


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
    assert resolved["layout"] == "cpu" if check == "twin" else True


def test_the_check_of_memory_keeps_every_group_and_has_no_warm_up(workplace):
    """Answers that all end at the limit may all get one reward: a filter would ask for other groups for ever."""
    for layout in ("fsdp", "megatron"):  # Megatron wants a warm-up shorter than the two steps
        resolved = accept(workplace(compose_ppo("+recipe=rpg_qwen3_4b", f"layout={layout}", "+check=fit")))
        assert resolved["algorithm"]["filter_groups"]["enable"] is False
        assert resolved["actor_rollout_ref"]["actor"]["optim"]["lr_warmup_steps"] == -1


def test_a_check_in_front_of_the_recipe_would_lose_its_folder():
    """Why the docs say: behind. Hydra composes in the order typed."""
    assert compose_ppo("+check=fit", "+recipe=smoke").run_dir == "runs/smoke/frpo"


SENSELESS = [
    (["+recipe=frpo_qwen3_4b", "layout=megatron_moe"], "experts=0: the model's experts cannot be spread"),
    (
        ["+recipe=frpo_qwen3_30b_a3b", "layout=megatron_moe", "trainer.n_gpus_per_node=5"],
        "=5 x nnodes=4 is not a multiple of the 8 ranks",
    ),
    (["+recipe=frpo_qwen3_4b", "model_engine=megatron"], "does not belong to McoreActorConfig"),
    (["+recipe=frpo_qwen3_4b", "trainer.n_gpus_per_node=6"], "= 320 answers cannot be divided over 6"),
    (["+recipe=frpo_qwen3_4b", "data.max_response_length=20000"], "ppo_max_token_len_per_gpu=20480 does not hold"),
    (["+recipe=rpg_qwen3_4b", "method=f_hal"], "algorithm.filter_groups.enable=true"),
    (["+recipe=rpg_qwen2.5_math_7b", "method=f_hal"], "algorithm.filter_groups.enable=true"),
    (["+recipe=frpo_qwen3_4b", "actor_rollout_ref.ref.fsdp_config.model_dtype=bf16"], "model_dtype=bf16"),
    (["+recipe=rpg_qwen3_4b", "actor_rollout_ref.actor.clip_ratio_high=0.3"], "clip_ratio_high=0.3"),
    (["+recipe=f_grpo_qwen2.5_math_1.5b", "layout=megatron"], "which reads actor_rollout_ref.model.lora.rank=0"),
    (["+recipe=rpg_qwen3_4b", "layout=megatron", "trainer.total_training_steps=10"], "lr_warmup_steps=10 is not below"),
    (["+recipe=eval_math"], "name is not set"),
    (["+recipe=eval_math", "name=a", "+check=fit"], "val_before_train=false beside val_only=true"),
    (["+recipe=smoke", "layout=fsdp_moe"], "rollout.tensor_model_parallel_size=4"),
    (["+recipe=frpo_qwen3_4b", "+algorithm.f_hal.preference_weight=0.5"], "algorithm.f_hal is set and nobody reads it"),
]


@pytest.mark.parametrize("typed, line", SENSELESS, ids=[" ".join(t) for t, _ in SENSELESS])
def test_what_makes_no_sense_is_refused_with_one_line(workplace, typed, line):
    assert line in refused(workplace(compose_ppo(*typed)))


ACTOR = "actor_rollout_ref.actor."
ROLLOUT = "actor_rollout_ref.rollout."
FRPO = {
    "algorithm.adv_estimator": "frpo",
    "algorithm.frpo.kl_coef": 0.01,
    "data.train_batch_size": 256,
    "data.max_prompt_length": 2048,
    "data.max_response_length": 8192,
    "trainer.total_training_steps": 250,
    ACTOR + "ppo_mini_batch_size": 64,
    ACTOR + "ppo_epochs": 1,
    ACTOR + "optim.lr": 1e-6,
    ACTOR + "clip_ratio_low": 0.2,
    ACTOR + "clip_ratio_high": 0.2,
    ACTOR + "clip_ratio_c": 3.0,
    ACTOR + "kl_loss_coef": 0.001,
    ACTOR + "use_kl_loss": False,
    ACTOR + "loss_agg_mode": "token-mean",
    ROLLOUT + "n": 5,
    ROLLOUT + "temperature": 1.0,
    ROLLOUT + "top_p": 1,
}
PRL = {
    "actor_rollout_ref.model.path": "Qwen/Qwen2.5-Math-7B",
    "algorithm.frpo.kl_coef": 0.01,  # eta 100
    "algorithm.frpo.step": "length",
    "algorithm.frpo.step_length": 64,
    "data.train_batch_size": 128,
    "data.max_prompt_length": 1024,
    "data.max_response_length": 3072,
    ACTOR + "ppo_mini_batch_size": 128,
    ACTOR + "optim.lr": 1e-6,
    ACTOR + "clip_ratio_high": 0.2,
    ACTOR + "loss_agg_mode": "token-mean",
    ROLLOUT + "n": 5,
    "trainer.test_freq": 5,
    "trainer.total_epochs": 1,
}
RPG = {
    "actor_rollout_ref.model.path": "Qwen/Qwen3-4B",
    "data.train_batch_size": 512,
    "data.max_response_length": 8192,
    "algorithm.norm_adv_by_std_in_grpo": False,
    "algorithm.filter_groups.enable": True,
    "algorithm.filter_groups.metric": "acc",
    "reward.reward_manager.name": "dapo",
    "reward.reward_kwargs.overlong_buffer_cfg.len": 512,
    "reward.reward_kwargs.max_resp_len": 8192,
    "trainer.total_training_steps": 400,
    ACTOR + "ppo_mini_batch_size": 32,
    ACTOR + "optim.lr": 1e-6,
    ACTOR + "optim.weight_decay": 0.1,
    ACTOR + "optim.clip_grad": 1.0,
    ACTOR + "optim.lr_warmup_steps": 10,
    ACTOR + "optim.lr_scheduler_type": "constant",
    ACTOR + "policy_loss.loss_mode": "rpg_rf_urkl",
    ACTOR + "policy_loss.rpg.kl_coef": 1e-4,
    ROLLOUT + "n": 16,
    ROLLOUT + "temperature": 1.0,
}
F_GRPO = {
    "actor_rollout_ref.model.path": "Qwen/Qwen2.5-Math-1.5B",
    "actor_rollout_ref.model.lora_rank": 32,
    "actor_rollout_ref.model.lora_alpha": 64,
    "actor_rollout_ref.model.lora.merge": True,
    ACTOR + "optim.lr": 5e-6,
    ACTOR + "policy_loss.loss_mode": "f_grpo",
    ACTOR + "policy_loss.f_grpo.beta": 0.1,
    ACTOR + "ppo_mini_batch_size": 64,
    "data.train_batch_size": 64,
    ROLLOUT + "n": 4,
    ROLLOUT + "load_format": "safetensors",
}
MATH_7B = {"actor_rollout_ref.model.path": "Qwen/Qwen2.5-Math-7B"}
PUBLISHED = {
    "frpo_qwen3_1.7b": {**FRPO, "actor_rollout_ref.model.path": "Qwen/Qwen3-1.7B-Base"},
    "frpo_qwen3_4b": {**FRPO, "actor_rollout_ref.model.path": "Qwen/Qwen3-4B-Base"},
    "frpo_qwen3_8b": {**FRPO, "actor_rollout_ref.model.path": "Qwen/Qwen3-8B-Base"},
    "frpo_qwen3_30b_a3b": {
        **FRPO, "actor_rollout_ref.model.path": "Qwen/Qwen3-30B-A3B-Base", "trainer.nnodes": 4,
        ACTOR + "megatron.expert_model_parallel_size": 8, ROLLOUT + "tensor_model_parallel_size": 4,
    },
    "prl_qwen2.5_math_7b": PRL,
    "prl_qwen2.5_math_1.5b": {**PRL, "actor_rollout_ref.model.path": "Qwen/Qwen2.5-Math-1.5B"},
    "rpg_qwen3_4b": RPG,
    "rpg_qwen2.5_math_7b": {
        **RPG, **MATH_7B, "data.max_prompt_length": 2048, "data.max_response_length": 2048,
        "reward.reward_kwargs.max_resp_len": 2048, ACTOR + "policy_loss.loss_mode": "rpg_urkl",
    },
    "f_grpo_qwen2.5_math_1.5b": F_GRPO,
    "f_grpo_qwen2.5_math_7b": {**F_GRPO, **MATH_7B, "data.train_files": "build/gsm8k/train.parquet"},
    "f_hal_qwen2.5_math_7b": {
        **F_GRPO, **MATH_7B, "algorithm.adv_estimator": "f_hal", "algorithm.f_hal.preference_weight": 0.5,
        "data.shuffle": False,
    },
    "eval_math": {ROLLOUT + "val_kwargs.n": 16, ROLLOUT + "val_kwargs.temperature": 1.0, "data.max_response_length": 8192,
                  "trainer.val_only": True},
    "eval_aime": {ROLLOUT + "val_kwargs.n": 32, ROLLOUT + "val_kwargs.temperature": 1.0, "trainer.val_only": True},
}  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_papers_values(recipe):
    config = compose_ppo(f"+recipe={recipe}", *named(recipe))
    found = {key: OmegaConf.select(config, key) for key in PUBLISHED[recipe]}
    assert found == PUBLISHED[recipe]


def test_the_table_has_every_recipe_of_a_paper():
    others = {"smoke", "qwen3_1.7b_gsm8k", "smollm2_135m", *CPU}
    assert set(config_names("recipe")) - others == set(PUBLISHED)
    assert set(config_names("layout")) == {*DENSE_LAYOUTS, *MOE_LAYOUTS}


@pytest.mark.parametrize(
    "method, wanted",
    [
        ("dapo", {ACTOR + "clip_ratio_low": 0.2, ACTOR + "clip_ratio_high": 0.28, ACTOR + "clip_ratio_c": 10.0}),
        ("frpo_forward_k3", {"algorithm.adv_estimator": "frpo_forward_kl_k3", "algorithm.frpo.kl_coef": 0.01}),
        ("grpo_kl_loss", {ACTOR + "use_kl_loss": True, ACTOR + "kl_loss_coef": 0.001, ACTOR + "kl_loss_type": "low_var_kl"}),
        ("frpo_reward", {"algorithm.frpo.placement": "reward", "algorithm.frpo.kl_coef": 0.01}),
    ],
)  # fmt: skip
def test_the_baselines_of_the_papers(method, wanted):
    config = compose_ppo("+recipe=rpg_qwen3_4b" if method == "dapo" else "+recipe=frpo_qwen3_1.7b", f"method={method}")
    assert {key: OmegaConf.select(config, key) for key in wanted} == wanted


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


FRPO_4B, PRL_1_5B, RPG_4B = "+recipe=frpo_qwen3_4b", "+recipe=prl_qwen2.5_math_1.5b", "+recipe=rpg_qwen3_4b"
TYPED = [  # what docs/recipes.md tells to type
    [FRPO_4B, "method=frpo_k3", "+algorithm.frpo.baseline=position"],
    [PRL_1_5B, "algorithm.frpo.kl_coef=0.005", "algorithm.frpo.step_length=256"],
    [PRL_1_5B, "method=prl_newline"],
    [RPG_4B, "method=grpo_kl_loss", "algorithm.filter_groups.enable=false",
     "reward.reward_kwargs.overlong_buffer_cfg.enable=false", "actor_rollout_ref.actor.clip_ratio_low=0.1",
     "actor_rollout_ref.actor.clip_ratio_high=0.1"],
    [RPG_4B, "data.max_response_length=2048"],
    [FRPO_4B, "method=atr_grpo", "actor_rollout_ref.actor.policy_loss.clip.delta=0.0331"],
    ["+recipe=f_grpo_qwen2.5_math_1.5b", "actor_rollout_ref.actor.policy_loss.f_grpo.divergence=kl", "run_dir=runs/f_grpo_kl"],
    [FRPO_4B, "layout=fsdp_offload", "trainer.n_gpus_per_node=2"],
    ["+recipe=qwen3_1.7b_gsm8k", "layout=fsdp_offload", "trainer.n_gpus_per_node=1"],
    ["+recipe=prl_qwen2.5_math_1.5b", "layout=hf", "trainer.n_gpus_per_node=1"],
    ["+recipe=f_grpo_qwen2.5_math_7b", "layout=megatron", "actor_rollout_ref.model.lora.rank=32"],
    ["+recipe=frpo_qwen3_30b_a3b", "trainer.nnodes=2", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=10240"],
    ["+recipe=frpo_qwen3_30b_a3b", "trainer.nnodes=128", "data.train_batch_size=4096",
     "actor_rollout_ref.actor.ppo_mini_batch_size=1024", "actor_rollout_ref.rollout.n=16"],
    [FRPO_4B, "trainer.logger=[console,file,wandb]", "trainer.project_name=PROJECT", "trainer.experiment_name=RUN"],
    [FRPO_4B, "+ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_MODULES=frpo_verl"],
    ["+recipe=prl_qwen2.5_math_7b", "+actor_rollout_ref.model.override_config.max_position_embeddings=32768"],
    ["+recipe=eval_math", "name=a", "actor_rollout_ref.rollout.val_kwargs.n=8", "data.max_response_length=3072"],
]  # fmt: skip


@pytest.mark.parametrize("typed", TYPED, ids=[" ".join(t) for t in TYPED])
def test_what_the_page_says_can_be_typed(workplace, typed):
    accept(workplace(compose_ppo(*typed)))


def test_a_recipe_of_ones_own_inherits_from_ours(workplace, tmp_path):
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    (tmp_path / "mine" / "recipe" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - frpo_qwen3_4b\n  - _self_\nrecipe: mine\ndata: {train_files: data/mine.parquet}\n"
    )
    config = workplace(compose_ppo("+recipe=mine", f"hydra.searchpath=[file://{tmp_path}/mine]", "method=rpg_urkl"))
    resolved = accept(config)
    assert resolved["run_dir"] == "runs/mine/rpg_urkl" and resolved["data"]["train_files"] == "data/mine.parquet"
    assert resolved["data"]["train_batch_size"] == 256


PARAMETERS = {  # billions, each model's card
    "Qwen3-0.6B-Base": 0.60, "Qwen3-1.7B-Base": 1.72, "Qwen3-4B": 4.02, "Qwen3-4B-Base": 4.02, "Qwen3-8B-Base": 8.19,
    "Qwen3-30B-A3B-Base": 30.5, "Qwen2.5-Math-1.5B": 1.54, "Qwen2.5-Math-7B": 7.62, "SmolLM2-135M-Instruct": 0.135,
}  # fmt: skip


def machines():
    """(recipe, layout, GPUs, GB of a card) of every smallest machine in docs/recipes.md's table."""
    page = (Path(__file__).resolve().parents[2] / "docs/recipes.md").read_text()
    table = page.split("## Which recipe, which machine")[1].split("What to type")[0]
    for line in table.splitlines():
        names, *_, fits = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| `") else [""] * 4
        if not re.match(r"\d", fits):
            continue
        first, *others = re.findall(r"`([^`]+)`", names)
        recipes = [first, *(re.sub(r"_[\d.]+b$", "", first) + other for other in others)]
        parts = [part.strip() for part in fits.split(";")]
        for i, part in enumerate(parts):
            layout = re.search(r"layout=(\w+)", part)
            gpus, card = re.match(r"\d+", part), re.search(r"(\d+) GB", part)
            yield recipes[min(i, len(recipes) - 1)], layout and layout[1], int(gpus[0]), int(card[1]) if card else 80


@pytest.mark.parametrize("recipe, layout, gpus, card", machines())
def test_the_rollout_leaves_room_for_the_states_on_the_smallest_machine(recipe, layout, gpus, card):
    """The page's formula: between phases a GPU keeps the model, its masters and Adam, or only the frozen model, or nothing."""
    section = compose_ppo(f"+recipe={recipe}", *[f"layout={layout}"] * bool(layout)).actor_rollout_ref
    engine = section.actor.get("fsdp_config") or section.actor.megatron
    kept = 0 if engine.param_offload else 4 if section.model.lora_rank else 12
    states = kept * PARAMETERS[section.model.path.split("/")[1]] / gpus
    assert section.rollout.gpu_memory_utilization <= (card - states - 5) / card


def test_every_row_of_the_table_is_a_machine():
    found = {recipe for recipe, *_ in machines()}
    assert found == set(config_names("recipe")) - {*CPU, *EVALUATIONS}
