"""A few answers of a run for the page: right and wrong, before and after, and where they left the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from frpo_verl.evaluation.dumps import CORRECT_KEYS, DumpError, is_correct, read_lines

from .answers import Answer
from .collect import TrainingRun

LETTERS = 1500  # that are shown of a text
TOKENS = 400
#: bounds of |log pi/ref| in nats between the shades of a token's colour
SHADES = (0.05, 0.25, 1.0)
#: (prompt, right answer) -> its answers, each (whether it is right, its text)
Problems: TypeAlias = dict[tuple[str, str], list[tuple[bool, str]]]
#: title -> rank of a problem with these shares of right answers before and after, None where it is none of the kind
Kinds: TypeAlias = dict[str, Callable[[float, float], float | None]]
KINDS: Kinds = {
    "Learnt": lambda before, after: after - before if after > before else None,
    "Lost": lambda before, after: before - after if after < before else None,
    "Still wrong": lambda before, after: -after if after < 0.5 else None,
    "Right before and after": lambda before, after: after + before if before > 0.5 else None,
}
KINDS_OF_ONE: Kinds = {  # at the only validation
    "Right": lambda before, after: after if after > 0.5 else None,
    "Wrong": lambda before, after: -after if after < 0.5 else None,
}


def cut(text: object, letters: int = LETTERS) -> str:
    """The beginning of a text, and how much is not shown."""
    text = str(text)
    return text if len(text) <= letters else f"{text[:letters]} … ({len(text) - letters} more characters)"


def _problems(file: Path) -> Problems:
    """The graded answers to each problem of a dump."""
    found: Problems = {}
    try:
        for _, row in read_lines(file):
            correct = is_correct(next((row[key] for key in CORRECT_KEYS if row.get(key) is not None), None), None)
            if correct is not None and "input" in row and "output" in row:
                problem = str(row["input"]), str(row.get("gts", ""))
                found.setdefault(problem, []).append((correct, cut(row["output"])))
    except (DumpError, ValueError):  # it was read a moment ago
        pass
    return found


def _shot(step: int, answers: Sequence[tuple[bool, str]]) -> dict[str, Any]:
    """A typical answer to a problem at a step; `right` of `total` answers to it were right then."""
    right = sum(correct for correct, _ in answers)
    typical = 2 * right >= len(answers)
    text = next(text for correct, text in answers if correct == typical)
    return {"step": step, "text": text, "correct": typical, "right": right, "total": len(answers)}


def shown_problems(run: TrainingRun, number: int) -> list[dict[str, Any]]:
    """The best problem of each kind at the first and the last validation, with an answer before and one after."""
    if run.dumps is None or not run.validations:
        return []
    steps = sorted({min(run.validations), max(run.validations)})
    tables = {step: _problems(run.dumps / f"{step}.jsonl") for step in steps}
    shares = [
        {problem: sum(correct for correct, _ in answers) / len(answers) for problem, answers in table.items()}
        for table in (tables[steps[0]], tables[steps[-1]])
    ]
    left = [problem for problem in shares[0] if problem in shares[1]] or list(shares[1])
    chosen = []
    for title, rank in list((KINDS if len(steps) > 1 else KINDS_OF_ONE).items())[:number]:
        found = {p: rank(*(share.get(p, 0.0) for share in shares)) for p in left}
        ranks = {p: r for p, r in found.items() if r is not None}
        if ranks:
            problem = max(ranks, key=lambda p: ranks[p])
            left.remove(problem)
            shots = [_shot(step, table[problem]) for step, table in tables.items() if problem in table]
            prompt, truth = cut(problem[0], LETTERS // 2), cut(problem[1], 200)
            chosen.append({"title": title, "prompt": prompt, "truth": truth, "shots": shots})
    return chosen


def shade(ratio: float) -> int:
    """-3 .. 3: how far a token is from the reference, negative where the reference likes it more."""
    level = sum(abs(ratio) >= bound for bound in SHADES)  # 0 for nan
    return level if ratio > 0 else -level


def shaded(answer: Answer) -> dict[str, Any]:
    """An answer as shaded tokens, the first of them."""
    pairs = list(zip(answer.tokens, answer.log_ratio, strict=True))
    return {
        "step": answer.step,
        "score": answer.score,
        "prompt": cut(answer.prompt, LETTERS // 2),
        "tokens": [{"text": text, "shade": shade(ratio)} for text, ratio in pairs[:TOKENS]],
        "left_out": max(0, len(pairs) - TOKENS),
        "total": sum(filter(math.isfinite, answer.log_ratio)),
    }


def token_answers(answers: Mapping[int, Sequence[Answer]], each: int) -> list[dict[str, Any]]:
    """The best and the worst answers of the first and of the last step that were recorded."""
    out = []
    for _, rows in sorted(answers.items()):
        best = rows[: (each + 1) // 2]
        worst = rows[len(best) :][-(each - len(best)) :]
        out += [shaded(answer) for answer in [*best, *worst]]
    return out
