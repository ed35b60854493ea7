"""A problem of a source, and how a row under any of the field names in circulation becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..rewards import compare, extract
from ..rewards.phrase import holds_nothing
from .shapes import is_chat, label, mapping, messages_of, parsed, read, read_first, strip_math_delimiters, text

CHAT_FIELDS = ("conversations", "conversation", "messages")
QUESTION_FIELDS = ("problem", "question", "Problem", "Question", "prompt", "query", "source_prompt", *CHAT_FIELDS)
ANSWER_FIELDS = ("answer", "final_answer", "Answer", "expected_answer", "ground_truth")
SOLUTION_FIELDS = ("solution", "Solution")
TRAIN_SPLITS = ("train",)  # duplicates are dropped there; --repeat leaves them alone
ID_FIELDS = ("unique_id", "id", "ID", "problem_id", "question_id", "uuid", "idx")
SUBJECT_FIELDS = ("subject", "type", "subfield", "source")
LEVEL_FIELDS = ("level", "difficulty")
_CHOICE = re.compile(r"\(?[A-Z]\)?|\\text(?:bf|rm)?\{\s*\(?[A-Z]\)?\s*\}")
#: words for "there is no answer", in any case and with a full stop
NO_ANSWER = re.compile(
    r"(?:nan|n/a|none|null|unknown|proof|no answer|not[ _-]?found|see (?:the )?solution|[-–—_]+)\.?", re.I
)
#: instructions that published files put around their problems: DAPO's, and those of verl's own scripts
WRAPPINGS = (
    re.compile(
        r"\s*Solve the following math problem step by step\. The last line of your response[^\n]*\n+"
        r"(?P<problem>.*?)"
        r"\s*Remember to put your answer on its own line after \"Answer:\"\.?\s*",
        re.DOTALL,
    ),
    re.compile(
        r"(?P<problem>.*?)\s+Let's think step by step and output the final answer (?:within \\boxed\{\}|after \"####\")\.\s*",
        re.DOTALL,
    ),
)


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


def boxed_answer(solution: str) -> str | None:
    r"""The answer of a worked solution: its last box, or several that stand side by side as the verifier joins them.

    "x=\boxed{1} and x=\boxed{2}" is "1, 2"; two spellings of one value, "\boxed{\frac12} or \boxed{0.5}", are the last, and so
    is the letter of a choice behind its value. A box that holds nothing or a placeholder is none; None where the last is cut off.
    """
    boxes = extract.last_boxes(solution, whole=True)
    if boxes is None:
        return None
    last, together = boxes[1][-1], ", ".join(boxes[1])
    single = len(boxes[1]) == 1 or _CHOICE.fullmatch(last) or compare.compare(last, together)
    return last if single else together


def clean_answer(answer: Any) -> str | None:
    """The answer as text, or None where it holds nothing or one of the words data sets use for "there is none"."""
    answer = text(answer)
    if answer is None:
        return None
    answer = strip_math_delimiters(answer)
    word = re.fullmatch(r"\\(?:text|textbf|mathrm|boxed)\{([^{}]*)\}", answer)
    content = word[1].strip() if word else answer
    return None if holds_nothing(content) or NO_ANSWER.fullmatch(content) else answer


def answered(value: Any) -> str | None:
    """The last message of a chat that ends with the assistant's: a worked solution; else None."""
    value = parsed(value)
    messages = messages_of(value) if is_chat(value) else []
    return messages[-1][1] if messages and messages[-1][0] == "assistant" else None


def parse_row(row: Mapping[str, Any]) -> Example:
    r"""Read a row under the field names in circulation (the `*_FIELDS` above).

    The answer is `answer`, `final_answer` (a list is joined by ", "), ... or `reward_model.ground_truth`, else the last box of
    `solution` (`boxed_answer`) or of the assistant's message that ends a chat. An answer field that holds a worked solution
    with a box counts as a solution. Raises Unreadable, with the field, where a value has no shape that can be read.
    """
    question = read_first(row, QUESTION_FIELDS) or ""
    written = read_first(row, ANSWER_FIELDS)
    if written is None:
        nested = read("reward_model", row.get("reward_model"), mapping)
        written = read("reward_model.ground_truth", nested.get("ground_truth"))
    solution = read_first(row, SOLUTION_FIELDS, text if written is None else label)
    if written is None and solution is None:
        solution = read_first(row, QUESTION_FIELDS, answered)
    answer = clean_answer(written)
    if answer is not None and re.search(r"\\(?:boxed|fbox)(?![a-zA-Z])", answer):
        solution = solution or answer
        answer = clean_answer(boxed_answer(answer))
    if written is None and solution:
        answer = clean_answer(boxed_answer(solution))
    wrapped = next(filter(None, (wrapping.fullmatch(question) for wrapping in WRAPPINGS)), None)
    extra = parsed(row.get("extra_info"))
    own = read_first(row, ID_FIELDS, label)
    return Example(
        question=wrapped["problem"].strip() if wrapped else question,
        answer=answer,
        id=own if own is not None or not isinstance(extra, Mapping) else label(extra.get("index")),
        subject=read_first(row, SUBJECT_FIELDS, label),
        level=read_first(row, LEVEL_FIELDS, label),
        solution=solution if solution is not None else written,
    )


@dataclass(frozen=True)
class DataSet:
    """A data set: where it is on the hub, what its splits are called, how a row is read."""

    name: str
    data_source: str
    hub: str
    splits: Mapping[str, str]  # the name we write -> the name on the hub
    parse: Callable[..., Example] = parse_row  # of a row, and `options` by their names
    hub_config: str | None = None
    keep_solution: bool = True
    about: str = ""  # for --help
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> argparse's arguments
