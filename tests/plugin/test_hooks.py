"""The table of seams: known sources, what happens with unknown ones, cost, and failure that is heard."""

import importlib
import json
import os
import shutil
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


def target(x, y=2):
    return x + y


target.__module__ = "verl.somewhere"


@pytest.fixture
def place(monkeypatch):
    """A table of one row, and the module that it wraps."""

    def make(**changes):
        row = {"module": "verl.somewhere", "name": "target", "does": "times_ten:wrap", "reason": "a test", **changes}
        entry, module = hooks.Seam(**row), SimpleNamespace(__name__="verl.somewhere", target=target)
        monkeypatch.setattr(hooks, "SEAMS", [entry])
        monkeypatch.setattr(hooks.Seam, "load", lambda self: lambda call: call() * 10 + call["y"])
        hooks.apply(entry, module)
        return entry, module

    return make


def test_a_wrap_gets_each_call_and_is_applied_once(place):
    entry, module = place(reads="y")
    for _ in range(2):
        assert module.target(1) == 32 and module.target(1, y=0) == 10
        hooks.apply(entry, module)
    with pytest.raises(TypeError, match=r"target\(\) got an unexpected keyword argument 'z'"):
        module.target(1, z=0)


@pytest.mark.parametrize("changes, why", [
    ({"name": "gone"}, "AttributeError"),
    ({"reads": "x z"}, "TypeError: it has no argument 'z'"),
])  # fmt: skip
def test_a_seam_that_cannot_be_applied_is_heard(place, capsys, changes, why):
    entry, module = place(**changes)
    assert entry.status.startswith(f"failed: {why}") and module.target is target
    assert f"{entry.place} [times_ten:wrap] failed: {why}" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match=f"frpo_verl: {entry.place}"):
        health.require()


def test_a_function_of_verls_that_has_moved_is_heard(place, monkeypatch):
    """The old name would be wrapped, and verl's own callers would use the new one."""
    monkeypatch.setattr(target, "__module__", "verl.elsewhere")
    entry, _ = place()
    assert entry.status == "failed: ImportError: it is verl.elsewhere.target now"
    monkeypatch.setattr(target, "__module__", "somebody.elses")  # another plugin was here before
    assert place()[0].status == "unknown source"


@pytest.fixture
def judge(monkeypatch):
    """`health.require("driver")` with a self-test that says what it is told."""

    def ask(failures):
        monkeypatch.setattr(health, "failures_of", lambda place: failures)
        health.judge.cache_clear()
        health.require("driver")

    yield ask
    health.judge.cache_clear()


@pytest.mark.parametrize("known", [True, False])
def test_a_known_source_is_silent_and_an_unknown_one_is_said_in_one_line(place, capsys, judge, known):
    entry, _ = place()
    entry.status = "applied" if known else entry.status
    judge([])
    said = capsys.readouterr().err
    assert (said == "") if known else (said.count("\n") == 1 and "is unknown here (verl.somewhere.target" in said)
    assert known or "the self-test passes, the run goes on" in said


def test_a_self_test_that_fails_stops_runs_of_ours_and_can_be_overlooked(monkeypatch, capsys, judge):
    monkeypatch.delenv(health.ALLOW_UNTESTED, raising=False)
    with pytest.raises(RuntimeError, match="self-test fails at ppo_loss: expected 1, came 2; install verl 0.9.0 or 0."):
        judge(["ppo_loss: expected 1, came 2"])
    monkeypatch.setenv(health.ALLOW_UNTESTED, "1")
    judge(["ppo_loss: expected 1, came 2"])
    assert "are overlooked (FRPO_VERL_ALLOW_UNTESTED=1), the first: ppo_loss" in capsys.readouterr().err


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
@pytest.mark.parametrize("by, found", [
    ({}, "all good | entry point verl.plugins | adv_estimator=frpo | loss_mode=atr_grpo | known source (0.9.0, 0.9.1)"),
    ({"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": "frpo_verl"}, "MODULES=frpo_verl | all good"),
    ({"VERL_USE_EXTERNAL_PLUGINS": "none"}, "problem: door: none: `import verl` does not load frpo_verl"),
])  # fmt: skip
def test_the_doctor_names_the_door(by, found):
    result = python("-m", "frpo_verl", "doctor", **by)
    assert result.returncode == ("problem" in found), result.stdout[-2000:]
    for text in found.split(" | "):
        assert text in result.stdout


def test_unknown_commands_name_the_nearest():
    main = importlib.import_module("frpo_verl.__main__").main
    assert main([]) == 2 and main(["--help"]) == 0 and main(["docter"]) == 2
