"""Six rows of five toy answers for `selftest.py`, the right numbers, and a trainer without Ray to pass the rows through.

The right numbers are the core's, which its own tests prove: asked here is whether verl hands over the right tensors.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import OmegaConf

from ...core.advantages import Regularized, regularized_advantages
from ...core.chunks import last_rows, rows_of_answers, write_rows
from ...core.groups import group_advantages
from ...core.regularizers import Regularizer
from ...core.steps import steps_by_newline
from ...core.tokens import Columns, dense_ids

BETA = 0.25
NEWLINE = 7  # the token that ends a line
KEYS = ["a_0_0", "a_1_1", "a_1_0", "a_2_0", "b_0_0", "b_1_0"]  # {uid}_{session}_{index}: a_1 is one answer of two rows
ALONE = [f"{key[0]}_{i}_0" for i, key in enumerate(KEYS)]  # each row an answer
UIDS = [key[0] for key in KEYS]
PROMPTS = [[3, 4], [3, 4], [3, 4, 5], [3, 4], [6], [6]]
RESPONSES = [[2, NEWLINE, 5], [4, 2], [5, 4, NEWLINE, 3, 2], [2], [3, NEWLINE, 4, 2], [5, 2, 2]]
MASKS = [[1, 1, 1], [1, 1], [1, 0, 1, 1, 1], [1], [1, 1, 1, 1], [1, 1, 1]]  # one tool token
SCORES = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.75, 0.25])
TOLERANCE = 1e-5


def nested(rows) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.as_tensor(row) for row in rows], layout=torch.jagged)


def padded(rows) -> torch.Tensor:
    return nested(rows).to_padded_tensor(0)


def cut(x: torch.Tensor) -> list[torch.Tensor]:
    """The rows of (6, 5), each as long as its response."""
    return [row[: len(response)] for row, response in zip(x, RESPONSES, strict=True)]


MASK = padded(MASKS).bool()
_random = torch.Generator().manual_seed(0)
OLD, REF = (torch.where(MASK, -1.5 * torch.rand(MASK.shape, generator=_random), 0.0) for _ in range(2))
NEW = OLD + torch.where(MASK, torch.tensor([0.04, -0.04, 0.04, -0.04, 0.04]), 0.0)  # ratios within every clip range


class Mismatch(Exception):
    """Something came out that is not what the equation says."""


def expect(what: str, expected: Any, came: Any) -> None:
    """Raise Mismatch unless `came` is `expected`: equal, or close for numbers and tensors."""
    if isinstance(expected, torch.Tensor) and isinstance(came, torch.Tensor) and came.shape == expected.shape != ():
        far = (came - expected).abs() > TOLERANCE * expected.abs().clamp(min=1.0)
        if bool((far | came.isnan()).any()):
            row = int((far | came.isnan()).flatten(1).any(-1).int().argmax())
            raise Mismatch(f"{what}, row {row}: expected {_short(expected[row])}, came {_short(came[row])}")
        return
    if isinstance(expected, float) and isinstance(came, (int, float)):
        same = abs(expected - came) <= TOLERANCE * max(1.0, abs(expected))
    else:
        same = type(expected) is type(came) and not isinstance(expected, torch.Tensor) and expected == came
    if not same:
        raise Mismatch(f"{what}: expected {_short(expected)}, came {_short(came)}")


def _short(value: Any) -> str:
    value = value.tolist() if isinstance(value, torch.Tensor) else value
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.5g}" if isinstance(value, float) else repr(value)


def place_of(error: Exception) -> str:
    """Where in verl or in the plugin an exception was raised: ` (trainer/ppo/utils.py:75)`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for package in ("/verl/", "/frpo_verl/"):
            if package in frame.filename and "/selftest/" not in frame.filename:
                return f" ({package[1:]}{frame.filename.rsplit(package, 1)[1]}:{frame.lineno})"
    return ""


# ------------------------------------------------------------------------------------------- what is right


def _sessions(keys: list[str]) -> dict[str, torch.Tensor]:
    parts = [key.rsplit("_", 1) for key in keys]
    ids = dense_ids([session for session, _ in parts], len(keys))
    return {"session_ids": ids, "session_index": torch.tensor([int(index) for _, index in parts])}


def outcome(keys: list[str] = KEYS) -> torch.Tensor:
    """(6,) GRPO's advantage of each row: group statistics over each session's last row, shared by its rows."""
    answers, rows = rows_of_answers(len(keys), **_sessions(keys)), torch.empty(len(keys))
    last = last_rows(answers)
    write_rows(group_advantages(SCORES[last], dense_ids(UIDS, len(keys))[last]), answers, rows)
    return rows


def spread(rows: torch.Tensor) -> torch.Tensor:
    """(6, 5) one value for each row, on its response tokens."""
    return torch.where(MASK, rows[:, None], 0.0)


def frpo(newline: bool = False, keys: list[str] = KEYS, log_prob: torch.Tensor = OLD) -> Regularized:
    """A - beta * sum_{j>=t} log pi/pi_ref; from t's line start, with `newline`."""
    lines = steps_by_newline(padded(RESPONSES), MASK, lambda i: "\n" * (i == NEWLINE)) if newline else None
    batch = Columns(log_prob, REF, MASK, outcome(keys), step_begins=lines, **_sessions(keys))
    return regularized_advantages(batch, Regularizer(BETA))


