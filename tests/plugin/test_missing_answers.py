"""Answers that no rollout has written are counted, said, and stop a run that asks for it."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from frpo_verl.verl_plugin import metrics
from frpo_verl.verl_plugin.guards import missing_answers as missing
from frpo_verl.verl_plugin.guards.weight_transfer import RolloutEngineGone
from frpo_verl.verl_plugin.run import Run

KEYS = ["a_0_0", "a_0_1", "a_1_0", "b_0_0", "padx_0_0", "padx_1_0"]  # a_0 is one answer in two outputs; b_1 is missing
TAGS = [{}, {}, {"is_padding": False}, {}, {"is_padding": True}, {"is_padding": True}]


def count(keys=KEYS, tags=TAGS, prompts=2, n=2, updates=1, **root):
    """The two metrics of a batch."""
    config = {
        "data": {"train_batch_size": prompts}, "actor_rollout_ref": {"rollout": {"n": n}},
        "trainer": {"v1": {"trainer_mode": root.pop("mode", "sync"), "sync": {"parameter_sync_step": updates}}},
        "algorithm": {"filter_groups": {"enable": root.pop("filters", False)}},
    }  # fmt: skip
    metrics.take()
    missing.count(Run(OmegaConf.create({**config, **root})), SimpleNamespace(keys=keys, tags=tags))
    return metrics.take()


def test_shares_of_padded_rows_and_missing_answers():
    assert count() == {missing.PADDED: pytest.approx(2 / 6), missing.MISSING: pytest.approx(1 / 4)}
    assert count(KEYS[:4], TAGS[:4], prompts=1) == {missing.PADDED: 0.0, missing.MISSING: 0.0}  # more than wanted


@pytest.mark.parametrize("taking", [{"mode": "colocate_async"}, {"filters": True}])
def test_a_trainer_that_takes_what_is_there_misses_nothing(taking):
    assert count(**taking) == {missing.PADDED: pytest.approx(2 / 6)}


@pytest.mark.parametrize("updates, rows", [(1, 4), (2, 2)])
def test_a_step_of_several_updates_asks_for_its_part_of_the_answers(updates, rows):
    """verl samples train_batch_size // parameter_sync_step prompts for each update (trainer_base.py, `step`)."""
    found = count([f"u{i}_0_0" for i in range(rows)], [{}] * rows, prompts=4, n=1, updates=updates)
    assert found[missing.MISSING] == 0.0


def test_missing_answers_warn_and_stop(capsys):
    count(prompts=3, n=1)
    assert capsys.readouterr().err == ""
    count(prompts=5, n=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("frpo_verl: 40% of the answers in this batch are missing: the rollout engine failed")
    count(prompts=5, n=1, max_missing_answers=0.4)
    with pytest.raises(RolloutEngineGone, match="40% of the answers.*max_missing_answers=0.3 stops the run here"):
        count(prompts=5, n=1, max_missing_answers=0.3)
