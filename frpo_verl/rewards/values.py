r"""What an answer is: one of six types, read from text (reading.py) before anything is compared (compare.py).

Number   3/4, 2\sqrt{3}\pi, 50\%, 5 cm (arithmetic: exact.py)
Formula  what only algebra can judge: a value (\cot x), a relation (x + y = 3), a set (A \setminus \{2\})
Items    several values: list, set, tuple, interval, union, matrix, ratio, names with their values
Assign   what one name stands for: x = 5, f(x) = 2x, x \in [0,1], and a solved inequality: -2 < x < 7
Chain    sides that are said to be equal: 2+3 = 5, 1/3 \approx 0.33
Text     a word, a choice, digits in a base; and what could not be read, which equals its own text only
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, TypeAlias

Form: TypeAlias = "dict[tuple[int, int, int], Fraction]"  # {(n, k, m): c}: the sum of c * sqrt(n) * pi^k * i^m


class Number(NamedTuple):
    """A number with what its notation says: `places` after the point and significant `digits` of a lone decimal (else
    0), whether any decimal was written, `percent` sign, canonical `unit` or ""."""

    form: Form
    places: int = 0
    digits: int = 0
    decimal: bool = False
    percent: bool = False
    unit: str = ""


class Formula(NamedTuple):
    """LaTeX for the algebra; kind is "value", "relation" or "set", `letters` are the variables of a value."""

    text: str
    kind: str = "value"
    letters: frozenset[str] = frozenset()
    unit: str = ""


class Items(NamedTuple):
    r"""Several values. The kind is "list" (bare), "set", "()" (a tuple or an open interval), "open" (an open interval for
    certain: x > 2), "[]", "[)", "(]", "union", "matrix" (of "row"s), "ratio", "time", "mod" (a remainder and its
    modulus), "parts" (of one quantity), or "named" (of Assigns)."""

    kind: str
    items: tuple[Value, ...]


class Assign(NamedTuple):
    """What a name stands for; `words` says that the name is a description such as "Area"."""

    name: str
    value: Value
    words: bool = False


class Chain(NamedTuple):
    """Several sides that are said to be equal; `about` holds those behind an approximation sign."""

    sides: tuple[Value, ...]
    about: tuple[Value, ...]


class Text(NamedTuple):
    """Words; kind is "word" (folded, or digits with their base), "choice" (a letter in brackets) or "unread"."""

    text: str
    kind: str


Value: TypeAlias = "Number | Formula | Items | Assign | Chain | Text"

INFINITY, MINUS_INFINITY = Formula("\\infty"), Formula("-\\infty")

# how the items of a kind are written: opening, between, closing
_WRITTEN = {
    "set": ("\\{", ",", "\\}"), "open": ("(", ",", ")"), "row": ("", "&", ""), "union": ("", "\\cup ", ""),
    "ratio": ("", ":", ""), "time": ("", ":", ""), "list": ("", ",", ""),
    "matrix": ("\\begin{pmatrix}", "\\\\", "\\end{pmatrix}"),
}  # fmt: skip


def unread(text: str) -> Text:
    """The value of a text that could not be read."""
    return Text(text, "unread")


def write(value: Value) -> str | None:
    """A value as LaTeX for the algebra, or None for a type that algebra has nothing to say about."""
    if isinstance(value, Number):
        total = _sum(value.form)
        return f"\\frac{{{total}}}{{100}}" if value.percent else total
    if isinstance(value, Formula):
        return value.text
    if not isinstance(value, Items) or value.kind in ("named", "parts", "mod"):
        return None
    parts = [text for text in map(write, value.items) if text is not None]
    if len(parts) < len(value.items):
        return None
    opening, between, closing = _WRITTEN.get(value.kind) or (value.kind[0], ",", value.kind[1])
    return opening + between.join(parts) + closing


def _sum(form: Form) -> str:
    parts = []
    for (n, k, m), c in form.items():
        text = f"\\frac{{{c.numerator}}}{{{c.denominator}}}" if c.denominator != 1 else str(c.numerator)
        parts.append(text + f"\\cdot\\sqrt{{{n}}}" * (n != 1) + f"\\cdot\\pi^{{{k}}}" * (k != 0) + "\\cdot i" * m)
    return "+".join(parts).replace("+-", "-") or "0"
