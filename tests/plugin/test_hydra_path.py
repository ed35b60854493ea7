"""Hydra applications that do not run verl see nothing of the plugin; a closed `hydra_plugins` hides no recipe from those that do."""

import os
import subprocess
import sys

import pytest

APP = """
import hydra

@hydra.main(config_path=None, version_base=None)
def main(config):
    print("ran with", dict(config))

main()
"""


def run(*command: str, path) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command], capture_output=True, text=True, timeout=300, cwd=path,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip


def test_an_application_that_is_not_verls_sees_none_of_our_groups(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    listed = run("app.py", "--help", path=tmp_path)
    assert listed.returncode == 0 and "Hydra" in listed.stdout
    assert not any(word in listed.stdout for word in ("frpo", "method:", "recipe:", "layout:"))
    for typed in ("method=frpo", "+method=frpo", "+recipe=smoke"):
        typed_in = run("app.py", typed, path=tmp_path)
        # Hydra takes `+method=frpo` for a new key of the application's own where there is no such group
        assert typed_in.returncode == 1 or typed_in.stdout == f"ran with {dict([typed[1:].split('=')])}\n"
    assert run("app.py", "method=frpo", path=tmp_path).returncode == 1


@pytest.fixture
def closed(tmp_path):
    """A distribution that ships `hydra_plugins/__init__.py`."""
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()
    return tmp_path


@pytest.mark.slow
def test_a_closed_namespace_is_said_and_hides_no_recipe(closed):
    shown = run("-m", "verl.trainer.main_ppo", "+recipe=smoke", "method=frpo", "--cfg", "job", path=closed)
    assert shown.returncode == 0 and "adv_estimator: frpo" in shown.stdout, shown.stderr[-2000:]
    (line,) = [line for line in shown.stderr.splitlines() if line.startswith("frpo_verl:")]
    assert f"{closed}/hydra_plugins/__init__.py hides the Hydra plugins" in line and "delete that file" in line


@pytest.mark.slow
def test_the_doctor_says_that_the_namespace_is_closed(closed):
    result = run("-m", "frpo_verl", "doctor", path=closed)
    assert f"recipes            {closed}/hydra_plugins/__init__.py hides" in result.stdout
