"""Six rows of five toy answers for `selftest.py`, a trainer without Ray to pass them through, and the right numbers.

The numbers are written as loops over Python floats, from the equations, so that they share no code with what they test.
"""

from __future__ import annotations

import math
import traceback
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from omegaconf import OmegaConf

BETA = 0.25
NEWLINE = 7  # the token that ends a line
KEYS = ["a_0_0", "a_1_1", "a_1_0", "a_2_0", "b_0_0", "b_1_0"]  # {uid}_{session}_{index}: a_1 is one answer of two rows
ALONE = [f"{key[0]}_{i}_0" for i, key in enumerate(KEYS)]  # each row an answer
UIDS = [key[0] for key in KEYS]
PROMPTS = [[3, 4], [3, 4], [3, 4, 5], [3, 4], [6], [6]]
RESPONSES = [[2, NEWLINE, 5], [4, 2], [5, 4, NEWLINE, 3, 2], [2], [3, NEWLINE, 4, 2], [5, 2, 2]]
MASKS = [[1, 1, 1], [1, 1], [1, 0, 1, 1, 1], [1], [1, 1, 1, 1], [1, 1, 1]]  # one tool token
SCORES = [1.0, 0.0, 0.5, 0.0, 0.75, 0.25]
OLD = [
    [-0.5, -1.1, -0.3],
    [-0.9, -0.2],
    [-0.7, 0.0, -1.3, -0.4, -0.6],
    [-0.8],
    [-0.35, -1.2, -0.1, -0.9],
    [-0.6, -0.5, -1.4],
]
REF = [
    [-0.7, -0.6, -0.9],
    [-0.4, -0.5],
    [-1.1, 0.0, -0.8, -0.9, -0.2],
    [-1.5],
    [-0.5, -0.7, -0.6, -0.3],
    [-0.2, -1.1, -0.9],
]
NEW = [[value + 0.04 * (-1) ** t for t, value in enumerate(row)] for row in OLD]  # ratios within every clip range
ROWS = range(len(KEYS))
TOLERANCE = 1e-5


class Mismatch(Exception):
    """Something came out that is not what the equation says."""


def expect(what: str, expected, came) -> None:
    """Raise Mismatch unless `came` is `expected`: equal, or close for numbers and nested lists of numbers."""

    def close(a, b) -> bool:
        if isinstance(a, list):
            return isinstance(b, list) and len(a) == len(b) and all(map(close, a, b))
        if isinstance(a, float):
            return isinstance(b, (int, float)) and abs(a - b) <= TOLERANCE * max(1.0, abs(a))
        return a == b

    if not close(expected, came):
        if isinstance(expected, list) and isinstance(came, list) and len(expected) == len(came):
            row = next(i for i, pair in enumerate(zip(expected, came, strict=True)) if not close(*pair))
            what, expected, came = f"{what}, row {row}", expected[row], came[row]
        raise Mismatch(f"{what}: expected {_short(expected)}, came {_short(came)}")


