r"""Take off what stands around an answer in a phrase: markdown, the sentence before it, the reason behind it.

`"**The volume of $ABC$ is 120** because 10*12 = 120."` is `120`. Every pattern is linear in the length of the phrase, and only
a bounded window of a response is looked at.
"""

from __future__ import annotations

import re

from frpo_verl.rewards.spelling import DELIMITERS

MAX_WINDOW = 20_000  # characters looked at
MAX_SENTENCE = 600  # a longer line is no sentence
MAX_TOKEN = 200  # a longer token is no number


_DIGIT = re.compile(r"\d")


_WRAPPERS = re.compile(
    r"\\(?:text|mathrm|mbox)\s*(?=\{)|\\[()\[\],;:! ]|(?<!\\)[{}]|[$*_`\"'<>\[\]()\s]|\\quad|\\l?dots|\\cdots|[.?…:,;]"
)
_PLACEHOLDER = re.compile(
    r"(?:(?:insert|put|write|enter|your|the|a|my|final|correct|numerical|exact)*"
    r"(?:answer|result|number|solution|value|choice|letter|expression)(?:goes|without|quotes|here)*|\\square|blank)?",
    re.IGNORECASE,
)


def holds_nothing(text: str) -> bool:
    r"""Whether a mark holds no answer: nothing, dots, or words such as "your answer" that stand for one."""
    return len(text) <= 60 and not _DIGIT.search(text) and _PLACEHOLDER.fullmatch(_WRAPPERS.sub("", text)) is not None


_SPACED_THOUSANDS = re.compile(r"(?<![\w.,])\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:\.\d+)?(?!\w|[,/:^]\d)")
_MIXED = re.compile(r"(?<![\w.,/])(\d{1,9}) (?=\d{1,9}/\d{1,9}(?![\w/]))")  # 2 1/2
_SIGNS = str.maketrans({"−": "-", "–": "-", "‒": "-", "—": " ", "<": " ", ">": " "})  # <<6*7=42>>42
_LONE_MINUS = re.compile(r"(\b(?:is|are|was)|[=:(≈])\s*-\s(?=[$\d.])")  # it is - 7
_WORD = re.compile(r"[^\W\d]|_")


def numbers_in(text: str) -> list[str]:
    """The numbers of a text in order, each as the whole token: `-7`, `1/2`, `10:30`, `2^5`, `70000`, `18 cm`.

    A token with digits that is no single number (`5-10`, a date) is "". Words with digits (`x3`, `H2O`) are left out.
    """
    text = _SPACED_THOUSANDS.sub(lambda match: re.sub(r"\s", "", match[0]), text.translate(_SIGNS))
    tokens = _LONE_MINUS.sub(r"\1 -", _MIXED.sub("\\1␣", text)).split()
    found = []
    for token, following in zip(tokens, [*tokens[1:], ""], strict=False):
        if not _DIGIT.search(token):
            continue
        if len(token) > MAX_TOKEN:
            found.append("")
            continue
        factorial = token.endswith("!") and following[:1].islower()
        token = _trimmed(token if factorial else token.rstrip("!"))
        if not _WORD.match(token):
            found.append("" if re.search(r"\d-\d", token) else token.replace("␣", " "))
    return found


_EDGES = re.compile(r"^(?:\\[(\[]|\$(?=\\)|\.(?!\d)|[^\w+\-.$€£¥\\√±({\[])+|(?:\\[)\]]|[^\w%°!)}\]])+$")
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)$")
_UNIT_SUFFIX = re.compile(r"^(?![\d.]+[eE][-+]?\d+$)(.*\d)(?=[A-Za-zµ]+(?:\^?[\d²³])?$)")  # 18cm, not 1e3
_COMPOUND = re.compile(r"(?<=\d)(?:-[A-Za-z].*|/[A-Za-z]{2,})$")  # 12-inch, 5/day


def _trimmed(token: str) -> str:
    """A token without the punctuation, the brackets and the left-hand side around it, its unit set off by a space."""
    left, _, right = token.rpartition("=")
    token = right if _DIGIT.search(right) else left
    token = re.sub(r"^[A-Za-z]+:", "", token)
    for opening, closing in ("()", "[]", "{}"):
        token = _EDGES.sub("", token)
        if token.startswith(opening) and (closing not in token or token.endswith(closing)):
            token = token[1:]
        if token.endswith(closing) and token.count(closing) > token.count(opening):
            token = token[:-1]
    token = _EDGES.sub("", token)
    if token.startswith("$") and "\\" in token:
        token = token[1:]
    return _UNIT_SUFFIX.sub(r"\1 ", _COMPOUND.sub("", _ORDINAL.sub("", token)))


