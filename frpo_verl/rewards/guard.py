r"""Refuse answers that would only burn a verification process: power towers, factorials, deep nesting.

This saves time and is not the safety net: whatever passes here is verified in a process that is killed at a deadline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import log10

from frpo_verl.rewards.brackets import groups
from frpo_verl.rewards.exact import approximate, read_number

MAX_EXPONENT = 100_000
MAX_BOUND = 10_000  # of a sum, product or binomial
MAX_FACTORIAL = 1_000
MAX_DEPTH = 40
MAX_DIGIT_RUN = 1_000
MAX_ELEMENTS = 200
MAX_LOGARITHMS = 4


_ATOM = re.compile(r"[+-]?(?:\d+|\\?[A-Za-z]+|.)", re.DOTALL)


def _exponents(s: str, closing: dict[int, int]) -> Iterator[str]:
    """The exponents of a text; one that has an exponent of its own, 9^9^9, comes with it."""
    for match in re.finditer(r"\^", s):
        start = end = match.end()
        while end < len(s):
            atom = _ATOM.match(s, end)
            end = closing[end] + 1 if end in closing else atom.end() if atom else len(s)
            if s[end : end + 1] != "^":
                break
            end += 1
        yield s[start:end]


def _factorials(s: str, closing: dict[int, int]) -> Iterator[str]:
    """What stands before each factorial sign."""
    opening = {end: start for start, end in closing.items()}
    for match in re.finditer(r"(\d{0,60})!(?!=)", s):
        end = match.end() - 1
        yield s[opening[end - 1] : end] if end - 1 in opening else match[1] or s[max(0, end - 1) : end]


def _within(text: str, limit: int) -> bool:
    """Whether a number is at most `limit`, in its real and its imaginary part; in what is no number, such as 2n, every
    number has to be."""
    number = read_number(text)
    if number is not None:
        parts = ({(n, k, 0): c for (n, k, m), c in number.form.items() if m == imaginary} for imaginary in (0, 1))
        values = [approximate(part) for part in parts]
        return all(value is not None and abs(value) <= limit for value in values)
    tower = "^" in text and not re.search(r"(?<!\\)[A-Za-z]", text)
    return not tower and all(int(digits[:9]) <= limit for digits in re.findall(r"\d+", text))


_LONG_NUMBER = re.compile(r"\d{51,}")
_BOUNDED = re.compile(r"\\(?:sum|prod|bigcup|bigcap|[dt]?binom|Gamma|zeta)(?![A-Za-z])")
_UNEVALUATED = re.compile(r"\\(?:int|oint|iint|sum|prod|lim)(?![A-Za-z])")
_POWER = re.compile(r"(\d+)\)?\^[{(]?(\d+)")


def refuse(answer: str, gold: str = "") -> str:
    r"""Why a normalised answer is not worth a verification process, or "".

    Args:
        answer: the normalised text of the answer (spelling.normalize), at most a few thousand characters.
        gold: the normalised ground truth; only where it has `\int`, `\sum`, `\prod` or `\lim` may the answer have them.
    """
    closing, depth = groups(answer)
    if _UNEVALUATED.search(answer) and not _UNEVALUATED.search(gold):
        return "an integral, sum, product or limit that is not worked out"
    if len(re.findall(r"\\(?:log|ln)(?![A-Za-z])", answer)) > MAX_LOGARITHMS:
        return f"more than {MAX_LOGARITHMS} logarithms"
    if _LONG_NUMBER.search(answer) and ("^" in answer or "\\sqrt" in answer):
        return "a power or root next to a number of more than 50 digits"
    if re.search(rf"\d{{{MAX_DIGIT_RUN + 1}}}", answer):
        return f"more than {MAX_DIGIT_RUN} digits in a row"
    if depth > MAX_DEPTH or len(re.findall(r"\\frac|\\sqrt", answer)) > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    if answer.count(",") > MAX_ELEMENTS:
        return f"more than {MAX_ELEMENTS} elements"
    if not all(_within(exponent, MAX_EXPONENT) for exponent in _exponents(answer, closing)):
        return f"an exponent above {MAX_EXPONENT}"
    if not all("!" not in n and _within(n, MAX_FACTORIAL) for n in _factorials(answer, closing)):
        return f"a factorial above {MAX_FACTORIAL}!"
    for match in _BOUNDED.finditer(answer):
        near = answer[match.end() : match.end() + 60]
        powers = [log10(int(base) or 1) * int(power) for base, power in _POWER.findall(near)]
        if not _within(re.sub(r"[^\d]+", " x ", near), MAX_BOUND) or max(powers, default=0) > log10(MAX_BOUND):
            return f"a bound above {MAX_BOUND} in {match.group()}"
    return ""
