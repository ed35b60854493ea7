"""main_ppo on what the next verl may be: two steps on edited copies of the installed one."""

import os

import e2e
import pytest
import verl_edits
from documented_metrics import assert_documented

pytestmark = pytest.mark.e2e
EDITS = {"all at once": verl_edits.AT_ONCE, **verl_edits.NEXT}
UNKNOWN = ("estimators are given the batch", "hooks before the advantage", "all at once")  # a wrapped text is changed


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return e2e.make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize(
    "edit", [pytest.param(name, marks=[] if name == "all at once" else [pytest.mark.apart]) for name in EDITS]
)
def test_frpo_trains_on_it(inputs, tmp_path, edit):
    copy, run = verl_edits.write_copy(tmp_path / "copy", EDITS[edit]), tmp_path / "run"
    hooks = ["+trainer.pre_advantage_hooks=[verl_edits.mask_all]"] if edit.startswith("hooks") else []
    path = os.pathsep.join([str(copy), e2e.environment(run)["PYTHONPATH"]])
    status, output = e2e.execute(
        e2e.command(inputs, run, "trainer.total_training_steps=2", *hooks), run, {"PYTHONPATH": path}
    )
    assert status == 0, output[-5000:]
    assert ("the self-test passes, the run goes on" in output) == (edit in UNKNOWN)
    metrics = e2e.metrics(run)
    if hooks:  # a group that a hook has masked takes part with neither its reward nor its KL
        assert [metrics[step]["actor/grad_norm"] for step in (1, 2)] == [0, 0]
        return
    assert_documented(metrics[2])
    assert metrics[1]["frpo/kl_to_ref/k1"] == pytest.approx(0, abs=1e-6)
    assert metrics[2]["frpo/kl_to_ref/k3"] > 1e-4
