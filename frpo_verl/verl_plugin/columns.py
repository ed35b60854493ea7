"""The log-probs of a batch, judged once, in the driver, on the whole batch: a placeholder, NaN and infinity.

A NaN that goes on is in every loss of every worker. An answer whose *reference* has one may be left out
(`on_nonfinite: zero_row`); NaN of the policy itself stops the run, because the actor would go on computing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import torch

from ..core.soundness import all_zero, nonfinite_rows
from ..core.tokens import keep
from ..methods.settings import FrpoSettings
from .batch import Batch

REFERENCE = "ref_log_prob"
LEFT_OUT = "frpo/nonfinite_rows"
EMPTIED = ("response_mask", "loss_mask", "ref_log_prob")  # columns of 0 in an answer that is left out


@contextmanager
def clean(view: Batch) -> Iterator[None]:
    """Within, no advantage, loss or count of verl's holds an answer that is left out.

    Its mask and its reference are 0 in the batch and in the queue behind it, so that the workers see them too; its
    prompt's id is its own until the advantages are made, so that it stands in no group. With it go the other rows of
    its session.

    Raises:
        RuntimeError: a reference that is 0 on every response token.
        FloatingPointError: NaN or infinity on a response token, unless the answer may be left out.
    """
    if view.run.has_teacher and view.source is not None:
        view.data.batch[REFERENCE] = view.source.teacher()
    rows = _left_out(view)
    if rows is None:
        yield
        return
    data, ids = view.data, view.data.non_tensor_batch.get("uid")
    for name in EMPTIED:
        if name in view:
            column = data.batch[name]
            data.batch[name] = keep(column, ~rows[:, None].expand_as(column))
    places = rows.nonzero().flatten().tolist()
    if view.source is not None and view.row_keys is not None:
        view.source.empty([view.row_keys[i] for i in places], EMPTIED)
    if ids is not None:
        alone, answers = np.array(ids, dtype=object), view.sessions.get("session_ids", torch.arange(len(ids)))
        for i in places:
            alone[i] = f"{ids[i]}/left out {int(answers[i])}"
        data.non_tensor_batch["uid"] = alone
    try:
        yield
    finally:
        if ids is not None:
            data.non_tensor_batch["uid"] = ids


def _left_out(view: Batch) -> torch.Tensor | None:
    """(B,) bool, the answers to leave out; None if there is none. Raises as `clean` does."""
    run, mask = view.run, view.optional("response_mask")
    old, ref = view.optional("old_log_probs"), view.optional(REFERENCE)
    if mask is None:
        return None
    if old is not None and (bad := nonfinite_rows(old, mask)) is not None:
        cure = "the policy itself computes it: find the cause in the actor, or resume from an earlier checkpoint"
        _stop(view, "old_log_probs", old, mask, bad, cure)
    reads = run.needs_reference or run.has_teacher
    if ref is None or not (reads or run.local_kl_keys):
        return None
    if reads and all_zero(ref, mask):
        raise RuntimeError(
            f"{_reader(view)}: ref_log_prob is 0 on every token, a placeholder and not a reference; check that the "
            "reference model is loaded (actor_rollout_ref.ref)"
        )
    settings = run.estimator_settings
    may_be_left_out = isinstance(settings, FrpoSettings) and settings.on_nonfinite == "zero_row"
    bad = nonfinite_rows(ref, mask)
    if may_be_left_out:
        view.metrics[LEFT_OUT] = 0
    if bad is None:
        return None
    if not may_be_left_out:
        also = "set algorithm.frpo.on_nonfinite=zero_row to leave such answers out, or " * run.regularizes_advantage
        _stop(view, "ref_log_prob", ref, mask, bad, f"{also}find the cause in the reference model")
    if view.sessions:  # a sum runs through all rows of a session
        sessions = view.sessions["session_ids"]
        bad = torch.isin(sessions, sessions[bad.cpu()]).to(mask.device)
    view.metrics[LEFT_OUT] = int(bad.sum())
    return bad


def _stop(view: Batch, name: str, column: torch.Tensor, mask: torch.Tensor, bad: torch.Tensor, cure: str) -> NoReturn:
    row = int(bad.nonzero()[0])
    position = int((mask[row].bool() & ~torch.isfinite(column[row])).nonzero()[0])
    raise FloatingPointError(
        f"{_reader(view)}: {name} is not finite at row {row}{view.uid(row)}, response position {position} "
        f"({int(bad.sum())} such rows); {cure}"
    )


def _reader(view: Batch) -> str:
    """`key=name` of what reads the reference, for messages."""
    for method, settings in view.run.chosen:
        if "reference" in method.all_needs(settings):
            return method.typed
    return f"adv_estimator={view.run.estimator_name}"
