r"""What an answer is: one of the types below, read from text before anything is compared (compare.py).

Number       3/4, 2\sqrt{3}\pi, 50\%, 5 cm (numbers.py)      Based      4210_5
Expression   x^2+1, \cot x: only algebra knows its value     Infinity   -\infty
Items        a bare list 1, -2; a set \{1,2\}; a tuple (1,2) or \langle 1,2 \rangle
Interval     [3,4); x > 2 is one, too                        Union      (0,1) \cup (2,3)
Matrix       rows of elements                                Ratio      7:32
Assign       x = 5, f(x) = 2x, x \in [0,1], -2 < x < 7: what one name stands for
Named        x = 1, y = 2                                    Chain      2+3 = 5, 1/3 \approx 0.33
Relation     x + y = 3, f(1) < f(2): every other equation or inequality
Word         Evelyn, (C), odd                                Opaque     what none of them is: equal to its own text only
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from frpo_verl.rewards.numbers import Number, read_number
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.units import NEVER, is_symbol, read_unit

MAX_ELEMENTS = 1_000
MAX_NESTING = 8


class Based(NamedTuple):
    """Digits in a base that is written beside them."""

    digits: str
    base: int


class Expression(NamedTuple):
    """A formula of numbers, functions and variables; `letters` are its variables."""

    text: str
    letters: frozenset
    unit: str = ""


class Infinity(NamedTuple):
    """Infinity, alone."""

    sign: int


class Items(NamedTuple):
    """Several values; kind is "list" (bare), "set" or "tuple"."""

    kind: str
    items: tuple


class Interval(NamedTuple):
    """Everything between two values; `ends` are its two brackets. "()" is read as a tuple unless an end is infinite."""

    low: Any
    high: Any
    ends: str


class Union(NamedTuple):
    r"""Parts joined by `\cup`, or a set that is written with other operations of sets (then parts is empty)."""

    parts: tuple
    text: str


class Matrix(NamedTuple):
    """Rows of values; a determinant, a sum and a product of matrices are Expressions."""

    rows: tuple


class Ratio(NamedTuple):
    """Values joined by colons, a clock time among them."""

    items: tuple
    clock: bool


class Assign(NamedTuple):
    """What a name stands for; `words` says that the name is a description such as "Area"."""

    name: str
    value: Any
    words: bool = False


class Named(NamedTuple):
    """Values of several names."""

    values: tuple  # of Assign


class Chain(NamedTuple):
    """Several sides that are said to be equal; `about` holds those behind an approximation sign."""

    sides: tuple
    about: tuple


class Relation(NamedTuple):
    """An equation or inequality that is not solved for one name."""

    operators: tuple
    sides: tuple
    text: str


class Word(NamedTuple):
    """Text, folded; a single letter in brackets (a choice) as well."""

    text: str
    choice: bool


class Opaque(NamedTuple):
    """Text that is none of the above."""

    text: str


_LETTERS = {"alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "kappa"}
_LETTERS |= {"lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "phi", "varphi", "chi", "psi", "omega", "ell"}
_LETTERS |= {"Gamma", "Delta", "Theta", "Lambda", "Sigma", "Phi", "Psi", "Omega"}
_COMMANDS = _LETTERS | set(
    "frac sqrt pi sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln exp lg binom dbinom tbinom lfloor "
    "rfloor lceil rceil lvert rvert vert mid max min gcd lcm mod bmod pmod sum prod int lim infty to ldots cdots pm mp "
    "overline begin end det e i operatorname prime left right circ".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_MATRIX = re.compile(r"^([(\[]?)\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\2\}([)\]]?)$", re.DOTALL)
_JOIN = re.compile(
    r",? ?(?<![A-Za-z])(?:and|or)(?![a-z])(?=[\s\\(\[$\d-]|[A-Za-z](?![a-z]))|(?<=[\d)\]}])(?:and|or)(?=[\W\dA-Z]|[a-z]\W)"
)
_OPERATOR = re.compile(r":=|=|\\(?:le|ge|ne|in|approx|equiv|sim)(?![A-Za-z])|<|>")
_INDEX = r"(?:_(?:\w|\{[^{}]*\}))?"
_SYMBOL = rf"(?:[A-Za-z]|\\(?:{'|'.join(sorted(_LETTERS))})(?![A-Za-z])){_INDEX}'*"
_PLAIN = rf"(?:{_SYMBOL}(?:\((?:{_SYMBOL}|\d)(?:,{_SYMBOL})*\))?|[A-Z]{{2,4}}{_INDEX}|\|[A-Za-z]{{1,2}}\||\\(?:angle|overline|triangle|vec|bar|hat) ?\{{?[A-Za-z]{{1,3}}\}}?)"
_NAME = re.compile(
    rf"(?:{_PLAIN}|P\([^()]*\)|[A-Z]{{1,3}}{_INDEX}[:/][A-Z]{{1,3}}{_INDEX}|\\frac\{{[A-Z]{{1,3}}\}}\{{[A-Z]{{1,3}}\}})$"
)
_TUPLE_NAME = re.compile(rf"\(({_PLAIN}(?:,{_PLAIN})+)\)$")
_VARIABLE = re.compile(rf"{_SYMBOL}$")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z.]$")
_SHORT_WORDS = set("no yes odd all six ten one two red by cat dog tie up".split())
_ARTICLE = re.compile(r"^(?:an?|the) ")
_BASE_NAMES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_BASE_NAMES = (_BASE_NAMES + " seventeen eighteen nineteen").split()
_TENS = {name: 20 + 10 * k for k, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_BASED = re.compile(r"^-?([0-9A-Za-z]+)_\{?\s*(\d{1,2}|[a-z]+)\s*\}?$")
_REALS = {r"\mathbb{R}", "all real numbers", "all reals"}
_EMPTY = {r"\emptyset", "no solution", "no solutions", "no real solution", "no real solutions", "empty set"}
_BUILDER = re.compile(r"\\\{ ?[a-z](?:\\in ?\\mathbb\{R\})? ?(?:\\mid|\\vert|[|:]) ?(.*)\\\}$", re.DOTALL)


def _mask(s):
    """Return the text with everything inside brackets blanked, or None when the brackets do not match."""
    out, depth, i = [], 0, 0
    while i < len(s):
        pair = s[i : i + 2] if s[i] == "\\" else s[i]
        opens = pair in ("(", "[", "{", "\\{") or s.startswith(("\\begin{", "\\langle"), i)
        closes = pair in (")", "]", "}", "\\}") or s.startswith(("\\end{", "\\rangle"), i)
        depth -= closes
        if depth < 0:
            return None
        out.append("\x00" * len(pair) if depth or opens or closes else pair)
        depth += opens
        i += len(pair)
    return "".join(out) if depth == 0 else None


def _cut(pattern, s):
    """Return (parts, what was between them) of a text, cut at a pattern outside all brackets; None when the brackets do
    not match."""
    mask = _mask(s)
    found = [] if mask is None else list(pattern.finditer(mask))
    if mask is None or len(found) > MAX_ELEMENTS:
        return None
    starts, ends = [0, *(match.end() for match in found)], [*(match.start() for match in found), len(s)]
    return [s[i:j].strip() for i, j in zip(starts, ends, strict=True)], [match.group().strip() for match in found]


def split(s, separator=","):
    """Split at a separator outside all brackets; None when the brackets do not match."""
    found = _cut(re.compile(separator), s)
    return found and found[0]


def letters_of(s):
    """The variables of a formula: letters outside commands, with their index; e and i are numbers."""
    s = re.sub(r"\\(?:operatorname|begin|end)\{[^{}]*\}", "", s)
    names = {name for name in _COMMAND.findall(s) if name in _LETTERS}
    return frozenset(names | set(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", s))) - {"e", "i"})


def _scalar(s, trusted):
    number = read_number(s, trusted)
    if number is not None:
        return number
    if s.lstrip("+-") == "\\infty":
        return Infinity(-1 if s.startswith("-") else 1)
    based = _BASED.match(s)
    if based and (based.group(1)[0].isdigit() or based.group(1).isupper()):
        digits, base = based.groups()
        base = _BASE_NAMES.index(base) if base in _BASE_NAMES else int(base) if base.isdigit() else 0
        if 2 <= base <= 36 and all(int(c, 36) < base for c in digits) and any(c.isdigit() for c in digits):
            return Based("-" * s.startswith("-") + digits.upper(), base)
    if re.search(r"\d_|\d \d|\d\.\d*\.|[-+*/^]$|[*/^][*/^]|^[*/^]|\d'", s):
        return Opaque(s)
    if s.lower() in _BASE_NAMES:
        return read_number(str(_BASE_NAMES.index(s.lower())))
    tens, _, rest = s.lower().replace("-", " ").partition(" ")
    if tens in _TENS and (not rest or rest in _BASE_NAMES[1:10]):
        return read_number(str(_TENS[tens] + (_BASE_NAMES.index(rest) if rest else 0)))
    word = _word(s)
    if word is not None:
        return word
    return _formula(s)


def _word(s):
    choice = re.fullmatch(r"\(([A-Za-z])\)", s)
    if choice:
        return Word(choice.group(1), True)
    if len(s) > 200 or not _WORDS.match(s):
        return None
    long = any(
        len(run) > 3 or len(run) > 1 and run[0].isupper() and run[1:].islower() for run in re.findall(r"[A-Za-z]+", s)
    )
    if not (long or s.lower() in _SHORT_WORDS):
        return None
    return Word(_ARTICLE.sub("", s.lower().rstrip(".")), False)


def _formula(s):
    if not s or "\\infty" in s and not re.search(r"\\(?:lim|sum|prod|int)(?![A-Za-z])", s):
        return Opaque(s)
    if (
        _mask(s) is None
        or any(name not in _COMMANDS for name in _COMMAND.findall(s))
        or re.search(r"[^\x00-\x7f°]|[@#`\"?]", s)
    ):
        return Opaque(s)
    unit = ""
    match = re.match(r"^(.*[\w)}]) ([A-Za-z]{2,}(?:\^[23])?(?:/[A-Za-z]+)?)$", s)
    if match and match.group(2) not in NEVER and read_unit(match.group(2)):
        s, unit = match.group(1), read_unit(match.group(2))
    return Expression(s, letters_of(s), unit)


def _signs(s):
    r"""Return the two values of a formula with `\pm`, or None."""
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", s):
        return None
    signs = (("+", "-"), ("-", "+"))
    return tuple(re.sub(r"\\mp *", m, re.sub(r"\\pm *", p, s)).removeprefix("+") for p, m in signs)


def _elements(parts, trusted, depth, expand):
    out = []
    for part in parts:
        for text in (_signs(part) or (part,)) if expand else (part,):
            out.append(_read(text, trusted, depth + 1))
    return tuple(out)


def _bracketed(s, trusted, depth):
    match = _MATRIX.match(s)
    if match and s.count("\\begin") == 1:
        if match.group(2) in ("vmatrix", "Vmatrix"):
            return _formula(s)
        rows = [row for row in match.group(3).split("\\\\") if row.strip()]
        return Matrix(tuple(_elements([c.strip() for c in row.split("&")], trusted, depth, False) for row in rows))
    for opening, closing, kind in (("\\{", "\\}", "set"), ("\\langle", "\\rangle", "tuple"), ("{", "}", "set")):
        if s.startswith(opening) and s.endswith(closing) and split(s[len(opening) : -len(closing)]):
            inner = s[len(opening) : -len(closing)].strip()
            parts = split(inner, ";" if split(inner, ";")[1:] else ",")
            if opening == "{" and len(parts) == 1:
                return _read(inner, trusted, depth + 1)
            return Items(kind, _elements(parts, trusted, depth, kind == "set"))
    if len(s) > 2 and s[0] in "([" and s[-1] in ")]" and split(s[1:-1]):
        inner = s[1:-1].strip()
        parts = split(inner, ";" if split(inner, ";")[1:] else ",")
        if len(parts) == 1:
            plain = s[0] + s[-1] == "()" and not re.fullmatch("[A-Za-z]", inner)
            return _read(inner, trusted, depth + 1) if plain else None
        values = _elements(parts, trusted, depth, False)
        infinite = len(values) == 2 and any(isinstance(value, Infinity) for value in values)
        if len(values) == 2 and (infinite or s[0] + s[-1] != "()"):
            return Interval(*values, s[0] + s[-1])
        return Items("tuple", values) if s[0] + s[-1] == "()" else Opaque(s)
    return None


def _list(s, trusted, depth):
    """Read a bare list, or None. `x = 1, -2` names all, `x = 1, y = 2` is Named, `;` parts such groups."""
    if ";" in s:
        groups = split(s, ";")
        if groups and len(groups) > 1 and all(groups):
            return Items("list", _elements(groups, trusted, depth, True))
    joined = re.search(r"(?<![a-z])(?:and|or)(?![a-z])", s)
    union = joined and re.search(r"[<>]|\\[lgn]e(?![a-z])", s) and "or" in s
    if joined:
        s = re.sub(r",{2,}", ",", _JOIN.sub(",", s)).strip(", ")
    parts = split(s)
    if parts and parts[-1].startswith(("and ", "or ")):
        parts[-1] = parts[-1].split(" ", 1)[1]
    if not parts or len(parts) < 2 or not all(parts):
        return None
    values = _elements(parts, trusted, depth, True)
    names = [value.name for value in values if isinstance(value, Assign)]
    if len(names) == len(values) and len(set(names)) == len(names) and "(" not in "".join(n[0] for n in names):
        return Named(values)
    if names and isinstance(values[0], Assign) and len(set(names)) == 1:
        plain = tuple(value.value if isinstance(value, Assign) else value for value in values)
        if union and all(isinstance(value, (Interval, Union)) for value in plain):
            return Assign(names[0], Union(plain, s))
        return Items("list", sum((v.items if isinstance(v, Items) and v.kind == "list" else (v,) for v in plain), ()))
    return Items("list", values)


def _name(s):
    """Return (canonical name, whether it is a description) or None."""
    s = s.strip()
    if _NAME.match(s):
        return re.sub(r"\([a-z](?:,[a-z])*\)$", "()", s).replace("{", "").replace("}", ""), False
    if _TUPLE_NAME.match(s):
        return s, False
    if _WORDS.match(s) and _word(s) and len(s) <= 60:
        return s.lower(), True
    return None


_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}


def _bounds(operators, sides, trusted, depth):
    """Read a solved inequality as (name, Interval or Union), or None."""
    places = [k for k, side in enumerate(sides) if _name(side) and not _name(side)[1]]
    if len(places) != 1 or len(sides) == 3 and places != [1] or len(sides) > 3:
        return None
    name, at = _name(sides[places[0]])[0], places[0]
    if name[0] == "|":
        return None
    others = [_read(side, trusted, depth + 1) for k, side in enumerate(sides) if k != at]
    if any(not isinstance(v, (Number, Expression, Infinity)) for v in others):
        return None
    variable = letters_of(sides[at])
    if any(isinstance(v, Expression) and v.letters & variable for v in others):
        return None
    if operators == ["\\ne"]:
        below, above = Interval(Infinity(-1), others[0], "()"), Interval(others[0], Infinity(1), "()")
        return name, Union((below, above), "")
    if len(sides) == 2:
        operator = operators[0] if at == 0 else _FLIPPED.get(operators[0])
        if operator in (">", "\\ge"):
            return name, Interval(others[0], Infinity(1), "[)" if operator == "\\ge" else "()")
        return (name, Interval(Infinity(-1), others[0], "(]" if operator == "\\le" else "()")) if operator else None
    if any(operator not in _FLIPPED for operator in operators) or operators[0][-1] not in "<>e":
        return None
    up = {"<": 1, "\\le": 1, ">": -1, "\\ge": -1}
    if up[operators[0]] != up[operators[1]]:
        return None
    if up[operators[0]] < 0:
        others, operators = others[::-1], [_FLIPPED[operator] for operator in operators[::-1]]
    return name, Interval(*others, ("[" if operators[0] == "\\le" else "(") + ("]" if operators[1] == "\\le" else ")"))


def _related(s, trusted, depth):
    """Read equations, inequalities, memberships and approximations; None when there is no operator outside brackets."""
    found = _cut(_OPERATOR, s)
    if found is None:
        return None
    sides, operators = found
    if not operators:
        return None
    if not sides[0] and len(sides) == 2 and operators[0] in ("=", "\\approx"):  # "= 5"
        return _read(sides[1], trusted, depth + 1)
    if not all(sides) or set(operators) & {"\\equiv", "\\sim"}:
        return Opaque(s)
    if set(operators) <= {"=", ":=", "\\approx"}:
        name, rest, signs = _name(sides[0]), sides[1:], operators[1:]
        if name is None or _VARIABLE.match(sides[-1]) and len(sides) == 2 and not _VARIABLE.match(sides[0]):
            back = _name(sides[-1]) if len(sides) == 2 and operators == ["="] else None
            name, rest, signs = (back, sides[:1], []) if back and not back[1] else (None, sides, operators)
            if name is None and _name(sides[0]):
                name, rest, signs = _name(sides[0]), sides[1:], operators[1:]
        own = letters_of(sides[0] if name and rest == sides[1:] else sides[-1]) if name and not name[1] else frozenset()
        values = [value for side in rest for value in _elements([side], trusted, depth, False)]
        if any(isinstance(v, (Relation, Opaque)) for v in values) or any(
            isinstance(v, Expression)
            and v.letters & own
            and _VARIABLE.match(sides[0] if rest == sides[1:] else sides[-1])
            for v in values
        ):
            return Relation(tuple(operators), tuple(sides), s)
        if len(rest) == 1:
            signed = _signs(rest[0])
            value = Items("list", _elements([rest[0]], trusted, depth, True)) if signed else values[0]
        else:
            cut = next((k for k, sign in enumerate(signs) if sign == "\\approx"), len(rest))
            value = Chain(tuple(values[: cut + 1]), tuple(values[cut + 1 :]))
            if name is None and len(rest) == 2 and any(isinstance(v, Expression) and v.letters for v in values):
                return Relation(tuple(operators), tuple(sides), s)
        return value if name is None else Assign(name[0], value, name[1])
    if operators == ["\\in"]:
        name = _name(sides[0])
        return Assign(name[0], _read(sides[1], trusted, depth + 1)) if name else Opaque(s)
    if "\\in" not in operators and "=" not in operators and "\\approx" not in operators:
        bounds = _bounds(operators, sides, trusted, depth)
        if bounds:
            return Assign(*bounds)
    return Relation(tuple(operators), tuple(sides), s)


def _sets(s, trusted, depth):
    if not re.search(r"\\(?:cup|cap|setminus|backslash)(?![A-Za-z])", s):
        return None
    found = _cut(re.compile(r"\\cup(?![A-Za-z])"), s)
    if found is None or re.search(r"\\(?:cap|setminus|backslash)(?![A-Za-z])", s):
        return Union((), s)
    parts = []
    for part in found[0]:
        value = _read(part, trusted, depth + 1)
        if isinstance(value, Items) and value.kind == "tuple" and len(value.items) == 2:
            value = Interval(*value.items, "()")
        parts.append(value)
    return Union(tuple(parts) if all(isinstance(v, (Interval, Items)) for v in parts) else (), s)


def _read(s, trusted, depth):
    s = s.strip()
    if depth > MAX_NESTING or not s:
        return Opaque(s)
    number = read_number(s, trusted)
    if number is not None:
        return number
    if s.lower() in _EMPTY:
        return Items("set", ())
    if s.lower() in _REALS or s in _REALS:
        return Interval(Infinity(-1), Infinity(1), "()")
    built = _BUILDER.match(s)
    if built:
        return _read(built.group(1), trusted, depth + 1)
    for reader in (_list, _related, _sets, _bracketed, _ratio):
        value = reader(s, trusted, depth)
        if value is not None:
            return value
    signs = _signs(s)
    if signs:
        return Items("list", _elements([s], trusted, depth, True))
    return _scalar(s, trusted)


def _ratio(s, trusted, depth):
    parts = split(s, ":")
    if not parts or len(parts) < 2 or not all(parts):
        return None
    if re.fullmatch(r"\d{1,2}:[0-5]\d(?: ?[ap]\.?m\.?)?", s, re.IGNORECASE):
        return Ratio(
            (read_number(parts[0]), read_number(re.sub(r"(?<=\d) ?([ap])\.?m\.?$", r" \1m", parts[1].lower()))), True
        )
    if _name(parts[0]) and _name(parts[0])[1]:  # "Answer: 5"
        return None
    return Ratio(_elements(parts, trusted, depth, False), False)


@lru_cache(maxsize=8192)
def read(text, trusted=False, grouped=True):
    """Read an answer as one of the types above.

    Args:
      text: an answer or a ground truth.
      trusted: whether it is a ground truth, where a word outside the vocabulary of units may name what is counted.
      grouped: whether `1,080` is one number.
    """
    return _read(normalize(text, grouped), trusted, 0)


__all__ = ["is_symbol"]
