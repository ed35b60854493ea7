"""Wrong configurations stop in verl's validate_config, in the driver, with one line."""

import pytest
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl_config import compose_ppo

from frpo_verl import names
from frpo_verl.config import ConfigError
from frpo_verl.verl_plugin.paths import method_names, recipe_names


@pytest.fixture
def files(tmp_path):
    data, model = tmp_path / "rows.parquet", tmp_path / "model"
    data.touch()
    model.mkdir()
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
            "use_kl_loss=true with kl_loss_coef=0.1 beside algorithm.frpo.kl_coef",
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
        ([f"{POLICY_LOSS}.loss_mode=atr_grpo", f"+{POLICY_LOSS}.clip.measure=tv"], "atr_grpo is the kl3 measure"),
        ([f"{POLICY_LOSS}.loss_mode=f_grpo", f"+{POLICY_LOSS}.f_grpo.bata=1"], "unknown key (did you mean 'beta'?)"),
        (
            [
                "algorithm.frpo.kl_coef=0",
                "actor_rollout_ref.actor.use_kl_loss=true",
                "actor_rollout_ref.actor.kl_loss_type=forwardkl",
            ],
            "kl_loss_type='forwardkl': not a KL term (did you mean 'forward_kl'?)",
        ),
    ],
)
def test_stops_before_anything_starts(files, overrides, line):
    assert line in stopped(files, *overrides)


def test_two_kl_terms_can_be_allowed(files):
    config = compose_ppo(*files, "algorithm.use_kl_in_reward=true", "+algorithm.frpo.allow_multiple_kl=true")
    validate_config(config, use_reference_policy=True, use_critic=False)


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
    config = compose_ppo(*files, f"method={method}")
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))


def test_every_recipe_is_found_without_flags():
    for name in recipe_names():
        if not name.endswith("_base"):
            assert compose_ppo(f"+recipe={name}").algorithm.adv_estimator in (*names.ESTIMATORS, "grpo")
