r"""What an answer is: one of six types, read from text before anything is compared (compare.py).

Number   3/4, 2\sqrt{3}\pi, 50\%, 5 cm (numbers.py)
Formula  what only algebra can judge: a value (\cot x), a relation (x + y = 3), a set (A \setminus \{2\})
Items    several values: list, set, tuple, interval, union, matrix, ratio, names with their values
Assign   what one name stands for: x = 5, f(x) = 2x, x \in [0,1], and a solved inequality: -2 < x < 7
Chain    sides that are said to be equal: 2+3 = 5, 1/3 \approx 0.33
Text     a word, a choice, digits in a base; and what could not be read, which equals its own text only
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from frpo_verl.rewards.brackets import cut, mask, split
from frpo_verl.rewards.numbers import Number, read_number
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.units import NEVER, read_unit

MAX_NESTING = 8


class Formula(NamedTuple):
    """LaTeX for the algebra; kind is "value", "relation" or "set", `letters` are the variables of a value."""

    text: str
    kind: str = "value"
    letters: frozenset = frozenset()
    unit: str = ""


class Items(NamedTuple):
    r"""Several values. The kind is "list" (bare), "set", "()" (a tuple or an open interval), "open" (an open interval for
    certain: x > 2), "[]", "[)", "(]", "union", "matrix" (of "row"s), "ratio", or "named" (of Assigns)."""

    kind: str
    items: tuple


class Assign(NamedTuple):
    """What a name stands for; `words` says that the name is a description such as "Area"."""

    name: str
    value: Any
    words: bool = False


class Chain(NamedTuple):
    """Several sides that are said to be equal; `about` holds those behind an approximation sign."""

    sides: tuple
    about: tuple


class Text(NamedTuple):
    """Words; kind is "word" (folded, or digits with their base), "choice" (a letter in brackets) or "unread"."""

    text: str
    kind: str


def unread(text):
    """The value of a text that could not be read."""
    return Text(text, "unread")


INFINITY, MINUS_INFINITY = Formula("\\infty"), Formula("-\\infty")
_LETTERS = set(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi chi "
    "psi omega ell Gamma Delta Theta Lambda Sigma Phi Psi Omega".split()
)
_COMMANDS = _LETTERS | set(
    "frac sqrt pi sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan log ln exp lg binom dbinom tbinom lfloor "
    "rfloor lceil rceil lvert rvert vert mid max min gcd lcm mod bmod pmod sum prod int lim infty to ldots cdots pm mp "
    "overline begin end det e i operatorname prime left right circ".split()
)
_NO_FORMULA = re.compile(
    r"[^\x00-\x7f°]|[@#`\"?]|\d_|(?<![_^\d.])\d+ \d|\.\d*\.|[-+*/^]$|[*/^][*/^]|^[*/^]|(?<![A-Za-z)}'])'"
)
_FORMULA_UNIT = re.compile(r"^(.*[\w)}]) ([A-Za-z]{2,}(?:\^[23])?(?:/[A-Za-z]+)?)$")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_MATRIX = re.compile(r"^([(\[]?)\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\2\}([)\]]?)$", re.DOTALL)
_JOIN = re.compile(
    r",? ?(?<![A-Za-z])(?:and|or)(?![a-z])(?=[\s\\(\[$\d-]|[A-Za-z](?![a-z]))|(?<=[\d)\]}])(?:and|or)(?=[\W\dA-Z]|[a-z]\W)"
)
_OPERATOR = re.compile(r":=|=|\\(?:le|ge|ne|in|approx|equiv|sim)(?![A-Za-z])|<|>")
_INDEX = r"(?:_(?:\w|\{[^{}]*\}))?"
_SYMBOL = rf"(?:[A-Za-z]|\\(?:{'|'.join(sorted(_LETTERS))})(?![A-Za-z])){_INDEX}'*"
_PLAIN = rf"(?:{_SYMBOL}(?:\^\{{-1\}})?(?:\((?:{_SYMBOL}|\d)(?:,{_SYMBOL})*\))?|[A-Z]{{2,4}}{_INDEX}|\|[A-Za-z]{{1,2}}\||m?\\(?:angle|overline|triangle|vec|bar|hat) ?\{{?[A-Za-z]{{1,3}}\}}?)"
_NAME = re.compile(
    rf"(?:{_PLAIN}|P\([^()]*\)|[A-Z]{{1,3}}{_INDEX}[:/][A-Z]{{1,3}}{_INDEX}|\\frac\{{[A-Z]{{1,3}}\}}\{{[A-Z]{{1,3}}\}})$"
)
_TUPLE_NAME = re.compile(rf"\(({_PLAIN}(?:,{_PLAIN})+)\)$")
_VARIABLE = re.compile(rf"{_SYMBOL}$")
_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z.]$")
_SHORT_WORDS = set("no yes odd all six ten one two red by cat dog tie up".split())
_ARTICLE = re.compile(r"^(?:an?|the) ")
_COUNT = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_COUNT = (_COUNT + " seventeen eighteen nineteen").split()
_TENS = {name: 20 + 10 * k for k, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_BASED = re.compile(r"^(-?)([0-9A-Za-z]+)_\{?\s*(\d{1,2}|[a-z]+)\s*\}?$")
_REALS = {r"\mathbb{R}", "all real numbers", "all reals"}
_EMPTY = {r"\emptyset", "no solution", "no solutions", "no real solution", "no real solutions", "empty set"}
_BUILDER = re.compile(r"\\\{ ?[a-z](?:\\in ?\\mathbb\{R\})? ?(?:\\mid|\\vert|[|:]) ?(.*)\\\}$", re.DOTALL)


def letters_of(s):
    """The variables of a formula: letters outside commands, with their index; e and i are numbers."""
    s = re.sub(r"\\(?:operatorname|begin|end)\{[^{}]*\}", "", s)
    names = {name for name in _COMMAND.findall(s) if name in _LETTERS}
    return frozenset(names | set(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", s))) - {"e", "i"})


def _scalar(s, trusted):
    if s.lstrip("+-") == "\\infty":
        return MINUS_INFINITY if s.startswith("-") else INFINITY
    based = _BASED.match(s)
    if based and (based.group(2)[0].isdigit() or based.group(2).isupper()):
        sign, digits, base = based.groups()
        base = _COUNT.index(base) if base in _COUNT else int(base) if base.isdigit() else 0
        if 2 <= base <= 36 and all(int(c, 36) < base for c in digits) and any(c.isdigit() for c in digits):
            return read_number(sign + digits) if base == 10 else Text(f"{sign}{digits.upper()}_{base}", "word")
    tens, _, ones = s.lower().replace("-", " ").partition(" ")
    if s.lower() in _COUNT or tens in _TENS and (not ones or ones in _COUNT[1:10]):
        return read_number(str(_COUNT.index(tens) if tens in _COUNT else _TENS[tens] + _COUNT.index(ones or "zero")))
    return _word(s) or _formula(s)


def _word(s):
    """Read a word or a choice, or None for what can be algebra."""
    if re.fullmatch(r"\([A-Za-z]\)", s):
        return Text(s[1], "choice")
    runs = re.findall(r"[A-Za-z]+", s) if len(s) <= 200 and _WORDS.match(s) else ()
    if any(len(run) > 3 or len(run) > 1 and run.istitle() for run in runs) or runs and s.lower() in _SHORT_WORDS:
        return Text(_ARTICLE.sub("", s.lower().rstrip(".")), "word")
    return None


def _formula(s):
    infinite = "\\infty" in s and not re.search(r"\\(?:lim|sum|prod|int)(?![A-Za-z])", s)
    foreign = any(name not in _COMMANDS for name in _COMMAND.findall(s)) or _NO_FORMULA.search(s)
    if not s or infinite or foreign or mask(s) is None:
        return unread(s)
    if "'" in s and not letters_of(s):
        return unread(s)
    match, unit = _FORMULA_UNIT.match(s), ""
    if match and match.group(2) not in NEVER and read_unit(match.group(2)):
        s, unit = match.group(1), read_unit(match.group(2))
    return Formula(s, "value", letters_of(s), unit)


def _signs(s):
    r"""Return the values of a formula: two where it has `\pm`."""
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", s):
        return (s,)
    pairs = (("+", "-"), ("-", "+"))
    return tuple(re.sub(r"\\mp *", m, re.sub(r"\\pm *", p, s)).removeprefix("+") for p, m in pairs)


def _bracketed(s, trusted, depth):
    def elements(parts, expand=False):
        return tuple(_read(t, trusted, depth + 1) for part in parts for t in (_signs(part) if expand else (part,)))

    match = _MATRIX.match(s)
    if match and s.count("\\begin") == 1:
        if match.group(2) in ("vmatrix", "Vmatrix"):
            return _formula(s)
        rows = [row.split("&") for row in match.group(3).split("\\\\") if row.strip()]
        return Items("matrix", tuple(Items("row", elements(row)) for row in rows))
    for opening, closing in (
        ("\\{", "\\}"),
        ("\\langle", "\\rangle"),
        ("{", "}"),
        ("(", ")"),
        ("[", "]"),
        ("(", "]"),
        ("[", ")"),
    ):
        inner = s[len(opening) : -len(closing)].strip()
        if not (s.startswith(opening) and s.endswith(closing) and inner and mask(inner) is not None):
            continue
        parts = split(inner, ";") if split(inner, ";")[1:] else split(inner)
        kind = "set" if "{" in opening else "()" if opening == "\\langle" else opening + closing
        if len(parts) > 1 or kind == "set" and opening != "{":
            return (
                Items(kind, elements(parts, kind == "set")) if kind in ("set", "()") or len(parts) == 2 else unread(s)
            )
        if kind in ("set", "()") and not (kind == "()" and re.fullmatch("[A-Za-z]", inner)):
            return _read(inner, trusted, depth + 1)
    return None


def _list(s, trusted, depth):
    """Read a bare list, or None. `x = 1, -2` names all, `x = 1, y = 2` are names, `;` parts such groups."""
    parts = split(s, ";")
    if not parts or len(parts) < 2:
        joined = re.search(r"(?<![a-z])(?:and|or)(?![a-z])", s)
        alternatives = joined and re.search(r"[<>]|\\[lgn]e(?![a-z])", s) and "or" in s
        parts = split(re.sub(r",{2,}", ",", _JOIN.sub(",", s)).strip(", ") if joined else s)
        parts = parts and [re.sub(r"^(?:and|or) ", "", part) for part in parts]
    else:
        alternatives = False
    if not parts or len(parts) < 2 or not all(parts):
        return None
    values = tuple(_read(text, trusted, depth + 1) for part in parts for text in _signs(part))
    names = [value.name for value in values if isinstance(value, Assign)]
    if len(names) == len(values) == len(set(names)) and not any(name[0] == "(" for name in names):
        return Items("named", values)
    if isinstance(values[0], Assign) and len(set(names)) == 1:
        plain = [value.value if isinstance(value, Assign) else value for value in values]
        if alternatives:
            return Assign(names[0], Items("union", tuple(plain)))
        values = sum((v.items if isinstance(v, Items) and v.kind == "list" else (v,) for v in plain), ())
    return Items("list", values)


def _name(s):
    """Return (canonical name, whether it is a description) or None."""
    if _NAME.match(s):
        return re.sub(r"\([a-z](?:,[a-z])*\)$", "()", s).replace("{", "").replace("}", ""), False
    if _TUPLE_NAME.match(s):
        return s, False
    return (s.lower(), True) if len(s) <= 60 and _WORDS.match(s) and _word(s) else None


_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}


def _bounds(operators, sides, trusted, depth):
    """Read a solved inequality as an Assign of an interval or a union, or None."""
    places = [k for k, side in enumerate(sides) if _name(side) and not _name(side)[1]]
    if len(places) != 1 or places[0] != len(sides) - 2 and len(sides) != 2 or sides[places[0]][0] == "|":
        return None
    if operators != ["\\ne"] and not set(operators) <= set(_FLIPPED) or len(sides) > 3:
        return None
    at = places[0]
    others = [_read(side, trusted, depth + 1) for k, side in enumerate(sides) if k != at]
    own = letters_of(sides[at])
    if any(not isinstance(v, (Number, Formula)) or isinstance(v, Formula) and v.letters & own for v in others):
        return None
    if operators == ["\\ne"]:
        ends = ((MINUS_INFINITY, others[0]), (others[0], INFINITY))
        return Assign(_name(sides[at])[0], Items("union", tuple(Items("open", end) for end in ends)))
    low = {"<": False, "\\le": False, ">": True, "\\ge": True}
    if len(sides) == 3 and low[operators[0]] != low[operators[1]]:
        return None
    if at == 0 or len(sides) == 3 and low[operators[0]]:  # read from the right
        operators, others = [_FLIPPED[operator] for operator in operators[::-1]], others[::-1]
    if len(sides) == 2:  # now the value stands on the left
        operators, others = (
            (operators + ["<"], others + [INFINITY])
            if not low[operators[0]]
            else (["<", _FLIPPED[operators[0]]], [MINUS_INFINITY, *others])
        )
    kind = "[("["\\le" != operators[0]] + "])"["\\le" != operators[1]]
    return Assign(_name(sides[at])[0], Items("open" if kind == "()" else kind, tuple(others)))


def _related(s, trusted, depth):
    """Read equations, inequalities, memberships and approximations; None when there is no operator outside brackets."""
    sides, operators = cut(_OPERATOR, s) or ((), ())
    if not operators:
        return None
    if not sides[0] and len(sides) == 2 and operators[0] in ("=", "\\approx"):  # "= 5"
        return _read(sides[1], trusted, depth + 1)
    if not all(sides) or set(operators) & {"\\equiv", "\\sim"}:
        return unread(s)
    name = _name(sides[0])
    if operators == ["\\in"]:
        return Assign(name[0], _read(sides[1], trusted, depth + 1)) if name else unread(s)
    if not set(operators) <= {"=", ":=", "\\approx"}:
        return _bounds(operators, sides, trusted, depth) or Formula(s, "relation")
    back = _name(sides[1]) if operators == ["="] else None
    if back and not back[1] and (name is None or _VARIABLE.match(sides[1]) and not _VARIABLE.match(sides[0])):
        name, sides = back, sides[::-1]  # 5 = x
    rest = sides[1:] if name else sides
    values = [_read(side, trusted, depth + 1) for side in rest]
    own = letters_of(re.sub(_INDEX, "", sides[0])) if name and _VARIABLE.match(sides[0]) else frozenset()
    open_ = [v for v in values if isinstance(v, Formula)]
    if any(isinstance(v, Text) and v.kind == "unread" or isinstance(v, Formula) and v.kind != "value" for v in values):
        return Formula(s, "relation")
    if any(v.letters & own for v in open_) or name is None and len(rest) == 2 and any(v.letters for v in open_):
        return Formula(s, "relation")
    value = values[0]
    if len(values) > 1:
        about = operators[name is not None :]
        exact = about.index("\\approx") + 1 if "\\approx" in about else len(values)
        value = Chain(tuple(values[:exact]), tuple(values[exact:]))
    return Assign(name[0], value, name[1]) if name else value


def _sets(s, trusted, depth):
    if not re.search(r"\\(?:cup|cap|setminus|backslash)(?![A-Za-z])", s):
        return None
    parts = tuple(_read(part, trusted, depth + 1) for part in split(s, r"\\cup(?![A-Za-z])") or ())
    return Items("union", parts) if len(parts) > 1 and all(isinstance(v, Items) for v in parts) else Formula(s, "set")


def _ratio(s, trusted, depth):
    parts = split(s, ":")
    if not parts or len(parts) < 2 or not all(parts) or (_name(parts[0]) or (0, 0))[1]:  # not "Answer: 5"
        return None
    parts[-1] = re.sub(r"(?<=\d) ?([ap])\.?m\.?$", r" \1m", parts[-1], flags=re.IGNORECASE).lower()
    return Items("ratio", tuple(_read(part, trusted, depth + 1) for part in parts))


def _read(s, trusted, depth):
    s = s.strip()
    if depth > MAX_NESTING or not s:
        return unread(s)
    number = read_number(s, trusted)
    if number is not None:
        return number
    s = s.replace("␣", "")
    if s.lower() in _EMPTY:
        return Items("set", ())
    if s.lower() in _REALS or s in _REALS:
        return Items("open", (MINUS_INFINITY, INFINITY))
    built = _BUILDER.match(s)
    if built:
        return _read(built.group(1), trusted, depth + 1)
    for reader in (_list, _related, _sets, _bracketed, _ratio):
        value = reader(s, trusted, depth)
        if value is not None:
            return value
    signs = _signs(s)
    return (
        Items(
            "list", tuple(_scalar(sign, trusted) if read_number(sign) is None else read_number(sign) for sign in signs)
        )
        if signs[1:]
        else _scalar(s, trusted)
    )


@lru_cache(maxsize=8192)
def read(text, trusted=False, grouped=True):
    """Read an answer as one of the types above.

    Args:
      text: an answer or a ground truth.
      trusted: whether it is a ground truth, where a word outside the vocabulary of units may name what is counted.
      grouped: whether `1,080` is one number.
    """
    return _read(normalize(text, grouped), trusted, 0)
