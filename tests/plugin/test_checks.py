"""Wrong configurations stop in verl's validate_config, in the driver, with one line; what is obeyed passes."""

import copy
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tables import cases
from transformers import Qwen3Config
from verl.trainer.ppo.utils import need_reference_policy
from verl_config import compose_ppo, stopped, validated

from frpo_verl import methods
from frpo_verl.quickstart.tokenizer import write_tokenizer
from frpo_verl.verl_plugin import hooks, run, start
from frpo_verl.verl_plugin.paths import config_names

EST, CORR = "algorithm.adv_estimator", "algorithm.rollout_correction"
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
LOSS = f"{ACTOR}.policy_loss"
GRPO = f"{EST}=grpo ~algorithm.frpo"
F_HAL = f"{GRPO} {EST}=f_hal {LOSS}.loss_mode=f_grpo"
KL_LOSS = f"{GRPO} {ACTOR}.use_kl_loss=true"

STOPS = f"""
+algorithm.frpo.kl_coeff=0.1 -> algorithm.frpo.kl_coeff: unknown key (did you mean 'kl_coef'?)
algorithm.frpo.kl_coef=-1 -> algorithm.frpo.kl_coef=-1: must be a finite number >= 0
algorithm.frpo.kl_coef=nan -> algorithm.frpo.kl_coef=nan: must be
+algorithm.frpo.divergence=foo -> algorithm.frpo.divergence='foo': not one of
{EST}=frop -> {EST}='frop': not registered (did you mean 'frpo'?)
algorithm.use_kl_in_reward=true -> counts the KL twice
{ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_coef=0.1
    -> use_kl_loss=true with kl_loss_coef=0.1 beside algorithm.frpo.kl_coef=0.01 counts the KL twice
{ROLLOUT}.n=1 -> {ROLLOUT}.n=1: adv_estimator=frpo compares
{CORR}.bypass_mode=true -> {CORR}.bypass_mode=true takes the log-probs of the inference engine
data.train_files=/nowhere/train.parquet -> data.train_files=/nowhere/train.parquet: no such file
data.val_files=[/nowhere/a.parquet] -> data.val_files=/nowhere/a.parquet: no such file
actor_rollout_ref.model.path=/nowhere/model -> actor_rollout_ref.model.path=/nowhere/model: no such folder
{EST}=grpo -> algorithm.frpo is set and nobody reads it
{LOSS}.loss_mode=atr_grop -> not registered (did you mean 'atr_grpo'?)
{LOSS}.loss_mode=frpo -> counts the KL twice
+{LOSS}.rpg.kl_coef=0.1 -> {LOSS}.rpg is set and nobody reads it
{LOSS}.loss_mode=rpg_rkl +{LOSS}.rpg.level=tokens -> rpg.level='tokens': not one of
{LOSS}.loss_mode=atr_grpo +{LOSS}.clip.measure=tv -> clip.measure='tv': the chosen method fixes it to 'kl3'
{LOSS}.loss_mode=f_grpo +{LOSS}.f_grpo.bata=1 -> unknown key (did you mean 'beta'?)
algorithm.frpo.kl_coef=0 {ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=forwardkl
    -> kl_loss_type='forwardkl': not a KL term (did you mean 'forward_kl'?)
{EST}=frpo_alpha +algorithm.frpo.alpha=7 -> algorithm.frpo.alpha=7: must be a number in
+algorithm.frpo.divergence=alpha +algorithm.frpo.alpha=7 -> algorithm.frpo.alpha=7: must be a number in
{KL_LOSS} {ACTOR}.kl_loss_type=alpha:7 -> kl_loss_type=alpha:7: write the order
{KL_LOSS} {ACTOR}.kl_loss_type=alpha:1 -> kl_loss_type=alpha:1: write the order
{LOSS}.loss_mode=f_grpo
    -> adv_estimator=frpo gives each token its own advantage and loss_mode=f_grpo needs one for each response
{EST}=frpo_js {LOSS}.loss_mode=rpg_rkl +{LOSS}.rpg.level=sequence
    -> adv_estimator=frpo_js gives each token its own advantage and loss_mode=rpg_rkl with
{GRPO} {EST}=gae {LOSS}.loss_mode=f_grpo -> adv_estimator=gae gives each token
+algorithm.frpo.step_length=64 -> algorithm.frpo.step_length=64: only read by step=length
+algorithm.frpo.on_nonfinite=zero_row algorithm.use_kl_in_reward=true +algorithm.frpo.allow_multiple_kl=true
    -> algorithm.frpo.on_nonfinite=zero_row beside algorithm.use_kl_in_reward=true: NaN of the reference would be in
{EST}=frpo_js +algorithm.frpo.log_ratio_clip=80
    -> algorithm.frpo.log_ratio_clip=80: js leaves float32's range beyond a log-ratio of
{EST}=frpo_neyman_chi2 +algorithm.frpo.log_ratio_clip=80
    -> algorithm.frpo.log_ratio_clip=80: neyman_chi2 leaves float32's range beyond a log-ratio of
{GRPO} {LOSS}.loss_mode=f_grpo {ACTOR}.loss_agg_mode=seq-mean-token-mean
    -> loss_agg_mode=seq-mean-token-mean: loss_mode=f_grpo does not read it
{GRPO} {LOSS}.loss_mode=rpg_rkl +{LOSS}.rpg.level=sequence {ACTOR}.loss_agg_mode=token-sum
    -> loss_agg_mode=token-sum: loss_mode=rpg_rkl does not read it
{GRPO} {LOSS}.loss_mode=atr_grpo {ACTOR}.clip_ratio_high=0.28
    -> clip_ratio_high=0.28: loss_mode=atr_grpo does not read it (its own settings are
{GRPO} {LOSS}.loss_mode=rpg_urkl {ACTOR}.clip_ratio_c=10 -> clip_ratio_c=10: loss_mode=rpg_urkl does not read it
{F_HAL} {CORR}.rollout_rs=seq_mean_k3
    -> rollout_correction.rollout_rs=seq_mean_k3 rejects by log-probs of the rollout engine, which recorded answers
+algorithm.frpoo.kl_coef=0.1 -> algorithm.frpoo: nobody reads it (did you mean 'algorithm.frpo'?)
+algorithm.rpg.kl_coef=0.1 -> algorithm.rpg: nobody reads it (did you mean '{LOSS}.rpg'?)
+{LOSS}.clp.delta=1 -> {LOSS}.clp: nobody reads it (did you mean '{LOSS}.clip'?)
+max_missing_answer=0.1 -> max_missing_answer: nobody reads it (did you mean 'max_missing_answers'?)
+rundir=x -> rundir: nobody reads it (did you mean 'run_dir'?)
answers_dir=x trainer.use_v1=false -> answers_dir=x: nothing reads it without verl's V1 trainer
{GRPO} answers_dir=x -> answers_dir=x: nothing reads it without a reference model, which a method with a KL
answers_dir=x trainer.val_only=true -> answers_dir=x: nothing reads it without a training
+answers_number=8 -> answers_number=8: nothing reads it without answers_dir; set that, or answers_number=null
+max_missing_answers=0.1 trainer.v1.trainer_mode=colocate_async
    -> max_missing_answers=0.1: nothing reads it without trainer.v1.trainer_mode=sync
+max_missing_answers=0.1 trainer.use_v1=false -> max_missing_answers=0.1: nothing reads it without verl's V1
+max_missing_answers=0.1 algorithm.filter_groups.enable=true -> without algorithm.filter_groups.enable=false
+max_silence_s=60 trainer.use_v1=false -> max_silence_s=60: nothing reads it without verl's V1 trainer
report=true run_dir=null -> report=True: nothing reads it without run_dir, where it is written
report=often -> report='often': must be true or false
{CORR}.rollout_is=token {ROLLOUT}.calculate_log_probs=false
    -> rollout_is=token: nothing reads it without {ROLLOUT}.calculate_log_probs=true: verl leaves
+algorithm.frpo.placement=local algorithm.frpo.kl_coef=0 -> placement='local': only read where kl_coef is
+max_missing_answers=lots -> max_missing_answers='lots': must be a number in [0, 1]
+answers_number=0 -> answers_number=0: must be a whole number >= 1
+max_silence_s=-1 -> max_silence_s=-1: must be a finite number >= 0
{KL_LOSS} {ACTOR}.kl_loss_type=js+ -> kl_loss_type=js+: verl's + takes the reverse KL's
{KL_LOSS} {ACTOR}.kl_loss_type=k3_is+ -> k3_is has its exact gradient without it
{KL_LOSS} {ACTOR}.kl_loss_type=full -> kl_loss_type='full': not a KL term
{GRPO} {LOSS}.loss_mode=atr_grpo {ACTOR}.clip_ratio_c=0.5
    -> {ACTOR}.clip_ratio_c=0.5: must be a finite number > 1 for loss_mode=atr_grpo
trainer.n_gpus_per_node=0 -> trainer.n_gpus_per_node=0 x nnodes=1: a run needs a rank
+algorithm.frpo.divergence=broken_module:F -> divergence=broken_module:F: ZeroDivisionError
algorithm.gamma=0.9 -> algorithm.gamma=0.9: adv_estimator=frpo does not read it
{GRPO} {LOSS}.loss_mode=f_grpo {CORR}.rollout_is=token
    -> rollout_is=token gives each token its own weight and loss_mode=f_grpo needs one for each response
{GRPO} {LOSS}.loss_mode=rpg_rkl +{LOSS}.rpg.reference=ref {ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_coef=0.1
    -> counts the KL twice: set use_kl_loss=false or
{GRPO} {EST}=f_hal -> adv_estimator=f_hal makes weights for f_grpo only; set loss_mode=f_grpo
{F_HAL} trainer.use_v1=false -> trainer.use_v1=false: adv_estimator=f_hal runs in verl's V1 trainer only
{F_HAL} algorithm.filter_groups.enable=true -> filter_groups.enable=true drops every recorded pair
{F_HAL} {CORR}.rollout_is=sequence
    -> rollout_correction.rollout_is=sequence weights by log-probs of the rollout engine, which recorded answers
{F_HAL} {ROLLOUT}.n=1 -> {ROLLOUT}.n=1: adv_estimator=f_hal compares
{GRPO} {LOSS}.loss_mode=f_grpo {ROLLOUT}.n=1
    -> rollout.n=1: adv_estimator=grpo hands on the bare reward of a group of one, and loss_mode=f_grpo needs values
{GRPO} {EST}=rloo {LOSS}.loss_mode=rpg_urkl {ROLLOUT}.n=1
    -> rollout.n=1: adv_estimator=rloo hands on the bare reward of a group of one, and loss_mode=rpg_urkl needs
algorithm.lam=0.9 -> algorithm.lam=0.9: adv_estimator=frpo does not read it
+algorithm.frpo.step=newline +algorithm.frpo.discount=0.9
    -> algorithm.frpo.discount=0.9: only read by step=token, got step=newline
algorithm.frpo.kl_coef=0 algorithm.use_kl_in_reward=true algorithm.kl_penalty=k3_is
    -> algorithm.kl_penalty=k3_is: importance weights exist in the loss only
{GRPO} {LOSS}.loss_mode=f_grpo {ACTOR}.clip_ratio=0.1 -> clip_ratio=0.1: loss_mode=f_grpo does not read it
{GRPO} {LOSS}.loss_mode=rpg_urkl {ACTOR}.clip_ratio_high=0.28
    -> clip_ratio_high=0.28: loss_mode=rpg_urkl does not read it
+algorithm.frpo.divergence=nowhere.at_all:F -> divergence=nowhere.at_all:F: ModuleNotFoundError
+algorithm.frpo.divergence=bad_divergence:NOT_CONVEX -> run `python -m frpo_verl check bad_divergence:NOT_CONVEX`
{ROLLOUT}.top_p=0.9 -> {ROLLOUT}.top_p=0.9: answers would not be samples
{CORR}.rollout_rs='seq_sum_k1,token_k1'
    -> the sum over an answer of adv_estimator=frpo would miss them: reject whole answers
{GRPO} {LOSS}.loss_mode=f_grpo {CORR}.rollout_rs=token_k1
    -> rollout_rs=token_k1 takes single tokens out of the response mask
method=f_hal algorithm.f_hal.preference_weight=1.0 ++{LOSS}.f_grpo.weights=softmax
    -> f_grpo.weights=softmax: weighs the policy's own answers, and algorithm.f_hal.preference_weight=1 leaves them out
{ACTOR}.fsdp_config.model_dtype=bf16 -> {ACTOR}.fsdp_config.model_dtype=bf16: FSDP then rounds
"""

