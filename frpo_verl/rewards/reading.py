r"""Read text as one of the types of values.py, by recursive descent over lists, relations, sets, brackets and words."""

import re
from functools import lru_cache

from frpo_verl.rewards.brackets import cut, mask, split
from frpo_verl.rewards.numbers import read_number
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.units import NEVER, read_unit
from frpo_verl.rewards.values import INFINITY, MINUS_INFINITY, Assign, Chain, Formula, Items, Number, Text, unread

MAX_NESTING = 8
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
_MATRIX = re.compile(
    r"^([(\[]?)\\begin\{([pbvBV]?matrix|smallmatrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\2\}([)\]]?)$", re.DOTALL
)
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
_CHOICE = re.compile(r"(?:(?:option|choice) ?)?[(\[]?([A-Za-z])[)\]]$|(?:option|choice) ([A-Z])$", re.IGNORECASE)
_LABEL = re.compile(r"(?:\(([A-E])\)|([A-E])[.:)]) ?(?=[-\d.\\])")
_TIME = re.compile(r"\d{1,2}:[0-5]\d(?: ?[ap]\.?m\.?)?$", re.IGNORECASE)
_CONGRUENCE = re.compile(rf"(?:({_PLAIN}) ?\\equiv ?)?(-?\d{{1,30}}) ?\(?(?:\\pmod|mod|\\bmod|\\mod) ?(\d{{1,30}})\)?$")
_BETWEEN_UNITS = re.compile(r"(?<=[A-Za-z.°]) ?(?:and )?(?=\d)")
_CASES = re.compile(r"^\\begin\{cases\}(.*)\\end\{cases\}$", re.DOTALL)
_POINT = re.compile(r"(?:([A-Z])|point)(?=\([^()]*,[^()]*\)$)")
_ARTICLE = re.compile(r"^(?:an?|the) ")
_COUNT = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_COUNT = (_COUNT + " seventeen eighteen nineteen").split()
_TENS = {name: 20 + 10 * k for k, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_BASED = re.compile(r"^(-?)\(?([0-9A-Za-z]+)\)?(?:_| base )\{?\(?\s*(\d{1,2}|[a-z]+)\s*\)?\}?$")
_EMPTY = (r"\emptyset", "no solution", "no solutions", "no real solution", "no real solutions", "empty set", "none")
_REALS = (r"\mathbb{R}", "all real numbers", "all reals")
_CONSTANTS = dict.fromkeys(_EMPTY, Items("set", ())) | dict.fromkeys(_REALS, Items("open", (MINUS_INFINITY, INFINITY)))
_CONSTANTS |= dict.fromkeys(("dne", "does not exist"), Text("does not exist", "word"))
_CONSTANTS |= {r"\infty": INFINITY, r"+\infty": INFINITY, r"-\infty": MINUS_INFINITY}
_FLIPPED = {">": "<", "\\ge": "\\le"}
_PAIRS = (
    ("\\{", "\\}", "set"), ("{", "}", "set"), ("\\langle", "\\rangle", "()"), ("(", ")", "()"), ("[", "]", "[]"),
    ("(", "]", "(]"), ("[", ")", "[)"),
)  # fmt: skip
_BUILDER = re.compile(r"\\\{ ?[a-z](?:\\in ?\\mathbb\{R\})? ?(?:\\mid|\\vert|[|:]) ?(.*)\\\}$", re.DOTALL)


def letters_of(s):
    """The variables of a formula: letters outside commands, with their index; e and i are numbers."""
    s = re.sub(r"\\(?:operatorname|begin|end)\{[^{}]*\}", "", s)
    names = {name for name in _COMMAND.findall(s) if name in _LETTERS}
    return frozenset(names | set(re.findall(r"[A-Za-z]", _COMMAND.sub(" ", s))) - {"e", "i"})


def _signs(s):
    r"""Return the values of a formula: two where it has `\pm`."""
    if not re.search(r"\\(?:pm|mp)(?![A-Za-z])", s):
        return (s,)
    pairs = (("+", "-"), ("-", "+"))
    return tuple(re.sub(r"\\mp *", m, re.sub(r"\\pm *", p, s)).removeprefix("+") for p, m in pairs)


def _flat(values):
    """The values, with those of a bare list among them in its place."""
    return tuple(part for v in values for part in (v.items if isinstance(v, Items) and v.kind == "list" else (v,)))


def _name(s):
    """Return (canonical name, whether it is a description) or None."""
    if _NAME.match(s):
        return s.replace("{", "").replace("}", ""), False
    if _TUPLE_NAME.match(s):
        return s, False
    return (s.lower(), True) if len(s) <= 60 and _WORDS.match(s) and _word(s) else None


def _word(s):
    """Read a word or a choice, or None for what can be algebra."""
    choice = _CHOICE.match(s)
    if choice:
        return Text(choice[1] or choice[2], "choice")
    runs = re.findall(r"[A-Za-z]+", s) if len(s) <= 200 and _WORDS.match(s) else ()
    if any(len(run) > 3 or len(run) > 1 and run.istitle() for run in runs) or runs and s.lower() in _SHORT_WORDS:
        return Text(_ARTICLE.sub("", s.lower().rstrip(".")), "word")
    return None


def _formula(s):
    """Read a formula that has no structure of its own; what latex2sympy would misread is not read."""
    infinite = "\\infty" in s and not re.search(r"\\(?:lim|sum|prod|int)(?![A-Za-z])", s)
    foreign = any(name not in _COMMANDS for name in _COMMAND.findall(s)) or _NO_FORMULA.search(s)
    if not s or infinite or foreign or mask(s) is None or "'" in s and not letters_of(s):
        return unread(s)
    match, unit = _FORMULA_UNIT.match(s), ""
    if match and match.group(2) not in NEVER and read_unit(match.group(2)):
        s, unit = match.group(1), read_unit(match.group(2))
    if any(read_unit(run) is not None for run in re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", s)):
        return unread(s)  # not the product of its letters
    return Formula(s, "value", letters_of(s), unit)


def _based(s):
    """Read digits with their base, or None: 2 <= base <= 36, every digit below it."""
    match = _BASED.match(s)
    if match is None or not (match[2][0].isdigit() or match[2].isupper()):
        return None
    sign, digits, base = match.groups()
    base = _COUNT.index(base) if base in _COUNT else int(base) if base.isdigit() else 0
    if not 2 <= base <= 36 or any(int(c, 36) >= base for c in digits) or not any(c.isdigit() for c in digits):
        return None
    return read_number(sign + digits) if base == 10 else Text(f"{sign}{digits.upper()}_{base}", "word")


def _count(s):
    """Read a number below a hundred that is written as a word, or None."""
    tens, _, ones = s.lower().replace("-", " ").partition(" ")
    if s.lower() in _COUNT or tens in _TENS and (not ones or ones in _COUNT[1:10]):
        return read_number(str(_COUNT.index(tens) if tens in _COUNT else _TENS[tens] + _COUNT.index(ones or "zero")))
    return None


class _Reader:
    """Reads one text by recursive descent; each method returns a value, or None for what it does not know."""

    def __init__(self, trusted):
        self.trusted, self.depth = trusted, 0

    def value(self, s):
        s = s.strip()
        if self.depth > MAX_NESTING or not s:
            return unread(s)
        number = read_number(s, self.trusted) or self.parts(s)
        if number is not None:
            return number
        self.depth += 1
        s = s.replace("␣", "")
        readers = (
            self.constant,
            self.labelled,
            self.list,
            self.congruence,
            self.relation,
            self.sets,
            self.bracketed,
            self.ratio,
            self.signs,
        )
        values = (reader(s) for reader in (*readers, _based, _count, _word, _formula))
        value = next(value for value in values if value is not None)
        self.depth -= 1
        return value

    def values(self, parts):
        return tuple(self.value(part) for part in parts)

    def constant(self, s):
        built = _BUILDER.match(s)
        return self.value(built.group(1)) if built else _CONSTANTS.get(s) or _CONSTANTS.get(_ARTICLE.sub("", s.lower()))

    def labelled(self, s):
        """A choice with its number, (B) 12, or in an answer a point with its name, A(3,4)."""
        label, point = _LABEL.match(s), _POINT.match(s)
        if label:
            number = read_number(s[label.end() :].strip())
            return number and Assign((label[1] or label[2]).lower(), number, True)
        if self.trusted or not point:
            return None
        value = self.value(s[point.end() :])
        return Assign(point[1], value) if point[1] else value

    def parts(self, s):
        """A quantity in several units, 4 feet 6 inches."""
        parts = [re.sub(r"(?<=\d)'$", " min", part) for part in _BETWEEN_UNITS.split(s)]
        values = tuple(read_number(part) for part in parts) if 1 < len(parts) < 5 else ()
        units = {v.unit for v in values if v}
        return Items("parts", values) if values and "" not in units and len(units) == len(values) else None

    def list(self, s):
        """A bare list. `x = 1, -2` names all, `x = 1, y = 2` are names, `;` parts such groups."""
        s = s if "&" in s else _CASES.sub(lambda m: m[1].replace("\\\\", ","), s)
        parts, alternatives = split(s, ";"), False
        if not parts or len(parts) < 2:
            joined = re.search(r"(?<![a-z])(?:and|or)(?![a-z])", s)
            alternatives = joined and re.search(r"[<>]|\\[lgn]e(?![a-z])", s) and "or" in s
            parts = split(re.sub(r",{2,}", ",", _JOIN.sub(",", s)).strip(", ") if joined else s)
            parts = parts and [re.sub(r"^(?:and|or) ", "", part) for part in parts]
        if not parts or len(parts) < 2 or not all(parts):
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

    def relation(self, s):
        """Equations, inequalities, memberships and approximations: an operator stands outside all brackets."""
        sides, operators = cut(_OPERATOR, s) or ((), ())
        if not operators:
            return None
        if not sides[0] and len(sides) == 2 and operators[0] in ("=", "\\approx"):  # "= 5"
            return self.value(sides[1])
        if not all(sides) or set(operators) & {"\\equiv", "\\sim"}:
            return unread(s)
        if operators == ["\\in"]:
            name = _name(sides[0])
            return Assign(name[0], self.value(sides[1])) if name else unread(s)
        if set(operators) <= {"=", ":=", "\\approx"}:
            return self.equation(sides, operators) or Formula(s, "relation")
        return self.bounds(sides, operators) or Formula(s, "relation")

    def equation(self, sides, operators):
        """A name and what it stands for, or a chain of equal sides; None for an equation that is to be solved."""
        name, back = _name(sides[0]), _name(sides[1]) if operators == ["="] else None
        if back and not back[1] and (name is None or _VARIABLE.match(sides[1]) and not _VARIABLE.match(sides[0])):
            name, sides = back, sides[::-1]  # 5 = x
        values = self.values(sides[1:] if name else sides)
        own = letters_of(re.sub(_INDEX, "", sides[0])) if name and _VARIABLE.match(sides[0]) else frozenset()
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

    def bounds(self, sides, operators):
        """A solved inequality as the interval or union that a lone name is in."""
        if set(operators) <= {">", "\\ge"}:  # read from the right
            sides, operators = sides[::-1], [_FLIPPED[operator] for operator in operators[::-1]]
        unequal = operators == ["\\ne"]
        if not unequal and not set(operators) <= {"<", "\\le"} or len(sides) > 3:
            return None
        names = [_name(side) if side[0] != "|" else None for side in sides]
        at = [k for k, name in enumerate(names) if name and not name[1]]
        if len(at) != 1 or len(sides) == 3 and at != [1]:
            return None
        ends, own = [self.value(side) for k, side in enumerate(sides) if k != at[0]], letters_of(sides[at[0]])
        if not all(isinstance(v, Number) or isinstance(v, Formula) and not v.letters & own for v in ends):
            return None
        if unequal:
            below, above = Items("open", (MINUS_INFINITY, *ends)), Items("open", (*ends, INFINITY))
            return Assign(names[at[0]][0], Items("union", (below, above)))
        if len(sides) == 2:
            low = at == [0]
            ends, operators = (
                ([MINUS_INFINITY, *ends], ["<", *operators]) if low else ([*ends, INFINITY], [*operators, "<"])
            )
        kind = "[("[operators[0] == "<"] + "])"[operators[1] == "<"]
        return Assign(names[at[0]][0], Items("open" if kind == "()" else kind, tuple(ends)))

    def sets(self, s):
        if not re.search(r"\\(?:cup|cap|setminus|backslash)(?![A-Za-z])", s):
            return None
        parts = self.values(split(s, r"\\cup(?![A-Za-z])") or ())
        union = len(parts) > 1 and all(isinstance(v, Items) for v in parts)
        return Items("union", parts) if union else Formula(s, "set")

    def bracketed(self, s):
        """A matrix, or what stands in one pair of brackets: a set, a tuple, an interval."""
        match = _MATRIX.match(s)
        if match and s.count("\\begin") == 1:
            if match.group(2) in ("vmatrix", "Vmatrix"):
                return _formula(s)
            rows = [row.split("&") for row in match.group(3).split("\\\\") if row.strip()]
            return Items("matrix", tuple(Items("row", self.values(row)) for row in rows))
        for opening, closing, kind in _PAIRS:
            inner = s[len(opening) : -len(closing)].strip()
            if not (s.startswith(opening) and s.endswith(closing) and inner and mask(inner) is not None):
                continue
            parts = split(inner, ";") if split(inner, ";")[1:] else split(inner)
            if kind == "set" and (len(parts) > 1 or opening != "{"):
                return Items(kind, _flat(self.values(parts)))
            if kind == "[]" and all(part[:1] == "[" and part[-1:] == "]" for part in parts):  # [[1,2],[3,4]]
                return Items("matrix", tuple(Items("row", self.values(split(part[1:-1]) or ())) for part in parts))
            if len(parts) > 1:
                return Items(kind, self.values(parts)) if kind == "()" or len(parts) == 2 else unread(s)
            if kind in ("set", "()") and not (kind == "()" and re.fullmatch("[A-Za-z]", inner)):
                return self.value(inner)
        return None

    def congruence(self, s):
        r"""`x \equiv 7 \pmod{12}`, or what x is alone; `19 \bmod 12` alone is an operation."""
        match = _CONGRUENCE.match(s)
        if match is None or match[1] is None and "\\bmod" in s or not int(match[3]):
            return None
        value = Items("mod", (read_number(str(int(match[2]) % int(match[3]))), read_number(match[3])))
        return Assign(match[1], value) if match[1] else value

    def ratio(self, s):
        """A ratio, or a time of day."""
        parts = split(s, ":")
        if not parts or len(parts) < 2 or not all(parts) or (_name(parts[0]) or (0, 0))[1]:  # not "Answer: 5"
            return None
        parts[-1] = re.sub(r"(?<=\d) ?([ap])\.?m\.?$", r" \1m", parts[-1], flags=re.IGNORECASE).lower()
        return Items("time" if _TIME.match(s) else "ratio", self.values(parts))

    def signs(self, s):
        return Items("list", self.values(_signs(s))) if _signs(s)[1:] else None


@lru_cache(maxsize=8192)
def read(text, trusted=False, grouped=True):
    """Read an answer as one of the types of values.py.

    Args:
      text: an answer or a ground truth.
      trusted: whether it is a ground truth, where a word outside the vocabulary of units may name what is counted.
      grouped: whether `1,080` is one number.
    """
    return _Reader(trusted).value(normalize(text, grouped))
