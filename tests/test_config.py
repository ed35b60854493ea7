"""Settings: what is refused, and that the line says which key, which value and what to do."""

import pytest

from frpo_verl.config import ConfigError, FrpoConfig


@pytest.mark.parametrize(
    "values, line",
    [
        ({"kl_coeff": 0.1}, "algorithm.frpo.kl_coeff: unknown key (did you mean 'kl_coef'?)"),
        ({"kl_coef": -1}, "algorithm.frpo.kl_coef=-1: must be a finite number >= 0"),
        ({"kl_coef": float("nan")}, "algorithm.frpo.kl_coef=nan: must be"),
        ({"kl_coef": True}, "algorithm.frpo.kl_coef=True: must be"),
        ({"kl_coef": "0.1"}, "algorithm.frpo.kl_coef='0.1': must be"),
        ({"divergence": "foo"}, "algorithm.frpo.divergence='foo': not one of reverse_kl,"),
        ({"divergence": "forwad_kl"}, "(did you mean 'forward_kl'?)"),
        ({"divergence": "alpha"}, "algorithm.frpo.alpha=None: must be a number other than 0 and 1"),
        ({"divergence": "alpha", "alpha": 1}, "algorithm.frpo.alpha=1: must be"),
        ({"alpha": 0.5}, "algorithm.frpo.alpha=0.5: only read by divergence=alpha"),
        ({"placement": "futur"}, "algorithm.frpo.placement='futur': not one of future,"),
        ({"discount": 1.5}, "algorithm.frpo.discount=1.5: must be between 0"),
        ({"placement": "local", "discount": 0.5}, "only read by placement=future"),
        ({"step": "length", "step_length": 0}, "algorithm.frpo.step_length=0: must be a whole number >= 1"),
        ({"placement": "reward", "baseline": "position"}, "algorithm.frpo.baseline=position: placement=reward has no"),
        ({"on_nonfinite": "ignore"}, "algorithm.frpo.on_nonfinite='ignore': not one of raise, zero_row"),
        ({"log_ratio_clip": 0}, "algorithm.frpo.log_ratio_clip=0: must be"),
        ({"allow_multiple_kl": 1}, "algorithm.frpo.allow_multiple_kl=1: must be true or false"),
    ],
)
def test_one_line_says_what_is_wrong(values, line):
    with pytest.raises(ConfigError) as error:
        FrpoConfig.parse(values)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_defaults_are_the_papers():
    settings = FrpoConfig.parse(None)
    assert (settings.kl_coef, settings.divergence, settings.placement) == (0.01, "reverse_kl", "future")


def test_an_estimator_of_one_divergence_fixes_it():
    assert FrpoConfig.parse({"kl_coef": 0.1}, "frpo_js").divergence == "js"
    assert FrpoConfig.parse({"divergence": "js"}, "frpo_js").divergence == "js"
    with pytest.raises(ConfigError, match="adv_estimator=frpo_js fixes it to 'js'"):
        FrpoConfig.parse({"divergence": "reverse_kl"}, "frpo_js")


def test_the_typed_names_are_those_of_the_core():
    from frpo_verl import advantages, divergences, names

    assert set(names.DIVERGENCES) == set(divergences.DIVERGENCES)
    assert set(names.PLACEMENTS) == set(advantages.PLACEMENTS) and set(names.BASELINES) == set(advantages.BASELINES)