ON_A_CPU = f"""
{ACTOR}.strategy=fsdp -> strategy=fsdp with VERL_PLATFORM=cpu: FSDP1 and Megatron need
{ROLLOUT}.name=sglang -> rollout.name=sglang with VERL_PLATFORM=cpu: this engine needs
{ROLLOUT}.name=vllm -> rollout.name=vllm with VERL_PLATFORM=cpu: vLLM is not installed
trainer.v1.trainer_mode=separate_async -> checkpoint_engine.backend=naive: separate_async has a rollout with processes of its own
{ROLLOUT}.checkpoint_engine.backend=nccl
    -> checkpoint_engine.backend=nccl with VERL_PLATFORM=cpu: it moves weights between accelerators; set it to naive
layout=cpu_async +rollout.nnodes=1 {ROLLOUT}.checkpoint_engine.backend=nccl -> set it to zmq, or layout=cpu_async
"""

PASSES = f"""
{EST}=frpo_js +algorithm.frpo.log_ratio_clip=40
algorithm.frpo.kl_coef=0 {LOSS}.loss_mode=f_grpo
+algorithm.frpo.placement=reward {LOSS}.loss_mode=f_grpo
+algorithm.frpo.placement=sequence {LOSS}.loss_mode=f_grpo
{GRPO} {LOSS}.loss_mode=f_grpo {CORR}.rollout_is=sequence
{GRPO} {LOSS}.loss_mode=atr_grpo {ACTOR}.clip_ratio_c=10
{CORR}.rollout_rs=seq_mean_k3
+algorithm.frpo.placement=local {CORR}.rollout_rs=token_k1
{KL_LOSS} {ACTOR}.kl_loss_type=alpha:0.5
+algorithm.frpo.divergence=good_divergence:F
algorithm.gamma=1 algorithm.lam=1
{GRPO} {EST}=rpg_batch_mean {LOSS}.loss_mode=rpg_urkl {ROLLOUT}.n=1 {ROLLOUT}.val_kwargs.n=1
{GRPO} {LOSS}.loss_mode=rpg_urkl {ACTOR}.clip_ratio_c=3
{KL_LOSS} {ACTOR}.kl_loss_type=reverse_kl_k3+
data.custom_cls.path=/mine.py data.custom_cls.name=Mine data.train_files=openai/gsm8k
+algorithm.my_own.section=1 +my_root_key=1
+report_to=wandb +reports=[a] +answer_dir.of=mine
+algorithm.grpo.x=1 +algorithm.grpo.kl_coef=1 +algorithm.frpx.mine=1 +algorithm.clip.value=1
answers_dir=x +answers_number=8 +max_missing_answers=0.1 +max_silence_s=60 report=true
trainer.use_v1=false +max_missing_answers=1 +max_silence_s=0 report=true
"""

