"""Settings: what is refused, and that the line says which key, which value and what to do."""

import dataclasses

import pytest
import yaml
from tables import cases

from frpo_verl.methods import settings
from frpo_verl.methods.settings import ConfigError, FrpoSettings

FRPO = """
{kl_coeff: 0.1} -> algorithm.frpo.kl_coeff: unknown key (did you mean 'kl_coef'?)
{kl_coef: -1} -> algorithm.frpo.kl_coef=-1: must be a finite number >= 0
{kl_coef: .nan} -> algorithm.frpo.kl_coef=nan: must be
{kl_coef: true} -> algorithm.frpo.kl_coef=True: must be
{kl_coef: "0.1"} -> algorithm.frpo.kl_coef='0.1': must be
{divergence: foo} -> algorithm.frpo.divergence='foo': not one of reverse_kl,
{divergence: forwad_kl} -> (did you mean 'forward_kl'?)
{divergence: alpha} -> algorithm.frpo.alpha=None: must be a number in [-2, 4] other than 0 and 1, because
{divergence: alpha, alpha: 1} -> algorithm.frpo.alpha=1: must be
{divergence: alpha, alpha: 7} -> algorithm.frpo.alpha=7: must be a number in [-2, 4]
{alpha: 0.5} -> algorithm.frpo.alpha=0.5: only read by divergence=alpha
{placement: futur} -> algorithm.frpo.placement='futur': not one of future,
{discount: 1.5} -> algorithm.frpo.discount=1.5: must be a number in [0, 1]
{step_length: 64} -> algorithm.frpo.step_length=64: only read by step=length, got step=token
{step: length, discount: 0.5} -> discount=0.5: only read by step=token, got step=length
{kl_coef: 0, divergence: js} -> divergence='js': only read where kl_coef is a finite number > 0, got
{kl_coef: 0, baseline: position} -> baseline='position': only read where kl_coef is a finite number > 0
{kl_coef: 0, allow_multiple_kl: true} -> allow_multiple_kl=True: only read where kl_coef is
{placement: local, discount: 0.5} -> only read by placement=future
{step: length, step_length: 0} -> algorithm.frpo.step_length=0: must be a whole number >= 1
{placement: reward, baseline: position}
    -> algorithm.frpo.baseline='position': only read by placement=future or local or sequence, got
{placement: reward_to_go, baseline: position} -> baseline='position': only read by placement=future or local or
{placement: reward_to_go, discount: 0.5} -> discount=0.5: only read by placement=future, got
{placement: reward_to_go, step: newline} -> step='newline': only read by placement=future, got
{placement: reward_to_go, outcome: rloo} -> algorithm.frpo.outcome=rloo: placement=reward_to_go normalises reward and KL
{kl_coef: 0, placement: reward_to_go} -> placement='reward_to_go': only read where kl_coef is
{baseline: remaining, placement: local} -> algorithm.frpo.baseline=remaining: counts the tokens of placement=future
{baseline: remaining, discount: 0.5} -> algorithm.frpo.baseline=remaining: counts the tokens of placement=future
{baseline: remaining, step: newline} -> algorithm.frpo.baseline=remaining: counts the tokens of placement=future
{kl_coef: 0, baseline: remaining} -> baseline='remaining': only read where kl_coef is
{on_nonfinite: ignore} -> algorithm.frpo.on_nonfinite='ignore': not one of raise, zero_row
{log_ratio_clip: 0} -> algorithm.frpo.log_ratio_clip=0: must be
{allow_multiple_kl: 1} -> algorithm.frpo.allow_multiple_kl=1: must be true or false
{kl_coef_end: 0.0} -> needs algorithm.frpo.kl_coef_steps
{kl_coef_steps: 5} -> kl_coef_steps=5: only read where kl_coef_end
{kl_coef_shape: cosine} -> kl_coef_shape='cosine': only read where kl_coef_end
{kl_coef: 0, reference: teacher} -> reference='teacher': only read where kl_coef is
{placement: reward, outcome: none} -> outcome=none: placement=reward puts the KL into one reward for each response
{placement: reward, outcome: gdpo} -> outcome=gdpo: placement=reward puts the KL into one reward for each response
{placement: reward, outcome: gae} -> outcome=gae: placement=reward puts the KL into one reward for each response
{kl_horizon: 5} -> kl_horizon=5: only read where kl_target
{kl_coef: 0, kl_target: 1.0} -> kl_target=1.0: only read where kl_coef
{kl_coef: 0, kl_coef_end: 0.1, kl_coef_steps: 5} -> only read where kl_coef is
{kl_target: 1.0, kl_coef_end: 0.0, kl_coef_steps: 5} -> steered by it, or scheduled
{kl_target: 0.0} -> kl_target=0.0: must be
"""

