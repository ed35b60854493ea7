r"""Find the final answer in a response: `\boxed{}`, `####`, "Answer:", "A:", "the answer is", and the last number
where asked.

Nothing here is evaluated, and every search is linear in the length of the response: markers are found from the end by
plain string search, and only a bounded window after a marker is looked at.
"""

import re

MAX_WINDOW = 20_000  # characters looked at after a marker, and from the end for the marker words and the last number
MAX_MARKERS = 16  # how many of the last boxes are tried when the last ones are not closed

# Data sources whose answers are a bare number at the end when no marker was written.
LAST_NUMBER_SOURCES = ("openai/gsm8k", "gsm8k")

_BOX = re.compile(r"\\(?:boxed|fbox)\b\s*")
_JOINER = re.compile(r"[\s$.,;]*(?:and|or|,|\\text\{\s*(?:and|or)\s*\})?[\s$,;]*")
_WORDS = re.compile(
    r"(?:(?<![A-Za-z])answer\s{0,3}(?:\*\*|__)?\s{0,3}(?::|\bis\b\s{0,3}:?)|^[ \t]{0,8}(?-i:A):)\s{0,3}(?:\*\*|__)?",
    re.IGNORECASE | re.MULTILINE,
)
_NUMBER = re.compile(r"(?<![\w.,])[-+]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])|(?<![\w.])[-+]?\.\d+")


def clean_text(text):
    """Return `text` as a string without null bytes and lone surrogates (which break JSON, numpy and pipes)."""
    text = text if isinstance(text, str) else str(text)
    if "\x00" in text:
        text = text.replace("\x00", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


def _braced(text, start):
    """Return (content, end) of the group that opens at text[start] == "{", or None; escaped braces do not count."""
    depth, i, stop = 0, start, min(len(text), start + MAX_WINDOW)
    while i < stop:
        c = text[i]
        if c == "\\":
            i += 2
            continue
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : i], i + 1
        i += 1
    return None


def _box_at(text, start):
    """Return (content, end) of the box command at `start`; `\\boxed 5` and `\\boxed5` are accepted too."""
    match = _BOX.match(text, start)
    if match is None:
        return None
    if text[match.end() : match.end() + 1] == "{":
        return _braced(text, match.end())
    bare = re.compile(r"[-+]?[\w.]+").match(text, match.end(), match.end() + 64)
    return (bare.group(), bare.end()) if bare else None


def last_boxed(text):
    r"""Return (content, position) of the last closed `\boxed{}`, or None; neighbours joined by "and", "or" or a comma
    count as one list."""
    found = []  # from the last to the first: (start, end, content)
    end = len(text)
    for _ in range(MAX_MARKERS):
        start = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if start < 0:
            break
        end = start
        box = _box_at(text, start)
        if box is None:
            continue
        content, stop = box
        if found:
            between = text[stop : found[-1][0]]
            if not 0 < len(between) < 40 or _JOINER.fullmatch(between) is None or not between.strip(" \n$."):
                break
        found.append((start, stop, content))
    if not found:
        return None
    parts = [content.strip() for _, _, content in reversed(found)]
    inner = last_boxed(parts[-1]) if len(parts) == 1 and "\\boxed" in parts[-1] else None
    return (inner[0] if inner else ", ".join(parts)), found[0][0]


def _line(text, start):
    """Return the first non-empty line from `start`, cleaned of markdown, end marks and closing words."""
    window = text[start : start + MAX_WINDOW]
    line = next((part for part in window.split("\n") if part.strip()), "")
    hope = line.find("I hope it is correct")
    line = (line[:hope].rstrip(". ") if hope > 0 else line).strip().strip("*_`").strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if line.startswith(opening):
            stop = line.find(closing, len(opening))
            # "$2, \pi$ and ..." keeps the formula only; "$18.90" has no closing sign and stays
            if stop > 0 and not re.match(r"\s*(?:,|,?\s*(?:and|or)\b)\s*[$\\\d(-]", line[stop + len(closing) :]):
                return line[len(opening) : stop].strip()
    return line[:-1].rstrip() if line.endswith(".") else line


def extract_answer(solution, data_source="", last_number_sources=LAST_NUMBER_SOURCES):
    r"""Return the final answer of a response as text, or None.

    The last of `\boxed{}` and `#### x` in the text wins; without either the last "Answer: x", "A: x" or "the answer
    is x"; without any of them the last number, for the data sources named in `last_number_sources` only. Text before
    a closing `</think>` is not searched.

    Args:
      solution: the response, a string.
      data_source: verl's `data_source` of the row.
      last_number_sources: names for which the last number of the response counts as an answer.
    """
    think = solution.rfind("</think>")
    if think >= 0:
        solution = solution[think + len("</think>") :]
    boxed = last_boxed(solution)
    hashes = solution.rfind("####")
    if hashes >= 0 and (boxed is None or hashes > boxed[1]):
        line = _line(solution[hashes + 4 : hashes + 4 + MAX_WINDOW].split("\n", 1)[0], 0)
        if line:
            return line
    if boxed is not None:
        return boxed[0]
    tail = solution[-MAX_WINDOW:]
    ends = [match.end() for match in _WORDS.finditer(tail)]
    if ends:
        line = _line(tail, ends[-1])
        if line:
            return line
    if data_source in last_number_sources:
        numbers = _NUMBER.findall(tail)
        if numbers:
            return numbers[-1]
    return None


def is_marked(solution):
    r"""Whether the response marks its final answer by `\boxed{}` or `####` (what a format bonus rewards)."""
    return last_boxed(solution) is not None or re.search(r"####\s*\S", solution) is not None