def ratio_loss(advantages: torch.Tensor) -> float:
    """-mean of A pi_new/pi_old: what a clipped loss is while nothing is clipped."""
    return float(-(advantages * torch.exp(NEW - OLD))[MASK].mean())


# ------------------------------------------------------------------------------------------- the toy run


def configuration(estimator: str = "frpo", frpo: dict | None = None, policy_loss: dict | None = None, n: int = 4):
    """The part of a run's configuration that verl's functions under test and the plugin read."""
    section = {"frpo": {"kl_coef": BETA, **(frpo or {})}} if estimator == "frpo" else {}
    actor = {
        "strategy": "fsdp2", "use_kl_loss": False, "kl_loss_coef": 0.0, "loss_agg_mode": "token-mean",
        "loss_scale_factor": None, "policy_loss": {"loss_mode": "vanilla", **(policy_loss or {})},
    }  # fmt: skip
    algorithm = {
        "adv_estimator": estimator, "gamma": 1.0, "lam": 1.0, "norm_adv_by_std_in_grpo": True,
        "use_kl_in_reward": False, "kl_penalty": "kl", "rollout_correction": None, **section,
    }  # fmt: skip
    rollout = {"name": "hf", "n": n, "temperature": 1.0, "calculate_log_probs": False}
    return OmegaConf.create(
        {"algorithm": algorithm, "actor_rollout_ref": {"actor": actor, "rollout": rollout}, "trainer": {"use_v1": True}}
    )


@contextmanager
def in_place_of_the_queue(**functions: Any):
    """Other functions of transfer_queue by name."""
    import transfer_queue as tq

    kept = {name: getattr(tq, name) for name in functions}
    vars(tq).update(functions)
    try:
        yield
    finally:
        vars(tq).update(kept)


def queue_of_one_prompt(status: str, looks: int = 100):
    """A queue with one prompt and no answer to it; a buffer that looks at it longer is stopped."""
    left = iter(range(looks))

    def kv_list(*args, **kwargs):
        if next(left, None) is None:
            raise Mismatch(f"expected an end within {looks} looks for answers, came none")
        return {"train": {"a": {"is_prompt": True, "status": status, "global_steps": 1}}}

    return in_place_of_the_queue(kv_list=kv_list, kv_clear=lambda *args, **kwargs: None)


class Queue:
    """A dict in the place of TransferQueue: columns of the six rows by the names that verl gives them."""

    def __init__(self, keys: list[str] = KEYS):
        self.keys = keys
        ends = [torch.arange(len(r)) == len(r) - 1 for r in RESPONSES]
        self.fields: dict[str, Any] = {
            "uid": list(UIDS),
            "prompts": nested(PROMPTS),
            "responses": nested(RESPONSES),
            "response_mask": nested(MASKS),
            "rm_scores": nested([end * score for end, score in zip(ends, SCORES, strict=True)]),
            "extra_fields": [{} for _ in KEYS],
        }

    def get(self, keys, partition_id, select_fields=None):
        from verl.utils import tensordict_utils as tu

        chosen = [select_fields] if isinstance(select_fields, str) else select_fields or list(self.fields)
        return tu.get_tensordict({name: self.fields[name] for name in chosen if name in self.fields})

    def put(self, keys, partition_id, fields=None, tags=None, **_unused):
        self.fields.update(dict(fields.items()) if fields is not None else {})
        return self.batch()

    def batch(self):
        from transfer_queue import KVBatchMeta

        return KVBatchMeta(keys=list(self.keys), tags=[{} for _ in KEYS], partition_id="selftest")

    def padded(self, name: str) -> torch.Tensor:
        """(6, 5), 0 behind each row's end."""
        return self.fields[name].to_padded_tensor(0)

    def trainer(self, config) -> SimpleNamespace:
        """What verl's V1 trainer reads from itself; its workers write what verl's workers write."""

        def worker(values, *more):
            def compute(batch, **_unused):
                self.fields |= {name: of_model(values) for name in ("log_probs", *more)}
                return batch

            return compute

        actor = SimpleNamespace(compute_log_prob=worker(OLD, "entropy"))
        ref = SimpleNamespace(compute_ref_log_prob=worker(REF))
        tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join("\n" if i == NEWLINE else "x" for i in ids))
        return SimpleNamespace(
            config=config, actor_rollout_wg=actor, ref_policy_wg=ref, ref_in_actor=False, tokenizer=tokenizer,
            use_reference_policy=True, kl_ctrl_in_reward=None,
        )  # fmt: skip


def of_model(values: torch.Tensor) -> torch.Tensor:
    """Log-probs of the responses as a model puts them out: of prompt and response, shifted left by one."""
    pairs = zip(PROMPTS, cut(values), strict=True)
    return nested([torch.cat([row.new_zeros(len(p) - 1), row, row.new_zeros(1)]) for p, row in pairs])
