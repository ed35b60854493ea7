r"""Find the final answer in a response.

The last mark wins: `\boxed{}`, `#### x`, `<answer>x</answer>`, "The final answer is x". Without one of them the last "Answer: x",
"A: x", "the answer is x" or "x is the answer"; else, for some data sources, the last number; else a formula that ends the response
or a last sentence that begins with "Therefore", "Thus", "Hence" or "So". A mark that holds nothing or a placeholder (`\boxed{}`,
`\boxed{your answer}`) is none. Nothing here is evaluated, and every search is linear in the length of the response: marks are found
from the end by plain string search, and only a bounded window after a mark is looked at (phrase.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from frpo_verl.rewards.phrase import (
    DENIED,
    FORMULA,
    MAX_SENTENCE,
    MAX_WINDOW,
    answer_in,
    holds_nothing,
    numbers_in,
    unbrace,
    unquoted,
)

MAX_MARKERS = 16  # how many of the last marks of a kind are tried
MAX_CONCLUSION = 60  # characters of an answer that nothing marks

# Data sources whose answers are a bare number at the end when no mark was written.
LAST_NUMBER_SOURCES = ("openai/gsm8k", "gsm8k")

Mark = tuple[int, str]  # where it stands, the answer it marks

# ------------------------------------------------------------------------------------------------------------------ text

# "\frac" whose backslash was read as an escape: a form feed and "rac". Tab, newline and return stand in ordinary text, too.
_DAMAGED = re.compile(
    r"[\x07\x08\x0b\x0c](?=[a-z])|\t(?=(?:ext(?:bf|it|rm)?\{|heta|imes|frac|riangle|binom|ilde)(?![a-z]))"
    r"|\n(?=(?:eq|abla)(?![a-z]))|\r(?=(?:ight|angle|ceil|floor|ho)(?![a-z]))"
)
_ESCAPES = {"\x07": "\\a", "\x08": "\\b", "\x0b": "\\v", "\x0c": "\\f", "\t": "\\t", "\r": "\\r"}


def clean_text(text: object) -> str:
    """`text` as a string with damaged escapes repaired, without null bytes and lone surrogates (which break JSON, numpy and
    pipes)."""
    text = (text if isinstance(text, str) else str(text)).replace("\x00", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    suspect = any(c in text for c in _ESCAPES) or "\neq" in text or "\nabla" in text  # much faster than the pattern
    return _DAMAGED.sub(lambda match: _ESCAPES.get(match[0], "\\n"), text) if suspect else text


_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end)\|>|</s>|<end_of_turn>|<eos>|<｜end▁of▁sentence｜>"
)


def spoken(solution: str) -> str:
    """The part of a response that may hold its answer: behind `</think>`, before a `<think>` that does not end, before the
    token that ends the turn."""
    solution = solution.rpartition("</think>")[2].partition("<think>")[0]
    ended = _TURN_END.search(solution)
    return solution[: ended.start()] if ended and solution[: ended.start()].strip() else solution


def _starts(text: str, *marks: str) -> Iterator[int]:
    """Where one of the marks stands, from the last on, at most MAX_MARKERS times."""
    start = len(text)
    for _ in range(MAX_MARKERS):
        start = max([text.rfind(mark, 0, start) for mark in marks])
        if start < 0:
            return
        yield start


# ----------------------------------------------------------------------------------------------------------------- boxes


def _braced(text: str, start: int) -> tuple[str, int] | None:
    """(content, end) of the group that opens at `text[start] == "{"`, or None; escaped braces do not count."""
    depth, i, stop = 0, start, min(len(text), start + MAX_WINDOW)
    while i < stop:
        c = text[i]
        if c == "\\":
            i += 2
            continue
        depth += {"{": 1, "}": -1}.get(c, 0)
        if depth == 0:
            return text[start + 1 : i], i + 1
        i += 1
    return None


_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z_])\s*")
_BARE = re.compile(r"[-+]?\w*\\(?!boxed|fbox)[A-Za-z]+|[-+]?(?:\.?\w)+")  # \boxed\pi, \boxed5
_BARE_DIGITS = re.compile(r"\s*\d{1,2}")  # \boxed\frac12


def _box_at(text: str, start: int) -> tuple[str, int] | None:
    r"""(content, end) of the box command at `start`; `\boxed 5`, `\boxed5` and `\boxed\frac{1}{2}` are accepted, too."""
    match = _BOX.match(text, start)
    if match is None:
        return None
    begin = match.end()
    if text[begin : begin + 1] == "{":
        return _braced(text, begin)
    bare = _BARE.match(text, begin, begin + 64)
    if bare is None:
        return None
    end = bare.end()
    if "\\" in bare[0]:  # a command with its arguments
        if text[end : end + 1] == "[":
            end = max(end, text.find("]", end, end + 64) + 1)
        while text[end : end + 1] == "{" and (group := _braced(text, end)):
            end = group[1]
        digits = _BARE_DIGITS.match(text, end) if end == bare.end() else None
        end = digits.end() if digits else end
    return text[begin:end], end


MAX_JOINER = 80  # characters between two boxes of one list
MAX_JOINER_WORDS = 5
_WRAP = re.compile(r"\\(?:text|mathrm|textbf)\s*\{|\\[()\[\]]|\\(?:quad|qquad|,|;|!| )|[{}$~*]")
_NOT_JOINED = re.compile(
    r"\b(?:no|not|wait|actually|but|so|then|thus|hence|instead|however|therefore|rather|wrong)\b", re.I
)


def joins(between: str) -> bool:
    r"""Whether the text between two boxes makes them one list: nothing, a comma, "and" or "or", with at most five more
    words or names ("for part (a) and", `\) and \( y_2 =`) and no end of a sentence."""
    if len(between) > MAX_JOINER or "\n\n" in between:
        return False
    plain = _WRAP.sub(" ", between).strip()
    if re.search(r"[.!?:]", plain) or _NOT_JOINED.search(plain):
        return False
    words = re.split(r"[\s,;&]+", plain)
    joined = not plain or re.search(r"[,;&]|\b(?:and|or)\b", plain)
    return bool(joined) and sum(word not in ("", "and", "or", "=") for word in words) <= MAX_JOINER_WORDS


_NO_BOX = re.compile(r"(?:\b(?:not|never)|n't)(?:\s+(?:be|equal(?:\s+to)?))?[\s$*\\(\[]*$")


def last_boxes(text: str, whole: bool = False) -> tuple[int, list[str]] | None:
    r"""(position, contents) of the last closed `\boxed{}` that holds something and of the neighbours that it is a list with,
    in their order; None when there is no such box, with `whole` also when a box behind it is cut off."""
    found: list[tuple[int, str]] = []  # from the last to the first
    for start in _starts(text, "\\boxed", "\\fbox"):
        box = _box_at(text, start)
        if box is None and whole and not found and _BOX.match(text, start):
            return None
        if box is None or holds_nothing(box[0]) or _NO_BOX.search(text, max(0, start - 40), start):
            continue
        content, stop = box
        if found and (stop > found[-1][0] or not joins(text[stop : found[-1][0]])):
            break
        found.append((start, content))
    if not found:
        return None
    parts = list(dict.fromkeys(content.strip() for _, content in reversed(found)))
    inner = last_boxes(parts[0]) if len(parts) == 1 and "\\boxed" in parts[0] else None
    return found[0][0], inner[1] if inner else parts


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{}` holds, boxes that are one list joined by commas; None when there is none."""
    boxes = last_boxes(text)
    return ", ".join(boxes[1]) if boxes else None


