"""A few answers of a step with every token's log-ratio to the reference: RUN/answers/STEP.jsonl.

A line is an answer:

    {"step": 20, "uid": "...", "score": 1.0, "tokens": ["4", "2", "\\n"], "log_ratio": [0.0, -0.31, 0.02]}

with `tokens` the text of the answer in pieces and `log_ratio` log pi(token)/ref(token) in nats for each of them; `prompt`
may stand beside them. The driver writes it where it has all of this in hand: when the advantage is computed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from frpo_verl.files import write_atomically

T = TypeVar("T")
FOLDER = "answers"
BROKEN = "\ufffd"  # what a tokenizer decodes part of a character to


@dataclass(frozen=True)
class Answer:
    """One answer; `tokens` and `log_ratio` are of equal length."""

    step: int
    uid: str
    score: float
    tokens: list[str]
    log_ratio: list[float]
    prompt: str = ""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.log_ratio):
            raise ValueError(f"answer {self.uid}: {len(self.tokens)} tokens, but {len(self.log_ratio)} log-ratios")


def choose(scores: Sequence[float], number: int, groups: Sequence[object] | None = None) -> list[int]:
    """At most ``number`` rows of the best and the worst answers, half each, the best first; only finite scores.

    Of equal ones those to a prompt (``groups``: one a row) that is not among them yet come first, then the first row.
    """
    rows = [i for i, score in enumerate(scores) if math.isfinite(score)]

    def take(count: int, sign: int) -> list[int]:
        taken: list[int] = []
        seen: set[object] = set()
        while rows and len(taken) < count:
            row = min(rows, key=lambda i: (sign * scores[i], groups is not None and groups[i] in seen, i))
            rows.remove(row)
            taken.append(row)
            seen.add(groups[row] if groups is not None else None)
        return taken

    best = take((number + 1) // 2, -1)
    return best + take(number - len(best), 1)


def token_texts(decode: Callable[[list[int]], str], ids: Sequence[int]) -> list[str]:
    """The text that each token adds behind the one before; a character made of several tokens stands at the last of them."""
    texts: list[str] = []
    before: list[int] = []  # some tokenizers drop a space that a text begins with
    waiting: list[int] = []
    for token in ids:
        waiting.append(int(token))
        text = decode(before + waiting)[len(decode(before)) :]
        if BROKEN in text and len(waiting) < 8:
            texts.append("")
            continue
        texts.append(text)
        before, waiting = waiting, []
    if waiting:
        texts[-1] = decode(waiting)
    return texts


def write_answers(folder: str | Path, step: int, answers: Iterable[Answer]) -> Path:
    """Write ``folder``/STEP.jsonl, in the order in which they are to be shown; a log-ratio that is not finite becomes null."""
    lines = []
    for answer in answers:
        ratios = [float(x) if math.isfinite(x) else None for x in answer.log_ratio]
        lines.append(json.dumps(asdict(answer) | {"log_ratio": ratios}, ensure_ascii=False) + "\n")
    return write_atomically(Path(folder) / f"{step}.jsonl", "".join(lines).encode(errors="backslashreplace"))


def parsed_lines(file: Path, parse: Callable[[Any], T]) -> tuple[list[T], int, OSError | None]:
    """(what `parse` makes of each line of JSON, how many lines it could not read, what stopped reading)."""
    rows: list[T] = []
    passed = 0
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            for line in filter(str.strip, lines):
                try:
                    rows.append(parse(json.loads(line)))
                except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                    passed += 1
    except OSError as error:
        return rows, passed, error
    return rows, passed, None


def numbered(folder: Path) -> dict[int, Path]:
    """step -> a folder's file STEP.jsonl, in order."""
    return dict(sorted((int(file.stem), file) for file in folder.glob("*.jsonl") if file.stem.isdigit()))


def _answer(step: int, row: Any) -> Answer:
    ratios = [math.nan if x is None else float(x) for x in row["log_ratio"]]
    tokens = [str(token) for token in row["tokens"]]
    return Answer(step, str(row.get("uid", "")), float(row["score"]), tokens, ratios, str(row.get("prompt") or ""))


def read_answers(folder: Path) -> tuple[dict[int, list[Answer]], list[str]]:
    """(step -> its answers, notes) of the first and the last file; a line that cannot be read is left out."""
    found: dict[int, list[Answer]] = {}
    notes = []
    files = list(numbered(folder).items())
    for step, file in dict([*files[:1], *files[-1:]]).items():
        rows, broken, error = parsed_lines(file, partial(_answer, step))
        if rows:
            found[step] = rows
        if error is not None:
            notes.append(f"left out answers: {error}")
        if broken:
            notes.append(f"answers/{file.name}: {broken} lines could not be read")
    return found, notes
