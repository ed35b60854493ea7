"""The self-test passes here, notices every seam that is missing, and judges edited copies of verl by what they do."""

import functools
import json
import os
import re
import sys

import pytest
import torch
import transfer_queue
import verl_edits
from commands import python

from frpo_verl.verl_plugin import hooks, metrics, run, selftest
from frpo_verl.verl_plugin.selftest import toy

WRAPPED = {  # what is taken out -> the check that says so
    "verl.trainer.ppo.ray_trainer.compute_advantage": "trainer.ppo: compute_advantage",
    "verl.trainer.ppo.v1.utils.compute_advantage_for_multi_trajectories": "PPOTrainer._compute_advantage",
    "verl.trainer.ppo.v1.trainer_base.PPOTrainer._compute_advantage": "the responses and the tokenizer",
    "verl.trainer.ppo.metric_utils.compute_data_metrics": "PPOTrainer._compute_advantage",
    "verl.workers.utils.losses.ppo_loss": "ppo_loss",
    "verl.trainer.ppo.core_algos.kl_penalty_forward": "kl_penalty_forward",
    "verl.trainer.ppo.utils.need_reference_policy": "need_reference_policy",
    "verl.trainer.ppo.v1.replay_buffer.ReplayBuffer._sync_metadata_from_transfer_queue": "replay_buffer.ReplayBuffer",
    "verl.trainer.ppo.v1.replay_buffer.ReplayBuffer.sample": "replay_buffer.ReplayBuffer",
    "verl.workers.engine_workers.TrainingWorker.save_checkpoint": "TrainingWorker.save_checkpoint",
    "verl.utils.config.validate_config": "validate_config",
}


@pytest.fixture(scope="module", autouse=True)
def applied():
    hooks.import_all()
    selftest.run_selftest()  # imports the rest


def test_it_passes_and_leaves_no_trace():
    config = toy.configuration("grpo")
    run.remember(config)
    metrics.log({"kept": 1.0})

    def state():
        functions = [getattr(transfer_queue, f"kv_{name}") for name in ("batch_get", "batch_put", "list", "clear")]
        return run.current().config is config, dict(os.environ), *functions, torch.get_rng_state().tolist()

    before = state()
    assert selftest.run_selftest() == []
    assert state() == before and metrics.take() == {"kept": 1.0}