# with two mini-batches, unless one is typed
SAYS = f"""
{KL_LOSS} {ACTOR}.kl_loss_type=js -> kl_loss_type=js: its gradient is the KL's in the first of 2
{KL_LOSS} {ACTOR}.kl_loss_type=k3_is
{KL_LOSS} {ACTOR}.kl_loss_type=js {ACTOR}.kl_loss_coef=0
{GRPO} {LOSS}.loss_mode=rpg_urkl
{GRPO} {LOSS}.loss_mode=rpg_urkl {ACTOR}.ppo_mini_batch_size=16
    -> rpg.reference=old: with one update per rollout the policy is its own reference, and kl_coef=0.0001 moves
"""

NOT_OURS = f"""
{EST}=grpo
{EST}=frpo_mine
{LOSS}.loss_mode=frpo_of_mine
data.train_files=/nowhere/train.parquet {ROLLOUT}.top_p=0.9
{EST}=grpo {ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=kk
"""

OURS = f"""
{EST}=frpo_js
{LOSS}.loss_mode=atr_grpo
{ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=js
+algorithm.frpo.kl_coef=0.1
+{LOSS}.rpg.kl_coef=0.1
+recipe=quickstart_cpu method=grpo
"""

NEEDS_THE_REFERENCE = f"""
-> True
algorithm.frpo.kl_coef=0 -> False
{GRPO} -> False
{GRPO} {LOSS}.loss_mode=rpg_urkl -> False
{GRPO} {LOSS}.loss_mode=rpg_urkl +{LOSS}.rpg.reference=ref -> True
{GRPO} {LOSS}.loss_mode=f_grpo -> True
{GRPO} {LOSS}.loss_mode=frpo -> True
{GRPO} {ACTOR}.use_kl_loss=true -> True
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "atexit", SimpleNamespace(register=lambda *_: None))  # no report of this process
    data, model = tmp_path / "rows.parquet", tmp_path / "model"
    data.touch()
    model.mkdir()
    write_tokenizer(model)  # a model that verl can configure a critic from
    (model / "config.json").write_text(Qwen3Config(architectures=["Qwen3ForCausalLM"]).to_json_string())
    named = [f"data.train_files={data}", f"data.val_files={data}", f"actor_rollout_ref.model.path={model}"]
    return ["+recipe=quickstart_cpu", *named]


@pytest.mark.parametrize("typed, line", cases(STOPS))
def test_stops_before_anything_starts(files, typed, line):
    assert line in stopped(*files, *typed.split())


@pytest.mark.parametrize("typed, line", cases(ON_A_CPU))
def test_what_a_cpu_cannot_run_stops_too(files, monkeypatch, typed, line):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setattr("frpo_verl.verl_plugin.cpu.vllm_cpu.installed", lambda: False)
    assert line in stopped(*files, *typed.split())


@pytest.mark.parametrize("typed, _", cases(PASSES))
def test_what_is_obeyed_passes(files, typed, _):
    validated(*files, *typed.split())


@pytest.mark.parametrize("typed, line", cases(SAYS))
def test_what_is_obeyed_and_does_little_is_said_once(files, capsys, typed, line):
    hooks.say_once.cache_clear()
    for _ in range(2):
        validated(*files, f"{ACTOR}.ppo_mini_batch_size=8", *typed.split())
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("frpo_verl: actor_rollout_ref")]
    assert len(said) == bool(line) and line in "".join(said)


def test_the_sections_are_all_that_is_typed(files):
    """No `_target_`: the plugin puts in the class that knows the section, and a named one goes on working."""
    typed = [*GRPO.split(), f"{LOSS}.loss_mode=rpg_urkl", f"+{LOSS}.rpg.kl_coef=1e-3"]
    assert validated(*files, *typed).actor_rollout_ref.actor.policy_loss._target_ == "frpo_verl.PolicyLossConfig"
    validated(*files, *typed, f"{LOSS}._target_=frpo_verl.PolicyLossConfig")


def test_a_worker_of_somebodys_own_knows_its_section():
    """A worker group that is built without verl's trainer is given the section alone, as the root of its configuration."""
    for loss, ours in (("vanilla", False), ("frpo", True)):
        run.remember_part(OmegaConf.create({"actor": {"policy_loss": {"loss_mode": loss}}, "model": {"path": "m"}}))
        assert run.current().ours is ours and run.current().get("actor_rollout_ref.model.path") == "m"


@pytest.mark.parametrize("typed, _", cases(NOT_OURS))
def test_a_run_that_is_not_ours_is_left_alone(typed, _, monkeypatch):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    config = compose_ppo(f"{ACTOR}.use_dynamic_bsz=true", *typed.split())  # a key that verl's checks want
    before = copy.deepcopy(config)
    start.validate(config)
    assert config == before and not run.Run(config).ours


@pytest.mark.parametrize("typed, _", cases(OURS))
def test_a_typed_name_or_a_recipe_makes_a_run_ours(typed, _):
    assert run.Run(compose_ppo(*typed.split())).ours


@pytest.mark.parametrize("typed, needed", cases(NEEDS_THE_REFERENCE))
def test_the_reference_is_loaded_where_it_is_read(files, typed, needed):
    assert need_reference_policy(compose_ppo(*files, *typed.split())) is (needed == "True")


@pytest.mark.parametrize("method", config_names("method"))
def test_every_method_composes_and_passes(files, method):
    validated(*files, f"method={method}")


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda m: f"{m.kind}-{m.name}")
def test_what_the_table_says_to_type_composes_and_passes(files, method):
    config = validated(*files, *method.recipe)
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
            assert override.split("=")[0] in stopped(*files, *method.recipe, override), (need, override)
