"""Wrong configurations stop in verl's validate_config, in the driver, with one line."""

import copy
from types import SimpleNamespace

import pytest
from transformers import Qwen3Config
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl_config import compose_ppo

from frpo_verl import methods
from frpo_verl.methods.settings import ConfigError
from frpo_verl.quickstart.tokenizer import write_tokenizer
from frpo_verl.verl_plugin import run, start
from frpo_verl.verl_plugin.checks import needs
from frpo_verl.verl_plugin.paths import method_names


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "atexit", SimpleNamespace(register=lambda *_: None))  # no report of this process
    data, model = tmp_path / "rows.parquet", tmp_path / "model"
    data.touch()
    model.mkdir()
    write_tokenizer(model)  # a model that verl can configure a critic from
    (model / "config.json").write_text(Qwen3Config(architectures=["Qwen3ForCausalLM"]).to_json_string())
    return [
        "+recipe=quickstart_cpu",
        f"data.train_files={data}",
        f"data.val_files={data}",
        f"actor_rollout_ref.model.path={model}",
    ]


def stopped(files, *overrides: str) -> str:
    config = compose_ppo(*files, *overrides)
    with pytest.raises(ConfigError) as error:
        validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    assert "\n" not in str(error.value)
    return str(error.value)


POLICY_LOSS = "actor_rollout_ref.actor.policy_loss"
GRPO = ["algorithm.adv_estimator=grpo", "~algorithm.frpo"]
F_HAL = [*GRPO, "algorithm.adv_estimator=f_hal", f"{POLICY_LOSS}.loss_mode=f_grpo"]
KL_LOSS = [*GRPO, "actor_rollout_ref.actor.use_kl_loss=true"]


