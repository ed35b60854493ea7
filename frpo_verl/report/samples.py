"""A few answers of a run for the page: right and wrong, before and after, and where they left the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from frpo_verl.evaluation.dumps import CORRECT_KEYS, DumpError, is_correct, read_lines

from .answers import Answer
from .collect import TrainingRun

LETTERS = 1500  # that are shown of a text
TOKENS = 400
#: (prompt, right answer)
Problem: TypeAlias = tuple[str, str]
#: (whether it is right, its text)
Graded: TypeAlias = tuple[bool, str]
#: bounds of |log pi/ref| in nats between the shades of a token's colour
SHADES = (0.05, 0.25, 1.0)


@dataclass
class Shot:
    """One answer to a problem at one step; ``right`` of ``total`` answers to it were right then."""

    step: int
    text: str
    correct: bool
    right: int
    total: int


@dataclass
class ShownProblem:
    """A problem with an answer before and one after."""

    title: str
    prompt: str
    truth: str
    shots: list[Shot] = field(default_factory=list)


@dataclass
class Shaded:
    """A token's text, and the shade -3 .. 3 that stands for its log-ratio."""

    text: str
    shade: int


@dataclass
class ShadedAnswer:
    """An answer as shaded tokens."""

    step: int
    score: float
    prompt: str
    tokens: list[Shaded]
    left_out: int
    total: float


def cut(text: object, letters: int = LETTERS) -> str:
    """The beginning of a text, and how much is not shown."""
    text = str(text)
    return text if len(text) <= letters else f"{text[:letters]} … ({len(text) - letters} more characters)"


def _problems(file: Path) -> dict[Problem, list[Graded]]:
    """The graded answers to each problem of a dump."""
    found: dict[Problem, list[Graded]] = {}
    try:
        for _, row in read_lines(file):
            grade = next((row[key] for key in CORRECT_KEYS if row.get(key) is not None), None)
            correct = is_correct(grade, None)
            if correct is not None and "input" in row and "output" in row:
                graded = correct, cut(row["output"])
                found.setdefault((str(row["input"]), str(row.get("gts", ""))), []).append(graded)
    except (DumpError, ValueError):  # it was read a moment ago
        pass
    return found


def _shot(step: int, answers: list[Graded]) -> Shot:
    right = sum(correct for correct, _ in answers)
    typical = 2 * right >= len(answers)
    text = next(text for correct, text in answers if correct == typical)
    return Shot(step, text, typical, right, len(answers))


def _share(answers: list[Graded]) -> float:
    return sum(correct for correct, _ in answers) / len(answers) if answers else 0.0


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


def shown_problems(run: TrainingRun, number: int) -> list[ShownProblem]:
    """Problems of the first and the last validation: the one that was learnt most, the one that was lost most, one that
    stays wrong and one that stays right, as far as there are such."""
    if run.dumps is None or not run.validations:
        return []
    steps = sorted({min(run.validations), max(run.validations)})
    tables = {step: _problems(run.dumps / f"{step}.jsonl") for step in steps}
    first, last = tables[steps[0]], tables[steps[-1]]
    left = [problem for problem in first if problem in last] or list(last)
    chosen = []
    for title, rank in list((KINDS if len(steps) > 1 else KINDS_OF_ONE).items())[:number]:
        ranks = {p: r for p in left if (r := rank(_share(first.get(p, [])), _share(last.get(p, [])))) is not None}
        if ranks:
            problem = max(ranks, key=lambda p: ranks[p])
            left.remove(problem)
            shots = [_shot(step, table[problem]) for step, table in tables.items() if problem in table]
            chosen.append(ShownProblem(title, cut(problem[0], LETTERS // 2), cut(problem[1], 200), shots))
    return chosen


def shade(ratio: float) -> int:
    """-3 .. 3: how far a token is from the reference, negative where the reference likes it more."""
    level = sum(abs(ratio) >= bound for bound in SHADES)  # 0 for nan
    return level if ratio > 0 else -level


def shaded(answer: Answer) -> ShadedAnswer:
    """An answer's tokens as they are shown."""
    pairs = zip(answer.tokens, answer.log_ratio, strict=True)
    tokens = [Shaded(text, shade(ratio)) for text, ratio in pairs]
    total = sum(filter(math.isfinite, answer.log_ratio))
    left_out = max(0, len(tokens) - TOKENS)
    return ShadedAnswer(answer.step, answer.score, cut(answer.prompt, LETTERS // 2), tokens[:TOKENS], left_out, total)


def token_answers(answers: Mapping[int, Iterable[Answer]], each: int) -> list[ShadedAnswer]:
    """The best and the worst answers of the first and of the last step that were recorded."""
    out = []
    for step in sorted(answers):
        rows = list(answers[step])
        best = rows[: (each + 1) // 2]
        worst = rows[len(best) :][-(each - len(best)) :]
        out += [shaded(answer) for answer in [*best, *worst]]
    return out
