"""Settings: what is refused, and that the line says which key, which value and what to do."""

import dataclasses

import pytest
import yaml
from tables import tables

from frpo_verl.methods import settings
from frpo_verl.methods.settings import ConfigError, FrpoSettings


@pytest.mark.parametrize("typed, line", tables("settings")["sections"])
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