# ----------------------------------------------------------------------------------------------------------- other marks


def _first(marks: Iterable[Mark]) -> Mark | None:
    """The first mark that holds something."""
    return next((mark for mark in marks if not holds_nothing(mark[1])), None)


def _box(text: str) -> Mark | None:
    boxes = last_boxes(text)
    return (boxes[0], unbrace(", ".join(boxes[1]))) if boxes else None


_HEADING = re.compile(r"\s*\d{1,2}[.)]\s+(?!I hope)[A-Za-z*]")  # #### 2. Check


def _hashes(text: str, boxed: bool) -> Mark | None:
    """`#### x`; behind a box a heading of markdown is none."""
    marks = ((start, answer_in(text, start + 4)) for start in _starts(text, "####"))
    if not boxed:
        return _first(marks)
    valued = (mark for mark in marks if mark[1].startswith(tuple("+-−.0123456789\\$([")))
    return _first(mark for mark in valued if not _HEADING.match(text, mark[0] + 4))


def _tag(text: str) -> Mark | None:
    """`<answer>x</answer>`."""
    parts = ((start, text[start + len("<answer>") :].partition("</answer>")) for start in _starts(text, "<answer>"))
    return _first((start, answer_in(inside)) for start, (inside, closing, _) in parts if closing)


