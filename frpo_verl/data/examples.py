"""A problem of a source, and how a row under any of the field names in circulation becomes one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

QUESTION_FIELDS = ("problem", "question", "Problem", "Question", "prompt", "query", "source_prompt")
ANSWER_FIELDS = ("answer", "final_answer", "Answer", "expected_answer", "ground_truth")
SOLUTION_FIELDS = ("solution", "Solution")
ID_FIELDS = ("unique_id", "id", "ID", "problem_id", "question_id", "uuid", "idx")
SUBJECT_FIELDS = ("subject", "type", "subfield", "source")
LEVEL_FIELDS = ("level", "difficulty")
_CHOICE = re.compile(r"\(?[A-Z]\)?|\\text(?:bf|rm)?\{\s*\(?[A-Z]\)?\s*\}")
NO_ANSWER = {"", "nan", "n/a", "notfound", "not found", "proof"}


class InputError(Exception):
    """Bad input: `run` prints it on one line and returns exit code 2."""


class Skip(Exception):
    """Raised by a parser: this row is not used; the message is the reason that is counted."""


@dataclass(frozen=True)
class Example:
    """One problem of a source. `answer` None means: no usable answer."""

    question: str
    answer: str | None
    id: str | None = None
    subject: str | None = None
    level: str | None = None
    solution: str | None = None
    data_source: str | None = None  # where it differs from the data set's
    notes: tuple[str, ...] = ()  # things to count without dropping the row


@dataclass(frozen=True)
class DataSet:
    """A data set: where it is on the hub, what its splits are called, how a row is read."""

    name: str
    data_source: str
    hub: str
    splits: Mapping[str, str]  # the name we write -> the name on the hub
    parse: Callable[[Mapping[str, Any]], Example] | None = None  # default: parse_row
    hub_config: str | None = None
    train_splits: tuple[str, ...] = ("train",)  # duplicates are dropped there; --repeat leaves them alone
    keep_solution: bool = True
    progress: bool = False


def first_field(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of `names` that `row` has with a value other than None or an empty string; else None."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def text(value: Any) -> str | None:
    """A scalar as text: 27.0 -> "27", strings stripped; the last user message of a chat; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(m, Mapping) and "content" in m for m in value):
        user = [m["content"] for m in value if m.get("role", "user") == "user"]
        return text(user[-1]) if user else None
    if isinstance(value, (list, tuple)):
        parts = [strip_math_delimiters(p) for p in map(text, value) if p]
        return ", ".join(parts) if parts else None
    return str(value).strip()


def last_boxed(solution: str) -> str | None:
    r"""The content of the last `\boxed{...}` or `\fbox{...}` with balanced braces (`\{`, `\}` do not count).

    `\boxed 5` is read up to the next space, `$` or brace. None if there is no box or its braces do not
    balance.
    """
    found = None
    for match in re.finditer(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*", solution):
        found = match
    if found is None:
        return None
    rest = solution[found.end() :]
    if not rest.startswith("{"):
        bare = re.match(r"[^\s${}]+", rest)
        return bare.group(0).rstrip(".,") if bare else None
    depth = 0
    i = 0
    while i < len(rest):
        c = rest[i]
        if c == "\\":
            i += 2
            continue
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return rest[1:i].strip()
        i += 1
    return None


def boxed_answer(solution: str) -> str | None:
    r"""The answer of a worked solution: its last box, or several that stand side by side as the verifier joins them.

    "x=\boxed{1} and x=\boxed{2}" is "1, 2"; two spellings of one value, "\boxed{\frac12} or \boxed{0.5}", are the last, and so
    is the letter of a choice behind its value.
    """
    from ..rewards import compare, extract

    last, found = last_boxed(solution), extract.last_boxed(solution)
    if last is None or found is None or found[0] == last or ", " not in found[0] or _CHOICE.fullmatch(last):
        return last
    return last if compare.compare(last, found[0]) else found[0]


def strip_math_delimiters(answer: str) -> str:
    r"""Remove one pair of `$..$`, `$$..$$`, `\(..\)` or `\[..\]` around the whole answer."""
    answer = answer.strip()
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if len(answer) >= len(left) + len(right) and answer.startswith(left) and answer.endswith(right):
            inner = answer[len(left) : len(answer) - len(right)]
            several = any(mark in inner for mark in (left[-1:] if left[0] == "$" else left, right[-2:]))
            return answer if several else inner.strip()
    return answer


def clean_answer(answer: Any) -> str | None:
    """The answer as text, or None where it is empty or one of the words data sets use for "there is none"."""
    answer = text(answer)
    if answer is None:
        return None
    answer = strip_math_delimiters(answer)
    return None if answer.lower() in NO_ANSWER else answer


def parse_row(row: Mapping[str, Any]) -> Example:
    r"""Read a row under the field names in circulation (the `*_FIELDS` above).

    The answer is `answer`, `final_answer` (a list is joined by ", "), ... or `reward_model.ground_truth`,
    else the last box of `solution` (`boxed_answer`). An answer field that holds a worked solution with a box counts as a
    solution.
    """
    nested = row.get("reward_model") or {}
    extra = row.get("extra_info") or {}
    raw_answer = first_field(row, ANSWER_FIELDS)
    if raw_answer is None:
        raw_answer = nested.get("ground_truth")
    solution = text(first_field(row, SOLUTION_FIELDS))
    answer = clean_answer(raw_answer)
    if answer is not None and re.search(r"\\(?:boxed|fbox)(?![a-zA-Z])", answer):
        solution = solution or answer
        answer = clean_answer(boxed_answer(answer))
    if raw_answer is None and solution:
        answer = clean_answer(boxed_answer(solution))
    row_id = first_field(row, ID_FIELDS)
    return Example(
        question=text(first_field(row, QUESTION_FIELDS)) or "",
        answer=answer,
        id=text(row_id if row_id is not None else extra.get("index")),
        subject=text(first_field(row, SUBJECT_FIELDS)),
        level=text(first_field(row, LEVEL_FIELDS)),
        solution=solution if solution is not None else text(raw_answer),
    )


def parse_integer_row(row: Mapping[str, Any]) -> Example:
    """parse_row for sets of integer answers: "025", "27.0" and "1,024" become "25", "27" and "1024"."""
    example = parse_row(row)
    match = re.fullmatch(r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+)(?:\.0+)?", example.answer or "")
    if match is None:
        return example
    return replace(example, answer=str(int(match[1] + match[2].replace(",", ""))))
