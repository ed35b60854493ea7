"""A run whose answers stop coming ends in time, with one line that says what is gone.

verl's replay buffer looks for finished answers in a loop without an end (trainer/ppo/v1/replay_buffer.py): a reward
function that hangs, or an agent loop whose process has died, leaves prompts that are never finished.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .hooks import arguments
from .root_keys import number
from .run import Run, current

LIMIT_KEY = "max_silence_s"
ASK_EVERY = 30.0  # seconds of silence between two questions who is still there
ENDLESS = "agent_loop_worker"  # verl's name of the actors without which a prompt is never finished, nor failed


class NoAnswers(RuntimeError):
    """No answer comes any more."""


def limit_seconds(run: Run) -> float:
    """Seconds without a new answer before a run stops: the root key `max_silence_s`, infinity for 0."""
    return number(run, LIMIT_KEY) or math.inf


def actors() -> set[str]:
    """The names of verl's actors that are alive."""
    import ray

    return set(ray.util.list_named_actors()) if ray.is_initialized() else set()


@dataclass
class Silence:
    """How long no answer has come, and who was there before."""

    limit: float
    who: Callable[[], set[str]] = actors
    now: Callable[[], float] = time.monotonic
    rows: frozenset[str] = frozenset()
    since: float | None = None
    asked: float = 0.0
    before: frozenset[str] = frozenset()

    def look(self, rows: frozenset[str], prompts: int) -> None:
        """Take note of the answers that are there now.

        Args:
            rows: keys of the answers in the queue.
            prompts: how many prompts wait for one.

        Raises:
            NoAnswers: none has come for `limit` seconds, or the process is gone that the prompts wait for.
        """
        if self.since is None or rows != self.rows:
            if self.since is None:
                self.before = frozenset(self.who())
            self.rows, self.since = rows, self.now()
            self.asked = self.since
            return
        silent = self.now() - self.since
        late = silent >= self.limit
        if not late and self.now() - self.asked < ASK_EVERY:
            return
        self.asked = self.now()
        gone = sorted(self.before - self.who())
        if late or any(name.startswith(ENDLESS) for name in gone):
            raise NoAnswers(
                f"no answer has come for {silent:.0f} s ({prompts} prompts unfinished): {_cause(gone)}. Start the "
                f"same command again to resume from the last checkpoint; {LIMIT_KEY}=N waits N seconds, 0 for ever"
            )


def _cause(gone: list[str]) -> str:
    if gone:
        return f"{', '.join(gone)} ended (look above for why; memory is the usual cause)"
    return "the reward function, the rollout engine or a tool hangs"


def look(original: Callable, buffer: Any, args: tuple, kwargs: dict) -> Any:
    """Around verl's `_sync_metadata_from_transfer_queue`, which every look for answers begins with."""
    result = original(buffer, *args, **kwargs)
    run = current()
    if run is not None and run.ours and hasattr(buffer, "partitions") and hasattr(buffer, "running_keys"):
        silence = getattr(buffer, "frpo_silence", None)
        if silence is None:
            silence = buffer.frpo_silence = Silence(limit_seconds(run))
        waiting = sum(map(len, buffer.running_keys.values())) + sum(map(len, buffer.pending_keys.values()))
        silence.look(frozenset(key for rows in buffer.partitions.values() for key in rows), waiting)
    return result


def sample(original: Callable, buffer: Any, args: tuple, kwargs: dict) -> Any:
    """Around verl's `ReplayBuffer.sample`: a batch without one answer is said as what it is, in validation too.

    Raises:
        NoAnswers: every prompt of the batch failed.
    """
    call = arguments(original, (buffer, *args), kwargs, "partition_id", "global_steps")
    run = current()
    if call is None or run is None or not run.ours:
        return original(buffer, *args, **kwargs)
    try:
        batch, metrics = original(buffer, *args, **kwargs)
    except RuntimeError as error:
        if isinstance(error, NoAnswers) or buffer.partitions.get(call["partition_id"]):
            raise
        raise all_failed(buffer, call["global_steps"], "training") from error
    if call["partition_id"] == "val" and not batch.keys:
        raise all_failed(buffer, call["global_steps"], "validation")
    return batch, metrics


def all_failed(buffer: Any, step: int, purpose: str) -> NoAnswers:
    """The error of a batch without one answer."""
    silence = getattr(buffer, "frpo_silence", None)
    gone = sorted(silence.before - silence.who()) if silence is not None else []
    cause = f"{', '.join(gone)} ended" if gone else "the reward function or the rollout engine failed"
    return NoAnswers(
        f"every answer of step {step}'s {purpose} batch failed: {cause} (the first `Error in _run_prompt` above names it). "
        "Start the same command again to resume from the last checkpoint"
    )
