r"""The reward for mathematical answers: `reward.custom_reward_function.path=pkg://frpo_verl.rewards.math`,
`name=compute_score`.

A response is judged in three steps, the cheapest first: find the final answer (extract.py), read it and the ground truth
as typed values and compare those (reading.py, compare.py), and only where algebra is needed ask math-verify in a separate
process that is killed at a deadline (pool.py). Importing this module imports neither torch, verl, sympy nor math-verify.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from frpo_verl.methods.names import nearest
from frpo_verl.rewards import compare, extract, guard, reading, spelling, units

logger = logging.getLogger("frpo_verl.rewards")

MAX_PRED_CHARS = 256  # `pred` in the result is cut to this length


class FailureWindow:
    """Counts failed verifications over the last `size` answers and warns once per `size` answers when more than
    `share` failed."""

    def __init__(self, size: int = 256, share: float = 0.05, minimum: int = 64) -> None:
        self.size, self.share, self.minimum = size, share, minimum
        self._failed: deque[bool] = deque(maxlen=size)
        self._count = 0  # of those in the window that failed
        self._since_warning = size
        self._lock = threading.Lock()

    def add(self, failed: bool) -> float | None:
        """Record one answer; return the failed share when a warning is due, else None."""
        with self._lock:
            self._count += failed - (self._failed[0] if len(self._failed) == self.size else 0)
            self._failed.append(failed)
            self._since_warning += 1
            rate = self._count / len(self._failed)
            if len(self._failed) < self.minimum or rate <= self.share or self._since_warning < self.size:
                return None
            self._since_warning = 0
            return rate


_window = FailureWindow()


def ground_truth_text(ground_truth: Any) -> str:
    r"""A ground truth as text: a list becomes "a, b", and `\boxed{x}` or `... #### x` becomes x."""
    if hasattr(ground_truth, "tolist"):
        ground_truth = ground_truth.tolist()
    if isinstance(ground_truth, (list, tuple)):
        ground_truth = ", ".join(str(part) for part in ground_truth)
    text = extract.clean_text(ground_truth)
    if "####" in text:
        return text.rpartition("####")[2].strip()
    return (extract.last_boxed(text) or text).strip()


def judge(
    pred: str, gold: str, *, deadline: float, memory_gb: float, max_answer_chars: int, workers: int | None
) -> tuple[bool, bool, str]:
    """Compare an extracted answer with a ground truth; return (equal, timed out, error text or "")."""
    if len(pred) > max_answer_chars and pred.strip() != gold:
        return False, False, f"the answer has {len(pred)} characters, more than max_answer_chars={max_answer_chars}"
    try:
        verdict = compare.compare(gold, pred)
        unread = verdict is False and reading.read(gold, True)[1:] == ("unread",)
        reason = guard.refuse(spelling.normalize(pred), spelling.normalize(gold)) if verdict is None else ""
    except Exception as error:  # a slip of the verifier must not end the training run
        return False, False, f"{type(error).__name__}: {error}"
    if unread:
        return False, False, f"the ground truth {gold[:80]!r} can't be read"
    if verdict is not None or reason:
        return bool(verdict), False, reason
    from frpo_verl.rewards import pool

    answer = pool.get_pool(workers=workers, memory_gb=memory_gb).verify(gold, pred, deadline)
    return answer.equal, answer.timed_out, answer.error


def soft_overlong(length: float, max_length: float, buffer: float) -> float:
    """DAPO's soft overlong penalty: 0 up to max_length - buffer, then down linearly to -1 at max_length and beyond.

        penalty = min(0, max(-1, (max_length - buffer - length) / buffer))

    All three in one unit. Raises ValueError when buffer is not in (0, max_length]. Source: DAPO, arXiv 2503.14476, equation 13.
    """
    if not 0 < buffer <= max_length:
        raise ValueError(f"overlong_buffer={buffer}: must be > 0 and <= overlong_max_length={max_length}")
    return min(0.0, max(-1.0, (max_length - buffer - length) / buffer))


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    deadline: float = 5.0,
    workers: int | None = None,
    memory_gb: float = 1.0,
    max_answer_chars: int = 1000,
    last_number_sources: Iterable[str] = extract.LAST_NUMBER_SOURCES,
    format_bonus: float = 0.0,
    overlong_max_length: int = 0,
    overlong_buffer: int = 0,
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
    **unknown: Any,
) -> dict[str, Any]:
    r"""Judge one response: score = acc (+ optional shaping), acc = 1.0 when its final answer equals the ground truth,
    else 0.0.

    Args:
        data_source: verl's `data_source`; decides whether the last number of a response counts as an answer.
        solution_str: the response.
        ground_truth: the right answer: text, a number, or a list of all answers that have to be given.
        extra_info: verl's `extra_info`; what its "question" names may be counted: `42 wombats` for `42`.
        deadline: seconds of CPU time after which a verification is killed and the answer counts as wrong, > 0.
        workers: processes of this process's pool (None: FRPO_VERL_VERIFY_WORKERS, else from the number of cores).
        memory_gb: address space of each of them, GiB.
        max_answer_chars: a longer final answer is judged by text alone.
        last_number_sources: data sources whose last number counts when there is no other mark of an answer.
        format_bonus: added when the answer was given in `\boxed{}` or after `####`. Makes the reward non-binary.
        overlong_max_length: DAPO's soft overlong penalty in characters (0: off). Makes the reward non-binary.
        overlong_buffer: the width of that penalty's ramp, in characters.
        reward_router_address: handed over by verl when a reward model is on; not used.
        reward_model_tokenizer: likewise.

    Returns:
        {"score": float, "acc": float 0/1, "pred": str, "verify_timeout": float 0/1, "verify_error": float 0/1}; the same
        keys and types in every row. `pred` is the answer in one spelling (numbers as "p/q"), "" when none was found.

    Raises:
        TypeError: for an unknown reward_kwargs key, naming the nearest known one.
        RuntimeError: when math-verify is needed and can't be started (nothing is scored 0 for that reason).
    """
    if unknown:
        known = [p.name for p in inspect.signature(compute_score).parameters.values() if p.kind is p.KEYWORD_ONLY]
        key = sorted(unknown)[0]
        raise TypeError(f"reward_kwargs.{key} is not known{nearest(key, known)}; known: {', '.join(known)}")
    if not deadline > 0:
        raise ValueError(f"reward_kwargs.deadline={deadline}: must be a number of seconds > 0")
    solution, gold = extract.clean_text(solution_str), ground_truth_text(ground_truth)
    answer = extract.extract_answer(solution, data_source, tuple(last_number_sources))
    question = extra_info.get("question") if isinstance(extra_info, Mapping) else None
    if answer is not None and isinstance(question, str):
        answer = units.without_things(answer, spelling.normalize(answer), question)
    equal, timed_out, error = False, False, ""
    if answer is not None and gold:
        equal, timed_out, error = judge(
            answer, gold, deadline=deadline, memory_gb=memory_gb, max_answer_chars=max_answer_chars, workers=workers
        )
    failed_share = _window.add(bool(timed_out or error))
    if failed_share is not None:
        logger.warning(
            "%.0f %% of the last answers (at most %d) could not be verified (last one: %s); they were scored as wrong. "
            "See verify_timeout and verify_error, and reward_kwargs deadline, memory_gb and max_answer_chars.",
            100 * failed_share, _window.size, "deadline" if timed_out else error or "none",
        )  # fmt: skip
    score = float(equal)
    if format_bonus and answer is not None and extract.is_marked(solution):
        score += float(format_bonus)
    if overlong_max_length:
        score += soft_overlong(len(solution), overlong_max_length, overlong_buffer)
    pred = (answer or "")[:MAX_PRED_CHARS]
    try:
        pred = compare.canonical(pred)
    except Exception:  # then it stays as it is
        pass
    return {
        "score": score,
        "acc": float(equal),
        "pred": pred[:MAX_PRED_CHARS],
        "verify_timeout": float(timed_out),
        "verify_error": float(bool(error)),
    }
