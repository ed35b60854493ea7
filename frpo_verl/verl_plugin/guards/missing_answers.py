"""Needed until verl counts the answers that failed (verl#7082 can ask for them again): missing ones are logged, and may stop a run.

Prompts that a dead engine failed are dropped, and the batch is filled up with synthetic rows.
"""

from __future__ import annotations

from typing import Any

from .. import metrics
from ..hooks import say
from ..root_keys import counts, number
from ..run import Run
from .weight_transfer import RolloutEngineGone

LIMIT_KEY = "max_missing_answers"
PADDED, MISSING = "frpo/padded_rows_share", "frpo/missing_answers_share"
WARN_ABOVE = 0.1


def count(run: Run, batch: Any) -> None:
    """Log the shares of a V1 trainer's batch that no rollout has written.

        padded rows = rows that verl made up / all rows,      missing answers = 1 - sessions / (prompts * n), at least 0

    Padding says nothing by itself: verl also fills a whole batch up to a multiple of its ranks. Missing answers are
    counted where `max_missing_answers` counts: other trainers take what is there.

    Raises RolloutEngineGone: more are missing than the share `max_missing_answers`; 1 never stops a run.
    """
    if getattr(batch, "tags", None) is None:
        return
    padded = [bool(tag.get("is_padding", False)) for tag in batch.tags]
    found = {PADDED: sum(padded) / max(1, len(padded))}
    if counts(run, LIMIT_KEY):
        prompts = int(run.get("data.train_batch_size", 0)) // int(run.get("trainer.v1.sync.parameter_sync_step", 1))
        wanted = prompts * int(run.get("actor_rollout_ref.rollout.n", 1))
        pairs = zip(batch.keys, padded, strict=True)
        sessions = {key.rsplit("_", 1)[0] for key, synthetic in pairs if not synthetic}  # {uid}_{session}_{output}
        if wanted:
            found[MISSING] = max(0.0, 1.0 - len(sessions) / wanted)
    metrics.log(found)
    share, highest = found.get(MISSING, 0.0), number(run, LIMIT_KEY)
    line = f"{share:.0%} of the answers in this batch are missing: the rollout engine failed or dropped them (look above for its first error)"
    if share > highest:
        raise RolloutEngineGone(f"{line}; {LIMIT_KEY}={highest:g} stops the run here, raise it to go on")
    if share > WARN_ABOVE:
        say(line)
