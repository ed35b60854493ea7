r"""Read text as one of the types of values.py, by recursive descent over lists, relations, sets, brackets and words.

A text arrives in one spelling (spelling.py). It is a number if exact.py can read it; else the readers of `_Reader` are asked in
turn, and the first that knows it answers. A part of it (an element of a list, a side of an equation) is read in the same way.
What nobody knows is a formula, if algebra could read it, or an unread text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from frpo_verl.rewards import words
from frpo_verl.rewards.brackets import cut, mask, split
from frpo_verl.rewards.exact import read_number
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.units import NEVER, read_unit
from frpo_verl.rewards.values import (
    INFINITY,
    MINUS_INFINITY,
    Assign,
    Chain,
    Formula,
    Items,
    Number,
    Text,
    Value,
    unread,
)
from frpo_verl.rewards.words import INDEX, LETTERS, NAME, SYMBOL, read_name

MAX_NESTING = 8

# -------------------------------------------------------------------------------------------------------------- formulas

_COMMANDS = LETTERS | frozenset(  # that latex2sympy reads
    "frac sqrt pi sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln exp lg binom dbinom tbinom lfloor "
    "rfloor lceil rceil lvert rvert vert mid max min gcd lcm mod bmod pmod sum prod int lim infty to ldots cdots pm mp "
    "overline begin end det e i operatorname prime left right circ".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_NO_FORMULA = re.compile(
    r"[^\x00-\x7f°]|[@#`\"?]|\d_|(?<![_^\d.])\d+ \d|\.\d*\.|[-+*/^]$|[*/^][*/^]|^[*/^]|(?<![A-Za-z)}'])'"
)
_FORMULA_UNIT = re.compile(r"^(.*[\w)}]) ([A-Za-z]{2,}(?:\^[23])?(?:/[A-Za-z]+)?)$")


def letters_of(s: str) -> frozenset[str]:
    """The variables of a formula: letters outside commands, with their index; e and i are numbers."""
    s = re.sub(r"\\(?:operatorname|begin|end)\{[^{}]*\}", "", s)
    names = {name for name in _COMMAND.findall(s) if name in LETTERS}
    return frozenset(names | set(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", s))) - {"e", "i"})


def read_formula(s: str) -> Formula | Text:
    """A formula that has no structure of its own; what latex2sympy would misread is not read."""
    infinite = "\\infty" in s and not re.search(r"\\(?:lim|sum|prod|int)(?![A-Za-z])", s)
    foreign = any(name not in _COMMANDS for name in _COMMAND.findall(s)) or _NO_FORMULA.search(s)
    if not s or infinite or foreign or mask(s) is None or "'" in s and not letters_of(s):
        return unread(s)
    match = _FORMULA_UNIT.match(s)
    unit = read_unit(match[2]) if match and match[2] not in NEVER else None
    s = match[1] if match and unit else s
    if any(read_unit(run) is not None for run in re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", s)):
        return unread(s)  # not the product of its letters
    return Formula(s, "value", letters_of(s), unit or "")


def _flat(values: Iterable[Value]) -> tuple[Value, ...]:
    """The values, with those of a bare list among them in its place."""
    return tuple(part for v in values for part in (v.items if isinstance(v, Items) and v.kind == "list" else (v,)))


class _Reader:
    """Reads one text by recursive descent; each reader returns a value, or None for what it does not know."""

    def __init__(self, trusted: bool) -> None:
        self.trusted, self.depth = trusted, 0

    def value(self, s: str) -> Value:
        s = s.strip()
        if self.depth > MAX_NESTING or not s:
            return unread(s)
        number = read_number(s, self.trusted) or self.parts(s)
        if number is not None:
            return number
        self.depth += 1
        s = s.replace("␣", "")
        readers = (
            self.builder, words.read_constant, self.labelled, self.listed, self.congruence, self.relation, self.sets,
            self.bracketed, self.ratio, self.signs, words.read_base, words.read_count, words.read_word, read_formula,
        )  # fmt: skip
        value = next(value for value in (reader(s) for reader in readers) if value is not None)
        self.depth -= 1
        return value

    def values(self, parts: Iterable[str]) -> tuple[Value, ...]:
        return tuple(self.value(part) for part in parts)

    BUILDER = re.compile(r"\\\{ ?[a-z](?:\\in ?\\mathbb\{R\})? ?(?:\\mid|\\vert|[|:]) ?(.*)\\\}$", re.DOTALL)

    def builder(self, s: str) -> Value | None:
        r"""What stands behind the bar of \{x \mid x > 2\}."""
        built = self.BUILDER.match(s)
        return self.value(built[1]) if built else None

    LABEL = re.compile(r"(?:\(([A-E])\)|([A-E])[.:)]) ?(?=[-\d.\\])")  # (B) 12
    POINT = re.compile(r"(?:([A-Z])|point)(?=\([^()]*,[^()]*\)$)")  # A(3,4)

    def labelled(self, s: str) -> Value | None:
        """A choice with its number, (B) 12, or in an answer a point with its name, A(3,4)."""
        label, point = self.LABEL.match(s), self.POINT.match(s)
        if label:
            number = read_number(s[label.end() :].strip())
            return number and Assign((label[1] or label[2]).lower(), number, True)
        if self.trusted or not point:
            return None
        value = self.value(s[point.end() :])
        return Assign(point[1], value) if point[1] else value

    BETWEEN_UNITS = re.compile(r"(?<=[A-Za-z.°]) ?(?:and )?(?=\d)")  # 4 feet 6 inches

    def parts(self, s: str) -> Items | None:
        """A quantity in several units, 4 feet 6 inches."""
        parts = [re.sub(r"(?<=\d)'$", " min", part) for part in self.BETWEEN_UNITS.split(s)]
        values = [v for v in map(read_number, parts) if v] if 1 < len(parts) < 5 else []
        units = {v.unit for v in values}
        whole = len(values) == len(parts) and len(units) == len(values) and "" not in units
        return Items("parts", tuple(values)) if whole else None

    CASES = re.compile(r"^\\begin\{cases\}(.*)\\end\{cases\}$", re.DOTALL)
    JOIN = re.compile(  # and, or between values
        r",? ?(?<![A-Za-z])(?:and|or)(?![a-z])(?=[\s\\(\[$\d-]|[A-Za-z](?![a-z]))|(?<=[\d)\]}])(?:and|or)(?=[\W\dA-Z]|[a-z]\W)"
    )

    def listed(self, s: str) -> Value | None:
        """A bare list. `x = 1, -2` names all, `x = 1, y = 2` are names, `;` parts such groups."""
        s = s if "&" in s else self.CASES.sub(lambda m: m[1].replace("\\\\", ","), s)
        parts, alternatives = split(s, ";"), False
        if len(parts) < 2:
            joined = re.search(r"(?<![a-z])(?:and|or)(?![a-z])", s)
            alternatives = bool(joined and re.search(r"[<>]|\\[lgn]e(?![a-z])", s) and "or" in s)
            parts = split(re.sub(r",{2,}", ",", self.JOIN.sub(",", s)).strip(", ") if joined else s)
            parts = [re.sub(r"^(?:and|or) ", "", part) for part in parts]
        if len(parts) < 2 or not all(parts):
            return None
        values = _flat(self.values(parts))
        names = [value.name for value in values if isinstance(value, Assign)]
        if len(names) == len(values) == len(set(names)) and not any(name[0] == "(" for name in names):
            return Items("named", values)
        if isinstance(values[0], Assign) and len(set(names)) == 1:
            values = tuple(value.value if isinstance(value, Assign) else value for value in values)
            if alternatives:
                return Assign(names[0], Items("union", values))
        return Items("list", _flat(values))

    CONGRUENCE = re.compile(
        rf"(?:({NAME}) ?\\equiv ?)?(-?\d{{1,30}}) ?\(?(?:\\pmod|mod|\\bmod|\\mod) ?(\d{{1,30}})\)?$"
    )

    def congruence(self, s: str) -> Value | None:
        r"""`x \equiv 7 \pmod{12}`, or what x is alone; `19 \bmod 12` alone is an operation."""
        match = self.CONGRUENCE.match(s)
        if match is None or match[1] is None and "\\bmod" in s or not int(match[3]):
            return None
        value = Items("mod", self.values((str(int(match[2]) % int(match[3])), match[3])))
        return Assign(match[1], value) if match[1] else value

    OPERATOR = re.compile(r":=|=|\\(?:le|ge|ne|in|approx|equiv|sim)(?![A-Za-z])|<|>")

    def relation(self, s: str) -> Value | None:
        """Equations, inequalities, memberships and approximations: an operator stands outside all brackets."""
        sides, operators = cut(self.OPERATOR, s)
        if not operators:
            return None
        if not sides[0] and len(sides) == 2 and operators[0] in ("=", "\\approx"):  # "= 5"
            return self.value(sides[1])
        if not all(sides) or set(operators) & {"\\equiv", "\\sim"}:
            return unread(s)
        if operators == ["\\in"]:
            name = read_name(sides[0])
            return Assign(name[0], self.value(sides[1])) if name else unread(s)
        if set(operators) <= {"=", ":=", "\\approx"}:
            return self.equation(sides, operators) or Formula(s, "relation")
        return self.bounds(sides, operators) or Formula(s, "relation")

    VARIABLE = re.compile(rf"{SYMBOL}$")

    def equation(self, sides: list[str], operators: list[str]) -> Value | None:
        """A name and what it stands for, or a chain of equal sides; None for an equation that is to be solved."""
        name, back = read_name(sides[0]), read_name(sides[1]) if operators == ["="] else None
        left, right = (self.VARIABLE.match(side) for side in sides[:2])
        if back and not back[1] and (name is None or right and not left):
            name, sides = back, sides[::-1]  # 5 = x
        values = self.values(sides[1:] if name else sides)
        own = letters_of(re.sub(INDEX, "", sides[0])) if name and self.VARIABLE.match(sides[0]) else frozenset()
        if any(isinstance(v, Assign) or isinstance(v, Text) and v.kind == "unread" for v in values):
            return None
        formulas = [v for v in values if isinstance(v, Formula)]
        if any(v.kind != "value" or v.letters & own for v in formulas):
            return None
        if name is None and len(values) == 2 and any(v.letters for v in formulas):
            return None
        value = values[0]
        if len(values) > 1:
            between = operators[name is not None :]
            exact = between.index("\\approx") + 1 if "\\approx" in between else len(values)
            value = Chain(values[:exact], values[exact:])
        return Assign(name[0], value, name[1]) if name else value

    FLIPPED = {">": "<", "\\ge": "\\le"}

    def bounds(self, sides: list[str], operators: list[str]) -> Value | None:
        """A solved inequality as the interval or union that a lone name is in."""
        if set(operators) <= {">", "\\ge"}:  # read from the right
            sides, operators = sides[::-1], [self.FLIPPED[operator] for operator in operators[::-1]]
        unequal = operators == ["\\ne"]
        if not unequal and not set(operators) <= {"<", "\\le"} or len(sides) > 3:
            return None
        names = [read_name(side) if side[0] != "|" else None for side in sides]
        at = [(k, name[0]) for k, name in enumerate(names) if name and not name[1]]
        if len(at) != 1 or len(sides) == 3 and at[0][0] != 1:
            return None
        place, name = at[0]
        ends, own = [self.value(side) for k, side in enumerate(sides) if k != place], letters_of(sides[place])
        if not all(isinstance(v, Number) or isinstance(v, Formula) and not v.letters & own for v in ends):
            return None
        if unequal:
            below, above = Items("open", (MINUS_INFINITY, *ends)), Items("open", (*ends, INFINITY))
            return Assign(name, Items("union", (below, above)))
        if len(sides) == 2:
            ends = [MINUS_INFINITY, *ends] if place == 0 else [*ends, INFINITY]
            operators = ["<", *operators] if place == 0 else [*operators, "<"]
        kind = "[("[operators[0] == "<"] + "])"[operators[1] == "<"]
        return Assign(name, Items("open" if kind == "()" else kind, tuple(ends)))

    def sets(self, s: str) -> Value | None:
        r"""Unions of sets, and what else has \cup, \cap or \setminus."""
        if not re.search(r"\\(?:cup|cap|setminus|backslash)(?![A-Za-z])", s):
            return None
        parts = self.values(split(s, r"\\cup(?![A-Za-z])"))
        union = len(parts) > 1 and all(isinstance(v, Items) for v in parts)
        return Items("union", parts) if union else Formula(s, "set")

    def matrix(self, rows: Iterable[list[str]]) -> Value:
        return Items("matrix", tuple(Items("row", self.values(row)) for row in rows))

    PAIRS = (
        ("\\{", "\\}", "set"), ("{", "}", "set"), ("\\langle", "\\rangle", "()"), ("(", ")", "()"), ("[", "]", "[]"),
        ("(", "]", "(]"), ("[", ")", "[)"),
    )  # fmt: skip
    MATRIX = re.compile(
        r"^([(\[]?)\\begin\{([pbvBV]?matrix|smallmatrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\2\}([)\]]?)$", re.DOTALL
    )

    def bracketed(self, s: str) -> Value | None:
        """A matrix, or what stands in one pair of brackets: a set, a tuple, an interval."""
        match = self.MATRIX.match(s)
        if match and s.count("\\begin") == 1:
            if match[2] in ("vmatrix", "Vmatrix"):
                return read_formula(s)
            return self.matrix(row.split("&") for row in match[3].split("\\\\") if row.strip())
        for opening, closing, kind in self.PAIRS:
            inner = s[len(opening) : -len(closing)].strip()
            if not (s.startswith(opening) and s.endswith(closing) and inner and mask(inner) is not None):
                continue
            parts = split(inner, ";") if split(inner, ";")[1:] else split(inner)
            if kind == "set" and (len(parts) > 1 or opening != "{"):
                return Items(kind, _flat(self.values(parts)))
            if kind == "[]" and all(part[:1] == "[" and part[-1:] == "]" for part in parts):  # [[1,2],[3,4]]
                return self.matrix(split(part[1:-1]) for part in parts)
            if len(parts) > 1:
                return Items(kind, self.values(parts)) if kind == "()" or len(parts) == 2 else unread(s)
            if kind in ("set", "()") and not (kind == "()" and re.fullmatch("[A-Za-z]", inner)):
                return self.value(inner)
        return None

    TIME = re.compile(r"\d{1,2}:[0-5]\d(?: ?[ap]\.?m\.?)?$", re.IGNORECASE)

    def ratio(self, s: str) -> Value | None:
        """A ratio, or a time of day."""
        parts = split(s, ":")
        if len(parts) < 2 or not all(parts):
            return None
        name = read_name(parts[0])
        if name and name[1]:  # "Answer: 5"
            return None
        parts[-1] = re.sub(r"(?<=\d) ?([ap])\.?m\.?$", r" \1m", parts[-1], flags=re.IGNORECASE).lower()
        return Items("time" if self.TIME.match(s) else "ratio", self.values(parts))

    def signs(self, s: str) -> Value | None:
        r"""The two values of a formula with `\pm`."""
        if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", s):
            return None
        pairs = (("+", "-"), ("-", "+"))
        both = (re.sub(r"\\mp *", m, re.sub(r"\\pm *", p, s)).removeprefix("+") for p, m in pairs)
        return Items("list", self.values(both))


@lru_cache(maxsize=8192)
def read(text: str, trusted: bool = False, grouped: bool = True) -> Value:
    """Read an answer as one of the types of values.py.

    Args:
        text: an answer or a ground truth.
        trusted: whether it is a ground truth, where a word outside the vocabulary of units may name what is counted.
        grouped: whether `1,080` is one number.
    """
    return _Reader(trusted).value(normalize(text, grouped))