_FINAL = re.compile(
    r"final\s{1,3}answer(?:\s{0,3}(?:\*\*|__|:|=|is\b)){1,4}|^[#*_ \t]{1,9}(?:final\s)?answer[#*_ \t]{0,9}$",
    re.I | re.M,
)
_MANNER = re.compile(  # the final answer is given in cm
    r"(?:given|expressed|written|stated|measured|shown|rounded)\s(?!by\b|as\b)|(?:in|above|below)\b", re.I
)


def _final(text: str) -> Mark | None:
    """The last "final answer" with an answer behind it."""
    for match in list(_FINAL.finditer(text))[:-4:-1]:
        line = answer_in(text, match.end())
        named = re.search(r"[\d$\\(]", line) or len(line) == 1
        if named and "\\boxed" not in line and not _MANNER.match(line) and not holds_nothing(line):
            return match.start(), line
    return None


_WORDS = re.compile(
    r"(?:(?<![A-Za-z])answer\s{0,3}(?:\*\*|__)?\s{0,3}(?::|=|\b(?:is|equals|must be)\b\s{0,3}:?)|^[ \t]{0,8}(?-i:A):)\s{0,3}(?:\*\*|__)?",
    re.IGNORECASE | re.MULTILINE,
)
_IS_ANSWER = re.compile(r"\s(?:is|are) (?:the|our|my) (?:\w{1,20} )?answer\b", re.IGNORECASE)
_CLAUSE = re.compile(r"(?:.*(?:[.!?,:;\n]\s|\b(?:therefore|thus|hence|so|that)\s))?(.*)", re.IGNORECASE | re.DOTALL)


def _words(text: str) -> Mark | None:
    """The last "Answer: x", "the answer is x" or "x is the answer"."""
    matches = list(_WORDS.finditer(text))[: -MAX_MARKERS - 1 : -1]
    named = _first((match.start(), answer_in(text, match.end())) for match in matches)
    marks = [named] if named else []
    for match in list(_IS_ANSWER.finditer(text))[-1:]:
        clause = _CLAUSE.fullmatch(text[max(0, match.start() - 120) : match.start()])
        said = clause[1].strip() if clause else ""
        if 0 < len(said) <= MAX_CONCLUSION and re.search(r"\d|\\|^\(?[A-Z]\)?$", said):
            marks.append((match.start(), answer_in(said)))
    return max(marks, default=None)


_THEREFORE = re.compile(r"(?:therefore|thus|hence|so|in conclusion),?\s", re.IGNORECASE)


def _conclusion(text: str) -> str | None:
    """A formula that ends the response, or the value in a last sentence that begins with "Therefore" and the like."""
    text = text[-MAX_SENTENCE:]
    formulas = list(FORMULA.finditer(text))
    if formulas:
        after = text[formulas[-1].end() :]
        if len(after) <= MAX_CONCLUSION and not re.search(r"\d", after) and not DENIED.match(after):
            return next(group for group in formulas[-1].groups() if group).strip()
    sentences = re.split(r"[.!?]\$*\s+", text.replace("I hope it is correct.", "").strip())
    concluding = _THEREFORE.match(sentences[-1])
    line = answer_in(sentences[-1], concluding.end()) if concluding else ""
    return line if re.search(r"\d", line) and len(line) <= MAX_CONCLUSION else None


def extract_answer(
    solution: str, data_source: str = "", last_number_sources: tuple[str, ...] = LAST_NUMBER_SOURCES
) -> str | None:
    r"""The final answer of a response as text, or None.

    Args:
        solution: the response.
        data_source: verl's `data_source` of the row.
        last_number_sources: names for which the last number of the response counts as an answer.
    """
    solution = spoken(solution)
    tail = solution[-MAX_WINDOW:]
    box, answers = _box(solution), "answer" in tail.lower()  # most responses have no such word: a plain search first
    offset = len(solution) - len(tail)
    behind = [_tag(tail), _final(tail)] if answers else []
    marks = [box, _hashes(solution, box is not None), *((offset + mark[0], mark[1]) for mark in behind if mark)]
    strong = max((mark for mark in marks if mark), default=None)
    if strong:
        return unquoted(strong[1])
    weak = _words(tail)
    if weak:
        return weak[1]
    if data_source in last_number_sources:
        numbers = numbers_in(tail)
        return (numbers[-1] or None) if numbers else None
    return _conclusion(tail)


def is_marked(solution: str) -> bool:
    r"""Whether the response marks its final answer by `\boxed{}` or `####` (what a format bonus rewards)."""
    box = _box(solution)
    return box is not None or _hashes(solution, False) is not None
