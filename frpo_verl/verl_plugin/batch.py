"""A view of the batch of an advantage, which verl holds but does not pass on.

verl calls a registered estimator with rewards and mask. The columns that are missing stand in the batch that the caller
holds, and in the V1 trainer's queue behind it; the seams open views of both for the length of the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from ..core.tokens import dense_ids
from .run import Run, current

STEP = "frpo_verl_step"  # in the extra_info of a batch
MISSING = {
    "old_log_probs": "recompute them (algorithm.rollout_correction.bypass_mode=false)",
    "ref_log_prob": "the reference model is not running: the plugin must be loaded where the trainer starts",
}


@dataclass(frozen=True)
class Source:
    """The V1 trainer's queue behind a batch: columns that the trainer left there."""

    keys: list[str]
    partition: Any
    tokenizer: Any = None
    step: int | None = None
    last_step: int | None = None

    def padded(self, column: str) -> torch.Tensor | None:
        """A column as a padded tensor; None if the queue has none of this name."""
        return dict(self._get(column).to_padded_tensor().items()).get(column)

    def teacher(self) -> torch.Tensor:
        """(B, T) log-probs of the response tokens under verl's distillation teacher; padded with 0.

        Raises RuntimeError: the queue has none.
        """
        from verl.workers.utils.padding import no_padding_2_padding

        columns = self._get("teacher_logprobs", "prompts", "responses")
        if "teacher_logprobs" not in columns.keys():
            raise RuntimeError(
                "algorithm.frpo.reference=teacher: no teacher scored this batch; set distillation.enabled=true"
            )
        return no_padding_2_padding(columns["teacher_logprobs"], columns).squeeze(-1)

    def objects(self, column: str) -> list[Any]:
        """A column of Python objects."""
        return [getattr(item, "data", item) for item in list(self._get(column)[column])]

    def empty(self, keys: list[str], columns: Sequence[str]) -> None:
        """Put 0 into columns of some rows, where the workers read them."""
        import transfer_queue

        data = transfer_queue.kv_batch_get(keys=keys, partition_id=self.partition, select_fields=list(columns))
        zeros = TensorDict({name: torch.zeros_like(data[name]) for name in data.keys()}, batch_size=len(keys))
        transfer_queue.kv_batch_put(keys=keys, partition_id=self.partition, fields=zeros)

    def _get(self, *columns: str) -> Any:
        import transfer_queue

        return transfer_queue.kv_batch_get(keys=self.keys, partition_id=self.partition, select_fields=list(columns))


@dataclass
class Batch:
    """The batch of one advantage call.

    data: verl's DataProto. run: the run it belongs to. source: the V1 trainer's queue behind it.
    row_keys: `{uid}_{session}_{index}` of each row, in the V1 trainer; session_rule: verl's function that gives the
    outputs of one session one outcome. policy_rows: (B,) bool, rows that the policy sampled (None: all). from_trainer: False
    where an estimator was called with rewards and mask alone. returns: (B, T) what a critic learns, from outcome `gae`.
    """

    data: Any
    run: Run
    source: Source | None = None
    row_keys: list[str] | None = None
    session_rule: Callable | None = None
    policy_rows: torch.Tensor | None = None
    from_trainer: bool = True
    returns: torch.Tensor | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def __contains__(self, column: str) -> bool:
        return column in self.data.batch.keys()

    def column(self, name: str) -> torch.Tensor:
        """A column that the estimator cannot do without. Raises RuntimeError: it is missing, with what to do."""
        if not self.from_trainer:
            raise RuntimeError(
                f"adv_estimator={self.run.estimator_name} was called without the batch: the plugin is not loaded in this "
                "process (run `python -m frpo_verl doctor`), or this trainer does not go through verl's compute_advantage"
            )
        if name not in self:
            raise RuntimeError(
                f"adv_estimator={self.run.estimator_name} needs {name!r} in the batch and it is missing: {MISSING[name]}"
            )
        return self.data.batch[name]

    def optional(self, name: str, fetch: bool = False) -> torch.Tensor | None:
        """A column if the batch has it, or (with `fetch`) the queue behind it, which may hand it out padded wider."""
        if name in self:
            return self.data.batch[name]
        found = self.source.padded(name) if fetch and self.source is not None else None
        if found is None or found.shape[1] < self.mask.shape[1]:
            return None
        return found[:, : self.mask.shape[1]]

    @property
    def mask(self) -> torch.Tensor:
        """(B, T) verl's response mask, of whatever dtype."""
        return self.data.batch["response_mask"]

    @property
    def groups(self) -> torch.Tensor | None:
        """(B,) integers, equal for the answers to one prompt."""
        uid = self.data.non_tensor_batch.get("uid")
        return None if uid is None else dense_ids(uid, len(self.mask))

    @property
    def sessions(self) -> dict[str, torch.Tensor]:
        """`session_ids` and `session_index` of the rows; empty where each row is an answer."""
        parts = [key.rsplit("_", 1) for key in self.row_keys or ()]
        session_ids = dense_ids([session for session, _ in parts], len(parts))
        if len(session_ids.unique()) == len(parts):
            return {}
        return {"session_ids": session_ids, "session_index": torch.tensor([int(index) for _, index in parts])}

    def tokenizer(self, reader: str) -> Any:
        """The trainer's tokenizer, else the model's; RuntimeError where `reader` (for the message) can have neither."""
        if self.source is not None and self.source.tokenizer is not None:
            return self.source.tokenizer
        path = self.run.get("actor_rollout_ref.model.path")
        if path is None:
            raise RuntimeError(f"{reader} needs the tokenizer and this trainer hands none over: use step=length")
        return load_tokenizer(path)

    def uid(self, row: int) -> str:
        """The prompt's id of a row, for messages."""
        uid = self.data.non_tensor_batch.get("uid")
        return "" if uid is None else f", uid {np.asarray(uid)[row]}"


@functools.cache
def load_tokenizer(path: str) -> Any:
    from verl.utils import hf_tokenizer

    return hf_tokenizer(path)


# ------------------------------------------------------------------------------------------------ what is open now

_batch: ContextVar[Batch | None] = ContextVar("frpo_verl_batch", default=None)
_source: ContextVar[Source | None] = ContextVar("frpo_verl_source", default=None)


@contextmanager
def _opened(variable: ContextVar, value: Any) -> Iterator[Any]:
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def open_batch(data: Any, algorithm: Any = None, **facts: Any):
    """Open a view of `data` for the length of an advantage call; `algorithm` is the configuration that verl passes."""
    run = Run.of_algorithm(algorithm) if algorithm is not None else None
    if run is None or run.get("actor_rollout_ref") is None:  # a section alone: the run that this process trains
        run = current() or run or Run.of_algorithm(None)
    return _opened(_batch, Batch(data=data, run=run, source=_source.get(), **facts))


def open_source(keys: list[str], partition: Any, tokenizer: Any, step: int | None = None, last_step: int | None = None):
    """Open the V1 trainer's queue for the length of its advantage step."""
    return _opened(_source, Source(keys, partition, tokenizer, step, last_step))


def current_batch() -> Batch | None:
    """The batch whose advantages are being computed."""
    return _batch.get()