def take_out(monkeypatch, path: str) -> None:
    """Put verl's own function back in every module of verl that has bound the wrap."""
    parts = path.split(".")
    module = next(".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1) if ".".join(parts[:n]) in sys.modules)
    *owners, name = parts[len(module.split(".")) :]
    owner = functools.reduce(getattr, owners, sys.modules[module])
    wrap = getattr(owner, name)
    original = wrap.__wrapped__
    if owners:
        monkeypatch.setattr(owner, name, original)
    for module in [m for n, m in sys.modules.items() if n.startswith("verl.")]:
        for bound in [n for n, value in vars(module).items() if value is wrap]:
            monkeypatch.setattr(module, bound, original)


@pytest.mark.parametrize("path", WRAPPED)
def test_a_wrap_that_is_missing_is_noticed(monkeypatch, path):
    take_out(monkeypatch, path)
    failures = selftest.run_selftest()
    assert any(WRAPPED[path] in line.split(": expected")[0] for line in failures), failures


@pytest.mark.parametrize("registry", ["ADV_ESTIMATOR_REGISTRY", "POLICY_LOSS_REGISTRY"])
def test_names_that_are_not_registered_are_noticed(monkeypatch, registry):
    from verl.trainer.ppo import core_algos

    monkeypatch.delitem(getattr(core_algos, registry), "frpo")
    assert any("frpo" in line for line in selftest.run_selftest())


def test_one_line_names_seam_expectation_and_what_came(monkeypatch):
    from verl.workers import engine_workers

    monkeypatch.setattr(engine_workers, "ppo_loss", lambda **_: (torch.tensor(3.0), {}))
    failures = selftest.run_selftest(selftest.WORKER)
    assert len(failures) == 3
    assert re.fullmatch(r"workers.utils.losses.ppo_loss: loss_mode=frpo: expected -?0\.\d+, came 3", failures[0])
    assert all("\n" not in line for line in failures)


@pytest.mark.slow
def test_a_worker_tests_its_loss_without_the_trainer():
    code = (
        "import sys, verl.workers.engine_workers\n"
        "from frpo_verl.verl_plugin import selftest as s\n"
        "print(s.run_selftest(s.WORKER), 'verl.trainer.ppo.v1.trainer_base' in sys.modules)"
    )
    result = python(code=code)
    assert result.stdout.splitlines()[-1] == "[] False", result.stderr[-2000:]


def test_inside_itself_it_does_nothing(monkeypatch):
    inner = []
    checks = {"outer": lambda: inner.append(selftest.run_selftest({"inner": lambda: 1 / 0}))}
    assert selftest.run_selftest(checks) == [] and inner == [[]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """What the self-test says of every edited copy of verl."""
    result = python(verl_edits.__file__, tmp_path_factory.mktemp("copies"))
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("edit", [*verl_edits.HARMLESS, *verl_edits.NEXT])
def test_a_harmless_edit_of_verl_passes(judged, edit):
    assert judged[edit] == []


@pytest.mark.slow
@pytest.mark.parametrize("edit", verl_edits.NEXT)
def test_the_doctor_on_what_the_next_verl_may_be(tmp_path, edit):
    folder = verl_edits.write_copy(tmp_path, verl_edits.NEXT[edit])
    result = python("-m", "frpo_verl", "doctor", path=[folder])
    assert result.returncode == 0 and "self-test          passes" in result.stdout, result.stdout[-3000:]
    assert ("this verl hands it to estimators" in result.stdout) == ("estimators are given the batch" in edit)
    assert ("absent: " in result.stdout) == ("without the legacy trainer" in edit)


HANDED_OVER = """
import sys
from verl.trainer.ppo.v1 import utils
from frpo_verl.verl_plugin import run
from frpo_verl.verl_plugin.selftest import driver, toy
assert utils.compute_advantage.__wrapped__.__module__ == sys.argv[1], utils.compute_advantage.__wrapped__.__module__
assert not hasattr(utils.compute_advantage.__wrapped__, "__wrapped__")
config = toy.configuration()
run.remember(config)
data = driver.toy_data()
data = utils.compute_advantage.__wrapped__(data, "frpo", num_repeat=1, config=config.algorithm)
toy.expect("advantages", toy.frpo(keys=toy.ALONE).advantages, data.batch["advantages"])
print("the same")
"""


@pytest.mark.slow
def test_a_verl_that_hands_the_batch_over_needs_no_wrap_of_compute_advantage(tmp_path):
    moved, given = verl_edits.NEXT["compute_advantage in trainer_utils"], verl_edits.GIVEN
    folder = verl_edits.write_copy(tmp_path, [*moved, ("trainer/ppo/trainer_utils.py", *given)])
    result = python("verl.trainer.ppo.trainer_utils", code=HANDED_OVER, path=[folder])
    assert result.stdout.endswith("the same\n"), result.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit, named",
    {
        "argument of compute_advantage renamed": "unexpected keyword argument 'adv_estimator'",
        "ref_log_prob renamed in the batch": "column ref_log_prob: expected in the batch",
        "ppo_loss does not call the registry": "workers.utils.losses.ppo_loss: loss_mode=frpo: expected",
        "compute_advantage drops non-tensor columns": "KeyError: 'uid' (verl/trainer/ppo/ray_trainer.py",
        "compute_advantage moved, the old name an alias": "compute_advantage of verl's own estimators: advantages of grpo",
        "argument of agg_loss renamed": "core_algos.agg_loss: expected the toy batch to pass, came TypeError",
    }.items(),
)
def test_a_harmful_edit_of_verl_is_named(judged, edit, named):
    assert any(named in line for line in judged[edit]), judged[edit]