def _short(value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return f"{value:.5g}" if isinstance(value, float) else repr(value)


def place_of(error: Exception) -> str:
    """Where in verl or in the plugin an exception was raised: ` (trainer/ppo/utils.py:75)`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for package in ("/verl/", "/frpo_verl/"):
            if package in frame.filename and not frame.filename.endswith(("/selftest.py", "/selftest_toy.py")):
                return f" ({package[1:]}{frame.filename.rsplit(package, 1)[1]}:{frame.lineno})"
    return ""


# ------------------------------------------------------------------------------------------- what is right


def to_go(weights: list[list[float]], newline: bool = False, keys: list[str] = KEYS) -> list[list[float]]:
    """sum_{j>=t} of the answer's response tokens, its later rows included; of t's line start, with `newline`."""
    result = []
    for i in ROWS:
        session, index = keys[i].rsplit("_", 1)
        later = [j for j in ROWS if keys[j].rsplit("_", 1)[0] == session and keys[j].rsplit("_", 1)[1] > index]
        rest = sum(v * m for j in later for v, m in zip(weights[j], MASKS[j], strict=True))
        sums, start = [], 0
        for t in range(len(weights[i])):
            start = t if not newline or (t and RESPONSES[i][t - 1] == NEWLINE and MASKS[i][t - 1]) else start
            here = sum(v * m for v, m in zip(weights[i][start:], MASKS[i][start:], strict=True))
            sums.append((here + rest) * MASKS[i][t])
        result.append(sums)
    return result


def log_ratio(above=OLD, below=REF) -> list[list[float]]:
    return [[a - b for a, b in zip(x, y, strict=True)] for x, y in zip(above, below, strict=True)]


def outcome(keys: list[str] = KEYS) -> list[float]:
    """GRPO's advantage of each row: group statistics over each session's last row, shared by its rows."""
    last = {key.rsplit("_", 1)[0]: SCORES[i] for key, i in sorted(zip(keys, ROWS, strict=True))}
    result = []
    for key in keys:
        session = key.rsplit("_", 1)[0]
        group = [value for name, value in last.items() if name[0] == key[0]]
        mean = sum(group) / len(group)
        std = math.sqrt(sum((value - mean) ** 2 for value in group) / (len(group) - 1))
        result.append((last[session] - mean) / (std + 1e-6))
    return result


def spread(rows: list[float]) -> list[list[float]]:
    return [[value * m for m in mask] for value, mask in zip(rows, MASKS, strict=True)]


def frpo(newline: bool = False, keys: list[str] = KEYS) -> list[list[float]]:
    """A - beta * sum_{j>=t} log pi_old/pi_ref."""
    regularizer, base = to_go(log_ratio(), newline, keys), spread(outcome(keys))
    return [[a - BETA * r for a, r in zip(x, y, strict=True)] for x, y in zip(base, regularizer, strict=True)]


def softmax_weighted() -> list[list[float]]:
    """f-GRPO's `weights: softmax`: n softmax(+-score - log old) within the good and the other answers of a group."""
    rows, result = outcome(ALONE), []
    for i in ROWS:
        side = [j for j in ROWS if UIDS[j] == UIDS[i] and (rows[j] > 0) == (rows[i] > 0)]
        sign = 1 if rows[i] > 0 else -1
        log_old = {j: sum(v * m for v, m in zip(OLD[j], MASKS[j], strict=True)) for j in side}
        weight = {j: math.exp(sign * SCORES[j] - log_old[j]) for j in side}
        result.append(rows[i] * len(side) * weight[i] / sum(weight.values()))
    return spread(result)


def mean_over_tokens(values: list[list[float]]) -> float:
    valid = [v for row, mask in zip(values, MASKS, strict=True) for v, m in zip(row, mask, strict=True) if m]
    return sum(valid) / len(valid)


def ratio_loss(advantages: list[list[float]]) -> float:
    """-mean of A pi_new/pi_old: what a clipped loss is while nothing is clipped."""
    ratios = log_ratio(NEW, OLD)
    return mean_over_tokens([[-a * math.exp(r) for a, r in zip(x, y, strict=True)] for x, y in zip(advantages, ratios, strict=True)])  # fmt: skip


def k3_is() -> float:
    """mean of rho (1/w - 1 + log w), w = pi_new/pi_ref, rho = pi_new/pi_old."""
    w, rho = log_ratio(NEW, REF), log_ratio(NEW, OLD)
    return mean_over_tokens([[math.exp(r) * (math.exp(-d) - 1 + d) for r, d in zip(x, y, strict=True)] for x, y in zip(rho, w, strict=True)])  # fmt: skip


# ------------------------------------------------------------------------------------------- the toy run


def nested(rows) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def padded(rows) -> torch.Tensor:
    return nested(rows).to_padded_tensor(0)


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


LOOKS = 100  # of verl's replay buffer; one that looks on is stopped


@contextmanager
def queue_of_one_prompt(status: str):
    """A dict in the place of TransferQueue: one prompt, and no answer to it."""
    import transfer_queue as tq

    left = iter(range(LOOKS))

    def kv_list(*args, **kwargs):
        if next(left, None) is None:
            raise Mismatch(f"expected an end within {LOOKS} looks for answers, came none")
        return {"train": {"a": {"is_prompt": True, "status": status, "global_steps": 1}}}

    kept = tq.kv_list, tq.kv_clear
    tq.kv_list, tq.kv_clear = kv_list, lambda *args, **kwargs: None
    try:
        yield
    finally:
        tq.kv_list, tq.kv_clear = kept


class Columns:
    """A dict in the place of TransferQueue: columns of the six rows by the names that verl gives them."""

    def __init__(self, keys: list[str] = KEYS):
        self.keys = keys
        self.fields: dict[str, Any] = {
            "uid": list(UIDS),
            "prompts": nested(PROMPTS),
            "responses": nested(RESPONSES),
            "response_mask": nested(MASKS),
            "rm_scores": nested([[0.0] * (len(m) - 1) + [s] for m, s in zip(MASKS, SCORES, strict=True)]),
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

    @contextmanager
    def in_place_of_the_queue(self):
        import transfer_queue as tq

        kept = tq.kv_batch_get, tq.kv_batch_put
        tq.kv_batch_get, tq.kv_batch_put = self.get, self.put
        try:
            yield
        finally:
            tq.kv_batch_get, tq.kv_batch_put = kept

    def trainer(self, config) -> SimpleNamespace:
        """What verl's V1 trainer reads from itself; its workers write what verl's workers write."""

        def worker(values, *more):
            def compute(batch, **_unused):
                full = [[0.0] * (len(p) - 1) + row + [0.0] for p, row in zip(PROMPTS, values, strict=True)]
                self.fields |= {"log_probs": nested(full), **{name: nested(full) for name in more}}
                return batch

            return compute

        actor = SimpleNamespace(compute_log_prob=worker(OLD, "entropy"))
        ref = SimpleNamespace(compute_ref_log_prob=worker(REF))
        tokenizer = SimpleNamespace(decode=lambda ids, **_: "".join("\n" if i == NEWLINE else "x" for i in ids))
        return SimpleNamespace(
            config=config, actor_rollout_wg=actor, ref_policy_wg=ref, ref_in_actor=False, tokenizer=tokenizer,
            use_reference_policy=True, kl_ctrl_in_reward=None,
        )  # fmt: skip

    def rows(self, name: str) -> list[list[float]]:
        return [row.tolist() for row in self.fields[name].unbind()]
