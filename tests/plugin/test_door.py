"""A command of ours ends with one line where verl cannot or does not load the plugin, and finds the recipes; others are left alone."""

import pytest
import verl  # noqa: F401 - a command that does not run verl is not asked
from commands import python

from frpo_verl.verl_plugin import health
from frpo_verl.verl_plugin.door import refuse_closed

LOSS = "actor_rollout_ref.actor.policy_loss"
OURS = f"""
algorithm.adv_estimator=frpo +recipe=smoke method=frpo {LOSS}.loss_mode=f_grpo
+algorithm.frpo.kl_coef=0.1 +{LOSS}.rpg.kl_coef=0.1 algorithm.kl_penalty=forward_kl
actor_rollout_ref.actor.kl_loss_type=js actor_rollout_ref.actor.kl_loss_type=alpha:0.5
actor_rollout_ref.actor.kl_loss_type=reverse_kl+
""".split()
SOMEBODY_ELSES = f"""
algorithm.adv_estimator=frpo_mine algorithm.kl_penalty=low_var_kl+ {LOSS}.loss_mode=rpg_mine
+recipe=theirs method=theirs
""".split()


@pytest.fixture
def old(monkeypatch):
    """A verl without the V1 trainer."""
    monkeypatch.setattr(health.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(health, "version", lambda: "0.8.0")
    health.too_old.cache_clear()
    yield
    health.too_old.cache_clear()


@pytest.mark.parametrize("typed", OURS)
def test_a_verl_that_is_too_old_is_named_with_those_that_work(old, typed):
    with pytest.raises(SystemExit, match=r"^frpo_verl: verl 0.8.0 has no V1 trainer.*install verl 0.9.0 or 0.9.1$"):
        refuse_closed(True, ["data.train_batch_size=8", typed])
    with pytest.raises(RuntimeError, match="verl 0.8.0 has no V1 trainer"):
        health.require("driver")


@pytest.mark.parametrize("typed", OURS)
def test_a_closed_door_is_named(monkeypatch, typed):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    with pytest.raises(SystemExit, match="verl does not load the plugin .VERL_USE_EXTERNAL_PLUGINS=none.: unset"):
        refuse_closed(False, [typed])
    refuse_closed(True, [typed])


def test_other_commands_are_left_alone(old):
    folders = ["trainer.default_local_dir=runs/frpo", "trainer.project_name=f_grpo"]
    refuse_closed(False, ["algorithm.adv_estimator=grpo", *folders])


@pytest.mark.parametrize("typed", SOMEBODY_ELSES)
def test_somebody_elses_name_that_looks_like_ours_is_left_alone(typed):
    refuse_closed(False, [typed])


@pytest.mark.slow
def test_the_command_ends_before_anything_starts():
    closed = {"VERL_USE_EXTERNAL_PLUGINS": "none"}
    result = python("-m", "verl.trainer.main_ppo", "algorithm.adv_estimator=frpo", **closed)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("frpo_verl: verl does not load the plugin")


# ---- the recipes on Hydra's search path

APP = """
import hydra

@hydra.main(config_path=None, version_base=None)
def main(config):
    print("ran with", dict(config))

main()
"""


def test_an_application_that_is_not_verls_sees_none_of_our_groups(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    listed = python("app.py", "--help", cwd=tmp_path)
    assert listed.returncode == 0 and "Hydra" in listed.stdout
    assert not any(word in listed.stdout for word in ("frpo", "method:", "recipe:", "layout:"))
    for typed in ("method=frpo", "+method=frpo", "+recipe=smoke"):
        typed_in = python("app.py", typed, cwd=tmp_path)
        # Hydra takes `+method=frpo` for a new key of the application's own where there is no such group
        assert typed_in.returncode == 1 or typed_in.stdout == f"ran with {dict([typed[1:].split('=')])}\n"
    assert python("app.py", "method=frpo", cwd=tmp_path).returncode == 1


@pytest.fixture
def closed(tmp_path):
    """A distribution that ships `hydra_plugins/__init__.py`."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()
    return tmp_path


@pytest.mark.slow
def test_a_closed_namespace_is_said_and_hides_no_recipe(closed):
    words = ("+recipe=smoke", "method=frpo", "--cfg", "job")
    shown = python("-m", "verl.trainer.main_ppo", *words, cwd=closed, path=[closed])
    assert shown.returncode == 0 and "adv_estimator: frpo" in shown.stdout, shown.stderr[-2000:]
    (line,) = [line for line in shown.stderr.splitlines() if line.startswith("frpo_verl:")]
    assert f"{closed}/hydra_plugins/__init__.py hides the Hydra plugins" in line and "delete that file" in line


@pytest.mark.slow
def test_the_doctor_says_that_the_namespace_is_closed(closed):
    result = python("-m", "frpo_verl", "doctor", cwd=closed, path=[closed])
    assert f"recipes            {closed}/hydra_plugins/__init__.py hides" in result.stdout