FORMULA = re.compile(r"\$\$(.+?)\$\$|\$((?:[^$\n\\]|\\.)+)\$|\\\(([^\n]+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
DENIED = re.compile(
    r"\s*(?:(?:is|are|was|were|can|could|does|do)?\s?(?:n't|not|never)\b|cannot\b|is (?:wrong|incorrect|false)\b)"
)


# "5", '5'. and “5.” with the sentence's stop on either side; 5" alone has a unit
_QUOTED = re.compile(
    r"""["'`“‘«]([^"'`“”‘’«»\n]{1,200}?)(?:[.,!]?["'`”’»][.,!]?$|(?:[.!]["'`”’»]|["'`”’»][.!])\s+[A-Z(\[*#])"""
)


def unquoted(line: str) -> str:
    """What stands between the quotation marks that a text begins with, where its first sentence ends with them."""
    match = _QUOTED.match(line)
    return match[1].strip() if match else line


def unbrace(line: str) -> str:
    """The line without closing braces that nothing opened."""
    while line.endswith("}") and line.count("}") > line.count("{") and not line.endswith("\\}"):
        line = line[:-1].rstrip()
    return line


_SUBJECT = re.compile(
    r"^.{0,400}?[A-Za-z$)]\s+(?:is|are|equals|be)(?:\s+(?:equal to|therefore|then|thus|given by))?:?\s+(?=\S)", re.S
)


def _without_subject(line: str) -> str:
    """`The volume of $ABC$ is 120` as `120`."""
    while "$" in line or len(line) > 3:
        match = _SUBJECT.match(line)
        if match is None or match.end() >= len(line):
            break
        line = line[match.end() :].strip()
    return line


_VALUE = re.compile(r"[-+−]?[\d$\\(.]|\(?[A-Za-z]\)?$")  # what an answer begins with
_REASON = re.compile(
    r"(?:\s*[,;]\s*|\s+)(?:because|since|as|due to|thanks to|given that)\b|\s*[,;]\s*which\b"
    r"|\s*\((?:because|since|as|by|using|from|via|see|due to)\b",
    re.IGNORECASE,
)
_PREDICATE = re.compile(r"\s+(?:is|are) (?:the|our|your)\b(?!.*\b(?:not|but)\b)")  # 42 is the answer


def _without_reason(line: str) -> str:
    """The line up to a reason that follows a value: `42 because ...`, `42 (by symmetry)`, `42 is the answer`."""
    for pattern in (_REASON, _PREDICATE):
        match = pattern.search(line)
        head = _without_subject(line[: match.start()]) if match else ""
        if match and _VALUE.match(head):
            line = head
    return line


_SENTENCE_END = re.compile(r"(?<=[\w$)}\]%°])[.!]\s+(?=[A-Z\[(*#])")
_PLAIN_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_LABELLED = re.compile(r"\(?[A-J](?:\)|[.:](?=\s))\s*\S")  # E: text of the choice
_KEPT_WHOLE = re.compile(
    r"\s*(?:,|,?\s*(?:and|or)\b)\s*[$\\\d(-]|\s*(?:\\?%|[a-z°]{1,12}\b[.\s]*$)"
)  # $2, \pi$ and $3$


def answer_in(text: str, start: int = 0) -> str:
    """The answer in the first line of `text` that is not empty, from `start` on: without markdown, the sentence around it,
    the reason behind it and closing words. A choice with its text, `E: ...`, stays whole."""
    window = text[start : start + MAX_WINDOW]
    line = next((part for part in window.split("\n") if part.strip(" *_#:\t")), "")
    if line.strip() in ("$$", "\\[", "\\("):  # the formula stands on lines of its own
        line = " ".join(window.split("\n")[:8])
    hope = line.find("I hope it is correct")
    line = (
        unquoted((line[:hope].rstrip(". ") if hope > 0 else line).strip().strip("*_#")).strip().strip('*_`#"').strip()
    )
    whole = _SENTENCE_END.split(line, maxsplit=1)[0]
    line = _without_reason(whole)
    if _LABELLED.match(whole):
        return line if len(line) <= 4 else whole
    line = unquoted(_without_subject(line))
    for opening, closing in DELIMITERS:
        if line.startswith(opening):
            stop = line.find(closing, len(opening))
            rest = line[stop + len(closing) :]
            if stop > 0 and not _KEPT_WHOLE.match(rest) and not DENIED.match(rest):
                return line[len(opening) : stop].strip()
    line = line.strip().strip('*_`"').rstrip()
    if len(line) <= MAX_SENTENCE and len(_PLAIN_WORDS.findall(line)) > 3:
        # a sentence: the only number or formula in it
        found = [match.group().strip("$") for match in FORMULA.finditer(line)] or numbers_in(line)
        line = found[0] if len(found) == 1 and found[0] else line
    return unbrace(line[:-1].rstrip() if line.endswith(".") else line)
