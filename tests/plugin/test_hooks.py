"""The table of seams: known sources, what happens with unknown ones, cost, and failure that is heard."""

import importlib
import json
import os
import shutil
import sys
from types import SimpleNamespace

import pytest
from commands import python

import frpo_verl
from frpo_verl.verl_plugin import health, hooks


def test_every_wrapped_function_is_known_in_this_verl():
    hooks.import_all()
    assert hooks.troubles() == []
    for entry in hooks.SEAMS:
        assert entry.status == ("applied" if entry.active else "pending"), entry.label
        assert entry.reason and callable(entry.load())


def make_seam(monkeypatch, known):
    module = SimpleNamespace(__name__="m")

    def target(x):
        return x + 1

    module.target = target
    times_ten = SimpleNamespace(wrap=lambda original, x: original(x) * 10)
    monkeypatch.setitem(sys.modules, "frpo_verl.verl_plugin.times_ten", times_ten)
    entry = hooks.Seam("m", "target", "times_ten:wrap", "a test", known)
    monkeypatch.setattr(hooks, "SEAMS", [entry])
    hooks._apply(entry, module)
    return entry, module


def test_a_wrap_gets_the_original_and_is_applied_once(monkeypatch):
    entry, module = make_seam(monkeypatch, {})
    assert module.target(1) == 20
    hooks._apply(entry, module)
    assert module.target(1) == 20


@pytest.fixture
def judge(monkeypatch):
    """`health.require("driver")` with a self-test that says what it is told."""

    def ask(failures):
        monkeypatch.setattr(health, "failures_of", lambda place: failures)
        health._judge.cache_clear()
        health.require("driver")

    yield ask
    health._judge.cache_clear()


@pytest.mark.parametrize("known", [True, False])
def test_a_known_source_is_silent_and_an_unknown_one_is_said_in_one_line(monkeypatch, capsys, judge, known):
    entry, _ = make_seam(monkeypatch, {} if known else {"0" * 16: "0.0.1"})
    entry.status = "applied" if known else entry.status
    judge([])
    said = capsys.readouterr().err
    assert (said == "") if known else (said.count("\n") == 1 and "is unknown here (m.target" in said)
    assert known or "the self-test passes, the run goes on" in said


def test_a_self_test_that_fails_stops_runs_of_ours_and_can_be_overlooked(monkeypatch, capsys, judge):
    make_seam(monkeypatch, {"0" * 16: "0.0.1"})
    monkeypatch.delenv(health.ALLOW_UNTESTED, raising=False)
    with pytest.raises(RuntimeError, match="self-test fails at ppo_loss: expected 1, came 2; install verl 0.0.1"):
        judge(["ppo_loss: expected 1, came 2"])
    monkeypatch.setenv(health.ALLOW_UNTESTED, "1")
    judge(["ppo_loss: expected 1, came 2"])
    assert "are overlooked (FRPO_VERL_ALLOW_UNTESTED=1), the first: ppo_loss" in capsys.readouterr().err


def test_a_seam_that_cannot_be_applied_is_heard(monkeypatch, capsys):
    entry = hooks.Seam("m", "gone", "times_ten:wrap", "a test")
    monkeypatch.setattr(hooks, "SEAMS", [entry])
    hooks._apply(entry, SimpleNamespace(__name__="m"))
    assert entry.status.startswith("failed: AttributeError") and "m.gone" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="m.gone"):
        health.require()


@pytest.mark.slow
def test_a_plugin_that_does_not_load_says_so_at_start_and_on_use(tmp_path):
    """A copy of the package whose seams cannot be imported: heard on import of verl, and again from a stub."""
    shutil.copytree(os.path.dirname(frpo_verl.__file__), tmp_path / "frpo_verl", symlinks=False)
    (tmp_path / "frpo_verl" / "verl_plugin" / "seams.py").write_text("raise ImportError('broken on purpose')\n")
    code = (
        "import verl; from verl.trainer.ppo import core_algos as c\n"
        "try: c.get_adv_estimator_fn('frpo')()\nexcept RuntimeError as e: print('USE', e)"
    )
    result = python(code=code, cwd=tmp_path, path=[tmp_path])
    assert "frpo_verl did not load: ImportError: broken on purpose" in result.stderr
    assert "USE frpo_verl did not load: ImportError: broken on purpose" in result.stdout
    doctor = python("-m", "frpo_verl", "doctor", cwd=tmp_path, path=[tmp_path])
    assert doctor.returncode == 1
    assert "problem: the plugin did not load: ImportError: broken on purpose" in doctor.stdout


@pytest.mark.slow
def test_import_verl_loads_the_plugin_and_nothing_heavy():
    code = "import sys, json, verl; print(json.dumps(sorted(sys.modules)))"
    modules, without = (
        set(json.loads(python(code=code, VERL_USE_EXTERNAL_PLUGINS=policy).stdout.splitlines()[-1]))
        for policy in ("auto", "none")
    )
    assert "frpo_verl.verl_plugin.seams" in modules
    heavy = "scipy matplotlib sympy rich math_verify verl.trainer.ppo.core_algos transformers.generation".split()
    assert not modules & {"frpo_verl.verl_plugin.estimators", "frpo_verl.losses", "frpo_verl.report"}
    assert not (modules & set(heavy)) - without


@pytest.mark.slow
@pytest.mark.parametrize("env", [{}, {"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": "frpo_verl"}])
def test_both_doors_lead_in(env):
    code = "import verl; from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as r; print('frpo' in r)"
    assert python(code=code, **env).stdout.split()[-1] == "True"


@pytest.mark.slow
def test_the_closed_door_is_noticed_by_the_doctor():
    result = python("-m", "frpo_verl", "doctor", VERL_USE_EXTERNAL_PLUGINS="none")
    assert result.returncode == 1 and "problem: door: none: `import verl` does not load frpo_verl" in result.stdout


@pytest.mark.slow
def test_the_doctor_finds_nothing_wrong_here():
    result = python("-m", "frpo_verl", "doctor")
    assert result.returncode == 0, result.stdout[-2000:]
    loaded = ("all good", "entry point verl.plugins", "adv_estimator=frpo", "loss_mode=atr_grpo")
    for text in (*loaded, "known source (0.9.0, 0.9.1)"):
        assert text in result.stdout


def test_unknown_commands_name_the_nearest():
    main = importlib.import_module("frpo_verl.__main__").main
    assert main([]) == 2 and main(["--help"]) == 0 and main(["docter"]) == 2