@pytest.mark.parametrize(
    "overrides, line",
    [
        (["+algorithm.frpo.kl_coeff=0.1"], "algorithm.frpo.kl_coeff: unknown key (did you mean 'kl_coef'?)"),
        (["algorithm.frpo.kl_coef=-1"], "algorithm.frpo.kl_coef=-1: must be a finite number >= 0"),
        (["algorithm.frpo.kl_coef=nan"], "algorithm.frpo.kl_coef=nan: must be"),
        (["+algorithm.frpo.divergence=foo"], "algorithm.frpo.divergence='foo': not one of"),
        (["algorithm.adv_estimator=frop"], "algorithm.adv_estimator='frop': not registered (did you mean 'frpo'?)"),
        (["algorithm.use_kl_in_reward=true"], "counts the KL twice"),
        (
            ["actor_rollout_ref.actor.use_kl_loss=true", "actor_rollout_ref.actor.kl_loss_coef=0.1"],
            "use_kl_loss=true with kl_loss_coef=0.1 beside algorithm.frpo.kl_coef=0.01 counts the KL twice",
        ),
        (["actor_rollout_ref.rollout.n=1"], "actor_rollout_ref.rollout.n=1: adv_estimator=frpo compares"),
        (
            ["algorithm.rollout_correction.bypass_mode=true"],
            "algorithm.rollout_correction.bypass_mode=true takes the log-probs of the inference engine",
        ),
        (["data.train_files=/nowhere/train.parquet"], "data.train_files=/nowhere/train.parquet: no such file"),
        (["data.val_files=[/nowhere/a.parquet]"], "data.val_files=/nowhere/a.parquet: no such file"),
        (
            ["actor_rollout_ref.model.path=/nowhere/model"],
            "actor_rollout_ref.model.path=/nowhere/model: no such folder",
        ),
        (["algorithm.adv_estimator=grpo"], "algorithm.frpo is set and nobody reads it"),
        ([f"{POLICY_LOSS}.loss_mode=atr_grop"], "not registered (did you mean 'atr_grpo'?)"),
        ([f"{POLICY_LOSS}.loss_mode=frpo"], "counts the KL twice"),
        ([f"+{POLICY_LOSS}.rpg.kl_coef=0.1"], f"{POLICY_LOSS}.rpg is set and nobody reads it"),
        ([f"{POLICY_LOSS}.loss_mode=rpg_rkl", f"+{POLICY_LOSS}.rpg.level=tokens"], "rpg.level='tokens': not one of"),
        (
            [f"{POLICY_LOSS}.loss_mode=atr_grpo", f"+{POLICY_LOSS}.clip.measure=tv"],
            "clip.measure='tv': the chosen method fixes it to 'kl3'",
        ),
        ([f"{POLICY_LOSS}.loss_mode=f_grpo", f"+{POLICY_LOSS}.f_grpo.bata=1"], "unknown key (did you mean 'beta'?)"),
        (
            [
                "algorithm.frpo.kl_coef=0",
                "actor_rollout_ref.actor.use_kl_loss=true",
                "actor_rollout_ref.actor.kl_loss_type=forwardkl",
            ],
            "kl_loss_type='forwardkl': not a KL term (did you mean 'forward_kl'?)",
        ),
        (
            ["algorithm.adv_estimator=frpo_alpha", "+algorithm.frpo.alpha=7"],
            "algorithm.frpo.alpha=7: must be a number in",
        ),
        (
            ["+algorithm.frpo.divergence=alpha", "+algorithm.frpo.alpha=7"],
            "algorithm.frpo.alpha=7: must be a number in",
        ),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=alpha:7"], "kl_loss_type=alpha:7: write the order"),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=alpha:1"], "kl_loss_type=alpha:1: write the order"),
        (
            [f"{POLICY_LOSS}.loss_mode=f_grpo"],
            "adv_estimator=frpo gives each token its own advantage and loss_mode=f_grpo needs one for each response",
        ),
        (
            [
                "algorithm.adv_estimator=frpo_js",
                f"{POLICY_LOSS}.loss_mode=rpg_rkl",
                f"+{POLICY_LOSS}.rpg.level=sequence",
            ],
            "adv_estimator=frpo_js gives each token its own advantage and loss_mode=rpg_rkl with",
        ),
        (
            [*GRPO, "algorithm.adv_estimator=gae", f"{POLICY_LOSS}.loss_mode=f_grpo"],
            "adv_estimator=gae gives each token",
        ),
        (["+algorithm.frpo.step_length=64"], "algorithm.frpo.step_length=64: only read by step=length"),
        (
            ["+algorithm.frpo.on_nonfinite=zero_row", "algorithm.use_kl_in_reward=true"]
            + ["+algorithm.frpo.allow_multiple_kl=true"],
            "algorithm.frpo.on_nonfinite=zero_row beside algorithm.use_kl_in_reward=true: NaN of the reference would be in",
        ),
        (
            ["algorithm.adv_estimator=frpo_js", "+algorithm.frpo.log_ratio_clip=80"],
            "algorithm.frpo.log_ratio_clip=80: js leaves float32's range beyond a log-ratio of",
        ),
        (
            ["algorithm.adv_estimator=frpo_neyman_chi2", "+algorithm.frpo.log_ratio_clip=80"],
            "algorithm.frpo.log_ratio_clip=80: neyman_chi2 leaves float32's range beyond a log-ratio of",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=f_grpo", "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean"],
            "loss_agg_mode=seq-mean-token-mean: loss_mode=f_grpo does not read it",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_rkl", f"+{POLICY_LOSS}.rpg.level=sequence"]
            + ["actor_rollout_ref.actor.loss_agg_mode=token-sum"],
            "loss_agg_mode=token-sum: loss_mode=rpg_rkl does not read it",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=atr_grpo", "actor_rollout_ref.actor.clip_ratio_high=0.28"],
            "clip_ratio_high=0.28: loss_mode=atr_grpo does not read it (its own settings are",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_urkl", "actor_rollout_ref.actor.clip_ratio_c=10"],
            "clip_ratio_c=10: loss_mode=rpg_urkl does not read it",
        ),
        (
            [*F_HAL, "algorithm.rollout_correction.rollout_rs=seq_mean_k3"],
            "rollout_correction.rollout_rs=seq_mean_k3 rejects by log-probs of the rollout engine, which recorded answers",
        ),
        (["+algorithm.frpoo.kl_coef=0.1"], "algorithm.frpoo: nobody reads it (did you mean 'algorithm.frpo'?)"),
        (
            ["+algorithm.rpg.kl_coef=0.1"],
            f"algorithm.rpg: nobody reads it (did you mean '{POLICY_LOSS}.rpg'?)",
        ),
        ([f"+{POLICY_LOSS}.clp.delta=1"], f"{POLICY_LOSS}.clp: nobody reads it (did you mean '{POLICY_LOSS}.clip'?)"),
        (["+max_missing_answer=0.1"], "max_missing_answer: nobody reads it (did you mean 'max_missing_answers'?)"),
        (["+rundir=x"], "rundir: nobody reads it (did you mean 'run_dir'?)"),
        (["answers_dir=x", "trainer.use_v1=false"], "answers_dir=x: nothing reads it without verl's V1 trainer"),
        (
            [*GRPO, "answers_dir=x"],
            "answers_dir=x: nothing reads it without a reference model, which a method with a KL",
        ),
        (["answers_dir=x", "trainer.val_only=true"], "answers_dir=x: nothing reads it without a training"),
        (
            ["+answers_number=8"],
            "answers_number=8: nothing reads it without answers_dir; set that, or answers_number=null",
        ),
        (
            ["+max_missing_answers=0.1", "trainer.v1.trainer_mode=colocate_async"],
            "max_missing_answers=0.1: nothing reads it without trainer.v1.trainer_mode=sync",
        ),
        (
            ["+max_missing_answers=0.1", "trainer.use_v1=false"],
            "max_missing_answers=0.1: nothing reads it without verl's V1",
        ),
        (
            ["+max_missing_answers=0.1", "algorithm.filter_groups.enable=true"],
            "without algorithm.filter_groups.enable=false",
        ),
        (["+max_silence_s=60", "trainer.use_v1=false"], "max_silence_s=60: nothing reads it without verl's V1 trainer"),
        (["report=true", "run_dir=null"], "report=True: nothing reads it without run_dir, where it is written"),
        (["report=often"], "report='often': must be true or false"),
        (
            ["algorithm.rollout_correction.rollout_is=token", "actor_rollout_ref.rollout.calculate_log_probs=false"],
            "rollout_is=token: nothing reads it without actor_rollout_ref.rollout.calculate_log_probs=true: verl leaves",
        ),
        (
            ["+algorithm.frpo.placement=local", "algorithm.frpo.kl_coef=0"],
            "placement='local': only read where kl_coef is",
        ),
        (["+max_missing_answers=lots"], "max_missing_answers='lots': must be a number in [0, 1]"),
        (["+answers_number=0"], "answers_number=0: must be a whole number >= 1"),
        (["+max_silence_s=-1"], "max_silence_s=-1: must be a finite number >= 0"),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=js+"], "kl_loss_type=js+: verl's + takes the reverse KL's"),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=k3_is+"], "k3_is has its exact gradient without it"),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=full"], "kl_loss_type='full': not a KL term"),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=atr_grpo", "actor_rollout_ref.actor.clip_ratio_c=0.5"],
            "actor_rollout_ref.actor.clip_ratio_c=0.5: must be a finite number > 1 for loss_mode=atr_grpo",
        ),
        (["trainer.n_gpus_per_node=0"], "trainer.n_gpus_per_node=0 x nnodes=1: a run needs a rank"),
        (["+algorithm.frpo.divergence=broken_module:F"], "divergence=broken_module:F: ZeroDivisionError"),
        (["algorithm.gamma=0.9"], "algorithm.gamma=0.9: adv_estimator=frpo does not read it"),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=f_grpo", "algorithm.rollout_correction.rollout_is=token"],
            "rollout_is=token gives each token its own weight and loss_mode=f_grpo needs one for each response",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_rkl", f"+{POLICY_LOSS}.rpg.reference=ref"]
            + ["actor_rollout_ref.actor.use_kl_loss=true", "actor_rollout_ref.actor.kl_loss_coef=0.1"],
            "counts the KL twice: set use_kl_loss=false or",
        ),
        (
            [*GRPO, "algorithm.adv_estimator=f_hal"],
            "adv_estimator=f_hal makes weights for f_grpo only; set loss_mode=f_grpo",
        ),
        ([*F_HAL, "trainer.use_v1=false"], "trainer.use_v1=false: adv_estimator=f_hal runs in verl's V1 trainer only"),
        ([*F_HAL, "algorithm.filter_groups.enable=true"], "filter_groups.enable=true drops every recorded pair"),
        (
            [*F_HAL, "algorithm.rollout_correction.rollout_is=sequence"],
            "rollout_correction.rollout_is=sequence weights by log-probs of the rollout engine, which recorded answers",
        ),
        ([*F_HAL, "actor_rollout_ref.rollout.n=1"], "actor_rollout_ref.rollout.n=1: adv_estimator=f_hal compares"),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=f_grpo", "actor_rollout_ref.rollout.n=1"],
            "rollout.n=1: adv_estimator=grpo hands on the bare reward of a group of one, and loss_mode=f_grpo needs values",
        ),
        (
            [
                *GRPO,
                "algorithm.adv_estimator=rloo",
                f"{POLICY_LOSS}.loss_mode=rpg_urkl",
                "actor_rollout_ref.rollout.n=1",
            ],
            "rollout.n=1: adv_estimator=rloo hands on the bare reward of a group of one, and loss_mode=rpg_urkl needs",
        ),
        (["algorithm.lam=0.9"], "algorithm.lam=0.9: adv_estimator=frpo does not read it"),
        (
            ["+algorithm.frpo.step=newline", "+algorithm.frpo.discount=0.9"],
            "algorithm.frpo.discount=0.9: only read by step=token, got step=newline",
        ),
        (
            ["algorithm.frpo.kl_coef=0", "algorithm.use_kl_in_reward=true", "algorithm.kl_penalty=k3_is"],
            "algorithm.kl_penalty=k3_is: importance weights exist in the loss only",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=f_grpo", "actor_rollout_ref.actor.clip_ratio=0.1"],
            "clip_ratio=0.1: loss_mode=f_grpo does not read it",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_urkl", "actor_rollout_ref.actor.clip_ratio_high=0.28"],
            "clip_ratio_high=0.28: loss_mode=rpg_urkl does not read it",
        ),
        (["+algorithm.frpo.divergence=nowhere.at_all:F"], "divergence=nowhere.at_all:F: ModuleNotFoundError"),
        (
            ["+algorithm.frpo.divergence=bad_divergence:NOT_CONVEX"],
            "run `python -m frpo_verl check bad_divergence:NOT_CONVEX`",
        ),
        (["actor_rollout_ref.rollout.top_p=0.9"], "actor_rollout_ref.rollout.top_p=0.9: answers would not be samples"),
        (
            ["algorithm.rollout_correction.rollout_rs='seq_sum_k1,token_k1'"],
            "the sum over an answer of adv_estimator=frpo would miss them: reject whole answers",
        ),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=f_grpo", "algorithm.rollout_correction.rollout_rs=token_k1"],
            "rollout_rs=token_k1 takes single tokens out of the response mask",
        ),
        (
            ["method=f_hal", "algorithm.f_hal.preference_weight=1.0", f"++{POLICY_LOSS}.f_grpo.weights=softmax"],
            "f_grpo.weights=softmax: weighs the policy's own answers, and algorithm.f_hal.preference_weight=1 leaves them out",
        ),
        (
            ["actor_rollout_ref.actor.fsdp_config.model_dtype=bf16"],
            "actor_rollout_ref.actor.fsdp_config.model_dtype=bf16: FSDP then rounds",
        ),
    ],
)
def test_stops_before_anything_starts(files, overrides, line):
    assert line in stopped(files, *overrides)