OTHERS = """
RpgSettings: {clip_low: 2} -> policy_loss.rpg.clip_low=2: must be a number in (0, 1], or null
RpgSettings: {reference: rf} -> policy_loss.rpg.reference='rf': not one of old, ref (did you mean 'ref'?)
RpgSettings: {kl_coef: 0, reference: ref} -> reference='ref': only read where kl_coef is a finite number
FrpoLossSettings: {kl_coef: 0, log_ratio_clip: 5} -> log_ratio_clip=5: only read where kl_coef is
FrpoLossSettings: {divergence: alpha} -> policy_loss.frpo.alpha=None: must be
FrpoLossSettings: {kl_coef_end: 0.1} -> needs actor_rollout_ref.actor.policy_loss.frpo.kl_coef_steps
FrpoLossSettings: {kl_coef_steps: 5} -> kl_coef_steps=5: only read where kl_coef_end
RpgSettings: {kl_coef_shape: cosine} -> kl_coef_shape='cosine': only read where kl_coef_end
RpgSettings: {kl_coef: 0, kl_coef_end: 0.1, kl_coef_steps: 5} -> only read where kl_coef is
ClipSettings: {delta: 0} -> policy_loss.clip.delta=0: must be a number in (0, 700]
ClipSettings: {measure: prob_tv, delta: 1} -> policy_loss.clip.delta=1: must be a number in (0, 1)
ClipSettings: {measure: binary_kl, delta: [0.1, 0.2]} -> policy_loss.clip.delta=(0.1, 0.2): must be
ClipSettings: {measure: binary_tv} -> policy_loss.clip.measure='binary_tv': not one of ratio, kl1, kl2, kl3
ClipSettings: {measure: tv, delta: [0.1, 0.2]} -> policy_loss.clip.delta=(0.1, 0.2): must be
ClipSettings: {measure: ratio, delta: [0.1]} -> or a pair of such numbers
FGrpoSettings: {beta: 0} -> policy_loss.f_grpo.beta=0: must be a finite number > 0
FGrpoSettings: {divergence: jss} -> policy_loss.f_grpo.divergence='jss': not one of
FHalSettings: {preference_weight: 2} -> algorithm.f_hal.preference_weight=2: must be a number in [0, 1]
FHalSettings: 3 -> algorithm.f_hal=3: must be a mapping of preference_weight
"""


@pytest.mark.parametrize(
    "typed, line", [(f"FrpoSettings: {typed}", line) for typed, line in cases(FRPO)] + cases(OTHERS)
)
def test_one_line_says_what_is_wrong(typed, line):
    (section, values), *_ = yaml.safe_load(typed).items()
    with pytest.raises(ConfigError) as error:
        getattr(settings, section).parse(values)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_defaults_are_the_papers():
    found = FrpoSettings.parse(None)
    assert (found.kl_coef, found.divergence, found.placement) == (0.01, "reverse_kl", "future")


def test_the_documented_defaults_can_be_typed_in_full():
    fields = dataclasses.fields(FrpoSettings)
    assert FrpoSettings.parse({f.name: f.default for f in fields}) == FrpoSettings()


def test_a_divergence_that_the_name_fixes_may_have_the_coefficient_0():
    assert FrpoSettings.parse({"kl_coef": 0}, divergence="alpha").needs == {"groups"}


def test_what_the_name_fixes_cannot_be_typed_otherwise():
    assert FrpoSettings.parse({"kl_coef": 0.1}, divergence="js").divergence == "js"
    assert FrpoSettings.parse({"divergence": "js"}, divergence="js").divergence == "js"
    with pytest.raises(ConfigError, match="algorithm.frpo.divergence='reverse_kl': the chosen method fixes it to 'js'"):
        FrpoSettings.parse({"divergence": "reverse_kl"}, divergence="js")


@pytest.mark.parametrize("alpha", [-2.001, -2, -1, 0, 0.5, 1, 2, 4, 4.001, None, float("nan"), True])
def test_the_settings_accept_what_the_core_accepts(alpha):
    from frpo_verl.core.divergences import get_divergence

    def accepts(build):
        try:
            build()
        except ValueError:
            return False
        return True

    typed = accepts(lambda: FrpoSettings.parse({"divergence": "alpha", "alpha": alpha}))
    assert typed == accepts(lambda: get_divergence("alpha", alpha))


def test_the_typed_names_are_those_of_the_core():
    from frpo_verl.core import divergences
    from frpo_verl.core.losses import f_grpo
    from frpo_verl.methods import names

    assert set(names.DIVERGENCES) == set(divergences.DIVERGENCES)
    assert set(names.F_GRPO_DIVERGENCES) == set(f_grpo.LINKS)


def test_settings_and_table_need_no_torch():
    import subprocess
    import sys

    code = "import sys; sys.modules['torch'] = None; import frpo_verl.methods.names, frpo_verl.methods.settings, frpo_verl.methods"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
