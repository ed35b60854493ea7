"""Answers that stop coming: the run ends in time and says who is gone; a batch without one answer is said as that."""

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import replay_buffer as rb

from frpo_verl.verl_plugin import run
from frpo_verl.verl_plugin.guards import waiting
from frpo_verl.verl_plugin.guards.waiting import NoAnswers, Silence


class Clock:
    """Seconds that pass when the test says so, and actors that leave when it says so."""

    def __init__(self, limit=100.0):
        self.seconds, self.alive = 0.0, {"hf_server_0_0", "reward_loop_worker_0", "agent_loop_worker_0_ab"}
        self.silence = Silence(limit, who=lambda: self.alive, now=lambda: self.seconds)

    def after(self, seconds, *rows):
        self.seconds += seconds
        self.silence.look(frozenset(rows), prompts=2)


def test_as_long_as_answers_come_a_run_may_take_its_time():
    clock = Clock()
    rows = []
    for i in range(5):
        rows.append(f"u_{i}_0")
        clock.after(99, *rows)
    clock.after(99)  # the batch was taken out, the next one begins
    clock.after(99)
    with pytest.raises(NoAnswers, match=r"no answer has come for 100 s \(2 prompts unfinished\): .*hangs"):
        clock.after(1)


@pytest.mark.parametrize("who, limit, seconds, said", [
    ("reward_loop_worker_0", 100.0, 99, "max_silence_s=N waits N seconds, 0 for ever"),  # its prompts do end, as failed
    ("agent_loop_worker_0_ab", float("inf"), 29, "no answer has come for 30 s"),  # its own never do: nobody waits for them
])  # fmt: skip
def test_who_is_gone_is_named(who, limit, seconds, said):
    clock = Clock(limit)
    clock.after(0)
    clock.alive = clock.alive - {who}
    clock.after(seconds)
    with pytest.raises(NoAnswers, match=f"{who} ended") as error:
        clock.after(1)
    assert said in str(error.value) and "\n" not in str(error.value)


def set_limit(value):
    run.remember(OmegaConf.create({"composed_by": "frpo_verl", "max_silence_s": value}))


@pytest.fixture
def queue(monkeypatch):
    """verl's replay buffer over a queue in memory, in a run of ours."""
    contents = {}
    in_memory = SimpleNamespace(kv_list=lambda: contents, kv_clear=lambda partition_id, keys: None)
    monkeypatch.setattr(rb, "tq", in_memory)
    monkeypatch.setattr(waiting, "actors", set)
    set_limit(0.2)
    buffer = rb.ReplayBuffer(
        trainer_mode="sync", trainer_config=OmegaConf.create({}), max_off_policy_threshold=10**6,
        max_off_policy_strategy="drop", sampler_kwargs=OmegaConf.create({}), poll_interval=0.01,
    )  # fmt: skip
    return buffer, contents


def prompts(*states):
    return {f"u{i}": {"is_prompt": True, "status": state, "global_steps": 1} for i, state in enumerate(states)}


def test_verls_buffer_stops_waiting_for_a_prompt_that_never_ends(queue):
    buffer, contents = queue
    contents["train"] = {**prompts("finished", "running"), "u0_0_0": {"status": "success"}}
    with pytest.raises(NoAnswers, match="1 prompts unfinished"):
        buffer.sample(global_steps=2, partition_id="train", batch_size=2)


@pytest.mark.parametrize("value, seconds", [(None, 3600.0), (90, 90.0), ("12.5", 12.5), (0, float("inf"))])
def test_the_limit(queue, value, seconds):
    buffer, _ = queue
    set_limit(value)
    buffer._sync_metadata_from_transfer_queue()
    assert buffer.frpo_silence.limit == seconds


def test_verls_buffer_says_that_every_answer_failed(queue):
    buffer, contents = queue
    contents["train"] = prompts("failure", "failure")
    with pytest.raises(NoAnswers, match="every answer of step 2's training batch failed: the reward function or"):
        buffer.sample(global_steps=2, partition_id="train", batch_size=2)
    contents["val"] = prompts("failure")
    with pytest.raises(NoAnswers, match="every answer of step 2's validation batch failed"):
        buffer.sample(global_steps=2, partition_id="val", batch_size=1)


def test_a_batch_with_answers_is_taken_as_before(queue):
    buffer, contents = queue
    contents["train"] = {**prompts("finished", "failure"), "u0_0_0": {"status": "success"}}
    batch, _ = buffer.sample(global_steps=2, partition_id="train", batch_size=2)
    assert batch.keys == ["u0_0_0"]


def test_a_run_that_is_not_ours_gets_verls_error(queue):
    run.forget()
    buffer, contents = queue
    contents["train"] = prompts("failure")
    with pytest.raises(RuntimeError, match="no materializable trajectories"):
        buffer.sample(global_steps=2, partition_id="train", batch_size=1)
    contents["val"] = prompts("failure")
    assert buffer.sample(global_steps=2, partition_id="val", batch_size=1)[0].keys == []
    assert not hasattr(buffer, "frpo_silence")