@pytest.mark.parametrize(
    "overrides, line",
    [
        (["actor_rollout_ref.actor.strategy=fsdp"], "strategy=fsdp with VERL_PLATFORM=cpu: FSDP1 and Megatron need"),
        (["actor_rollout_ref.rollout.name=sglang"], "rollout.name=sglang with VERL_PLATFORM=cpu: this engine needs"),
        (["actor_rollout_ref.rollout.name=vllm"], "rollout.name=vllm with VERL_PLATFORM=cpu: vLLM is not installed"),
        (["trainer.v1.trainer_mode=separate_async"], "trainer.v1.trainer_mode=separate_async with VERL_PLATFORM=cpu"),
        (
            ["actor_rollout_ref.rollout.checkpoint_engine.backend=nccl"],
            "checkpoint_engine.backend=nccl with VERL_PLATFORM=cpu: it moves weights between accelerators",
        ),
    ],
)
def test_what_a_processor_cannot_run_stops_too(files, monkeypatch, overrides, line):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setattr("frpo_verl.verl_plugin.cpu.vllm_cpu.installed", lambda: False)
    assert line in stopped(files, *overrides)


def validated(config):
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    return config


def test_two_kl_terms_can_be_allowed(files):
    validated(compose_ppo(*files, "algorithm.use_kl_in_reward=true", "+algorithm.frpo.allow_multiple_kl=true"))


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.adv_estimator=frpo_js", "+algorithm.frpo.log_ratio_clip=40"],
        ["algorithm.frpo.kl_coef=0", f"{POLICY_LOSS}.loss_mode=f_grpo"],
        ["+algorithm.frpo.placement=reward", f"{POLICY_LOSS}.loss_mode=f_grpo"],
        ["+algorithm.frpo.placement=sequence", f"{POLICY_LOSS}.loss_mode=f_grpo"],
        [*GRPO, f"{POLICY_LOSS}.loss_mode=f_grpo", "algorithm.rollout_correction.rollout_is=sequence"],
        [*GRPO, f"{POLICY_LOSS}.loss_mode=atr_grpo", "actor_rollout_ref.actor.clip_ratio_c=10"],
        ["algorithm.rollout_correction.rollout_rs=seq_mean_k3"],
        ["+algorithm.frpo.placement=local", "algorithm.rollout_correction.rollout_rs=token_k1"],
        [*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=alpha:0.5"],
        ["+algorithm.frpo.divergence=good_divergence:F"],
        ["algorithm.gamma=1", "algorithm.lam=1"],
        [*GRPO, "algorithm.adv_estimator=rpg_batch_mean", f"{POLICY_LOSS}.loss_mode=rpg_urkl"]
        + ["actor_rollout_ref.rollout.n=1", "actor_rollout_ref.rollout.val_kwargs.n=1"],
        [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_urkl", "actor_rollout_ref.actor.clip_ratio_c=3"],
        [*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=reverse_kl_k3+"],
        ["data.custom_cls.path=/mine.py", "data.custom_cls.name=Mine", "data.train_files=openai/gsm8k"],
        ["+algorithm.my_own.section=1", "+my_root_key=1"],
        ["+report_to=wandb", "+reports=[a]", "+answer_dir.of=mine"],  # other people's keys
        ["+algorithm.grpo.x=1", "+algorithm.grpo.kl_coef=1", "+algorithm.frpx.mine=1", "+algorithm.clip.value=1"],
        ["answers_dir=x", "+answers_number=8", "+max_missing_answers=0.1", "+max_silence_s=60", "report=true"],
        ["trainer.use_v1=false", "+max_missing_answers=1", "+max_silence_s=0", "report=true"],  # as it is without them
    ],
)
def test_what_is_obeyed_passes(files, overrides):
    validated(compose_ppo(*files, *overrides))


@pytest.mark.parametrize(
    "overrides, line",
    [
        (
            [*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=js"],
            "kl_loss_type=js: its gradient is the KL's in the first of 2",
        ),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=k3_is"], ""),
        ([*KL_LOSS, "actor_rollout_ref.actor.kl_loss_type=js", "actor_rollout_ref.actor.kl_loss_coef=0"], ""),
        ([*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_urkl"], ""),
        (
            [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_urkl", "actor_rollout_ref.actor.ppo_mini_batch_size=16"],
            "rpg.reference=old: with one update per rollout the policy is its own reference, and kl_coef=0.0001 moves",
        ),
    ],
)
def test_what_is_obeyed_and_does_little_is_said(files, capsys, overrides, line):
    needs._say_once.cache_clear()
    config = validated(compose_ppo(*files, "actor_rollout_ref.actor.ppo_mini_batch_size=8", *overrides))
    validated(config)
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("frpo_verl: actor_rollout_ref")]
    assert len(said) == bool(line) and line in "".join(said)


def test_the_sections_are_all_that_is_typed(files):
    """No `_target_`: the plugin puts in the class that knows the section, and a named one goes on working."""
    typed = [*GRPO, f"{POLICY_LOSS}.loss_mode=rpg_urkl", f"+{POLICY_LOSS}.rpg.kl_coef=1e-3"]
    config = validated(compose_ppo(*files, *typed))
    assert config.actor_rollout_ref.actor.policy_loss._target_ == "frpo_verl.PolicyLossConfig"
    validated(compose_ppo(*files, *typed, f"{POLICY_LOSS}._target_=frpo_verl.PolicyLossConfig"))


# ------------------------------------------------------------------------------------------------ runs that are not ours


def test_a_worker_of_somebodys_own_knows_its_section(monkeypatch):
    """A worker group that is built without verl's trainer is given the section alone, as the root of its configuration."""
    from omegaconf import OmegaConf

    monkeypatch.setattr(run, "_current", None)
    for loss, ours in (("vanilla", False), ("frpo", True)):
        run.remember_part(OmegaConf.create({"actor": {"policy_loss": {"loss_mode": loss}}, "model": {"path": "m"}}))
        assert run.current().ours is ours and run.current().get("actor_rollout_ref.model.path") == "m"


def not_ours(*overrides):
    """verl's own configuration with the keys that its checks want, and nothing of ours."""
    return compose_ppo("actor_rollout_ref.actor.use_dynamic_bsz=true", *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.adv_estimator=grpo"],
        ["algorithm.adv_estimator=frpo_mine"],  # another plugin may register it later
        [f"{POLICY_LOSS}.loss_mode=frpo_of_mine"],
        ["data.train_files=/nowhere/train.parquet", "actor_rollout_ref.rollout.top_p=0.9"],
        [
            "algorithm.adv_estimator=grpo",
            "actor_rollout_ref.actor.use_kl_loss=true",
            "actor_rollout_ref.actor.kl_loss_type=kk",
        ],
    ],
)
def test_a_run_that_is_not_ours_is_left_alone(overrides, monkeypatch):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    config = not_ours(*overrides)
    before = copy.deepcopy(config)
    start.validate(config)
    assert config == before and not run.Run(config).ours


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.adv_estimator=frpo_js"],
        [f"{POLICY_LOSS}.loss_mode=atr_grpo"],
        ["actor_rollout_ref.actor.use_kl_loss=true", "actor_rollout_ref.actor.kl_loss_type=js"],
        ["+algorithm.frpo.kl_coef=0.1"],
        [f"+{POLICY_LOSS}.rpg.kl_coef=0.1"],
        ["+recipe=quickstart_cpu", "method=grpo"],
    ],
)
def test_a_typed_name_or_a_recipe_makes_a_run_ours(overrides):
    assert run.Run(compose_ppo(*overrides)).ours


@pytest.mark.parametrize(
    "overrides, needed",
    [
        ([], True),
        (["algorithm.frpo.kl_coef=0"], False),
        (["algorithm.adv_estimator=grpo", "~algorithm.frpo"], False),
        (["algorithm.adv_estimator=grpo", "~algorithm.frpo", f"{POLICY_LOSS}.loss_mode=rpg_urkl"], False),
        (
            ["~algorithm.frpo", "algorithm.adv_estimator=grpo", f"{POLICY_LOSS}.loss_mode=rpg_urkl"]
            + [f"+{POLICY_LOSS}.rpg.reference=ref"],
            True,
        ),
        (["~algorithm.frpo", "algorithm.adv_estimator=grpo", f"{POLICY_LOSS}.loss_mode=f_grpo"], True),
        (["~algorithm.frpo", "algorithm.adv_estimator=grpo", f"{POLICY_LOSS}.loss_mode=frpo"], True),
        (["~algorithm.frpo", "algorithm.adv_estimator=grpo", "actor_rollout_ref.actor.use_kl_loss=true"], True),
    ],
)
def test_the_reference_is_loaded_where_it_is_read(files, overrides, needed):
    assert need_reference_policy(compose_ppo(*files, *overrides)) is needed


@pytest.mark.parametrize("method", method_names())
def test_every_method_composes_and_passes(files, method):
    validated(compose_ppo(*files, f"method={method}"))


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda m: f"{m.kind}-{m.name}")
def test_what_the_table_says_to_type_composes_and_passes(files, method):
    config = validated(compose_ppo(*files, *method.recipe))
    assert method in [row for row, _ in run.Run(config).chosen]


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda m: f"{m.kind}-{m.name}")
def test_what_the_page_says_it_needs_is_what_stops_a_run(files, method):
    """Each need of the table, those of the default settings too, has a configuration without it, and that one stops."""
    without = {
        "groups": "actor_rollout_ref.rollout.n=1",
        "centred": "actor_rollout_ref.rollout.n=1",
        "v1": "trainer.use_v1=false",
        "one_value": "algorithm.adv_estimator=gae",
    }
    config = compose_ppo(*files, *method.recipe)
    settings = next(settings for row, settings in run.Run(config).chosen if row is method)
    assert "reference" not in method.all_needs(settings) or need_reference_policy(config)
    for need in method.all_needs(settings) - {"reference", "one_row"}:  # a session is seen in its first batch
        lacks = [f"{r.key}={'token' if r.allowed[0] is None else 'true'}" for r in methods.NEEDS[need].refuses]
        for override in lacks or [without[need]]:
            assert override.split("=")[0] in stopped(files, *method.recipe, override), (need, override)
