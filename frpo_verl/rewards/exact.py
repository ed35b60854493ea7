r"""Cheap exact comparison of two answers, without sympy: strings, rationals, lists, tuples, sets, matrices of
rationals, words.

`compare(gold, pred)` says True or False only where it is certain, and None where algebra is needed (radicals,
variables, intervals of expressions, equations ...). Numbers are compared as fractions of integers; only literals are
read (digits, one fraction, powers of integers of bounded size, `a \times 10^n`, mixed numbers, percent), no
expression is evaluated.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_DIGITS = 1_000  # longest run of digits that is read as a number
MAX_POWER_BITS = 20_000  # largest integer power that is formed

UNICODE = str.maketrans({
    "−": "-", "–": "-", "—": "-", "﹣": "-", "－": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/",
    "∕": "/", "⁄": "/", "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "％": "%", "，": ",", "（": "(", "）": ")",
    "∪": r"\cup ", "∩": r"\cap ", "≤": r"\le ", "≥": r"\ge ", "∈": r"\in ", "±": r"\pm ", "²": "^2", "³": "^3",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "√": r"\sqrt ", "θ": r"\theta ",
})  # fmt: skip
_SPACING = re.compile(
    r"(?<!\\)\\[!,;:> ]|\\(?:quad|qquad|displaystyle|textstyle|limits|thinspace|medspace)(?![A-Za-z])|~"
)
_SIZES = re.compile(r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|middle)(?![A-Za-z])\.?")
_TEXT = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|operatorname|hbox|bf|rm)\s*\{([^{}]*)\}"
)
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])|\\text\s*\{\s*degrees?\s*\}")
_DOLLAR = re.compile(r"(?<!\\)\\\$\s*|(?<!\w)(?:USD|US\\?\$)\s*")
_FRAC_SHORT = re.compile(r"\\frac\s*(\{[^{}]*\}|\d|[a-zA-Z])\s*(\{[^{}]*\}|\d|[a-zA-Z])")
_SINGLE = re.compile(r"([\^_])\{(\w)\}")
_INNER_SPACE = re.compile(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])")

_UNITS = {
    "cm": "cm", "centimeter": "cm", "centimetre": "cm", "mm": "mm", "millimeter": "mm", "m": "m", "meter": "m",
    "metre": "m",
    "km": "km", "kilometer": "km", "kilometre": "km", "in": "in", "inch": "in", "inche": "in", "ft": "ft", "foot": "ft",
    "feet": "ft", "yd": "yd", "yard": "yd", "mi": "mi", "mile": "mi", "g": "g", "gram": "g", "gm": "g", "kg": "kg",
    "kilogram": "kg", "lb": "lb", "pound": "lb", "oz": "oz", "ounce": "oz", "s": "s", "sec": "s", "second": "s",
    "min": "min", "minute": "min", "h": "h", "hr": "h", "hour": "h", "day": "day", "week": "week", "month": "month",
    "year": "year", "dollar": "dollar", "buck": "dollar", "cent": "cent", "degree": "degree", "mph": "mi/h", "l": "l",
    "liter": "l", "litre": "l", "ml": "ml", "gallon": "gallon",
}  # fmt: skip
_UNIT_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_NOT_UNITS = {
    "pi", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "or", "and", "to", "million", "billion",
    "thousand", "hundred", "trillion", "dozen", "over", "times", "plus", "minus", "half", "mod", "base", "choose", "if",
    "when", "where", "for", "percent", "is", "i", "e", "by", "than", "infinity", "inf", "not", "at",
}  # fmt: skip
_UNIT_SUFFIX = re.compile(r"^(.*?[\d}%.)])(\s*)([A-Za-z][A-Za-z ./]*)(?:\^[23])?$", re.DOTALL)

_NUMBER = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+")
_POWER = re.compile(r"\^(?:\{([+-]?\d+)\}|\(([+-]?\d+)\)|(\d+))")
_SCIENTIFIC = re.compile(r"[eE]([+-]?\d{1,4})(?![\w.])")


class Number(NamedTuple):
    """A rational with what its notation says: `digits` significant digits after a decimal point was written (else 0),
    `places` decimal places, `percent` sign, canonical `unit` or ""."""

    value: Fraction
    digits: int
    places: int
    percent: bool
    unit: str


def _unit_name(text):
    """Return the canonical unit of a text such as "square inches", "" for words that name things, None when it is no
    unit."""
    words = re.split(r"[ ./]+", text.strip().strip("."))
    if not words or any(word.lower() in _NOT_UNITS for word in words):
        return None
    names, power = [], ""
    for word in words:
        low = word.lower()
        stem = low[:-1] if low.endswith("s") and len(low) > 2 else low
        power = _UNIT_POWERS.get(low, power)
        if low in _UNIT_POWERS or low in ("per", "of", "the"):
            continue
        name = _UNITS.get(low) or _UNITS.get(stem)
        if name is None and len(low) < 3:
            return None
        names.append(name)
    return "/".join(names) + power if names and None not in names else ""


_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


def strip_delimiters(text):
    """Return `text` without the math delimiters and markdown stars that enclose all of it."""
    s = text.strip()
    for _ in range(3):
        t = s.strip("*").strip()
        for opening, closing in _DELIMITERS:
            if t.startswith(opening) and t.endswith(closing) and len(t) > len(opening) + len(closing):
                if opening not in t[len(opening) : -len(closing)]:
                    t = t[len(opening) : -len(closing)].strip()
        if t == s:
            break
        s = t
    return s


@lru_cache(maxsize=8192)
def normalize(text):
    r"""Return `text` in one spelling: no math delimiters, sizes, spacing commands or text wrappers; `\dfrac` as
    `\frac`, `\frac12` as `\frac{1}{2}`, thousands separators `,\!` and `{,}` as a comma. The meaning stays the same;
    nothing is evaluated."""
    s = strip_delimiters(text.translate(UNICODE))
    s = re.sub(r"\{,\}|,\\!\s*", ",", s)
    s = re.sub(r"(?<=\d)(?:\\,|\\ |\\;|~)(?=\d{3}(?!\d))", ",", s)
    s = _DEGREE.sub("°", s)
    s = re.sub(r"\\\\\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]", r"\\\\", s)
    s = _DOLLAR.sub("¤", s).replace("\\%", "%").replace("$", "")
    s = re.sub(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset", s)
    s = _SPACING.sub(" ", s)
    s = _SIZES.sub("", s)
    s = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", s)
    for _ in range(4):
        t = _TEXT.sub(r" \1 ", s)
        if t == s:
            break
        s = t
    s = re.sub(r"\\(?:leq|leqslant)(?![A-Za-z])", r"\\le", s)
    s = re.sub(r"\\(?:geq|geqslant)(?![A-Za-z])", r"\\ge", s)
    s = re.sub(r"\\neq(?![A-Za-z])", r"\\ne", s)
    s = s.replace("\\lbrace", "\\{").replace("\\rbrace", "\\}").replace("**", "^").replace("\\dots", "\\ldots")
    s = re.sub(r"\\(?:cdot|times|ast)(?![A-Za-z])", "*", s)
    s = re.sub(r"\\div(?![A-Za-z])", "/", s)
    s = re.sub(r"\bpercent\b|\bper cent\b", "%", s)
    s = _SINGLE.sub(r"\1\2", s)
    s = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", s)
    for _ in range(3):
        t = _FRAC_SHORT.sub(lambda m: f"\\frac{{{m[1].strip('{}')}}}{{{m[2].strip('{}')}}}", s)
        if t == s:
            break
        s = t
    s = re.sub(r"\s+", " ", s).strip()
    s = _INNER_SPACE.sub("", s)
    return s.rstrip(".,;:").strip() if not s.endswith("...") else s


def _integer_power(base, exponent):
    if base == 0 and exponent < 0:
        return None
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_POWER_BITS:
        return None
    return base**exponent


def _read_factor(s, i):
    """Read digits with an optional power at s[i:]; return (value, written decimal text, end) or None."""
    match = _NUMBER.match(s, i)
    if match is None:
        return None
    digits = match.group().replace(",", "")
    if len(digits) > MAX_DIGITS or digits == ".":
        return None
    value, end = Fraction(digits if digits[-1] != "." else digits[:-1]), match.end()
    power = _POWER.match(s, end)
    if power is not None:
        text = power.group(1) or power.group(2) or power.group(3)
        if len(text) > 7:
            return None
        value, end, digits = _integer_power(value, int(text)), power.end(), ""
        if value is None:
            return None
    else:
        scientific = _SCIENTIFIC.match(s, end)
        if scientific is not None:
            value, end = value * Fraction(10) ** int(scientific.group(1)), scientific.end()
    return value, digits, end


def _read_product(s):
    """Read `sign factor (* factor)*` that fills the string; return (value, decimal text of a lone factor) or None."""
    s = s.strip()
    if s.startswith("(") and s.endswith(")") and s.count("(") == 1:
        s = s[1:-1].strip()
    sign, i = 1, 0
    while s[i : i + 1] in ("-", "+"):
        sign, i = (-sign if s[i] == "-" else sign), i + 1
        if i > 2:
            return None
    total, text, first = Fraction(sign), "", True
    while True:
        factor = _read_factor(s, i)
        if factor is None:
            return None
        value, digits, i = factor
        total, text = total * value, digits if first else ""
        if max(total.numerator.bit_length(), total.denominator.bit_length()) > MAX_POWER_BITS:
            return None
        if i == len(s):
            return total, text
        if s[i] != "*":
            return None
        first, i = False, i + 1


_FRAC = re.compile(r"^([+-]?)(\d*)\s*\\frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}$")
_MIXED = re.compile(r"^([+-]?)(\d+) (\d+)/(\d+)$")


def _read_value(s):
    """Return (Fraction, decimal text) of a number literal, or None."""
    match = _FRAC.match(s)
    if match:
        sign, whole, top, bottom = match.groups()
        top, bottom = _read_product(top), _read_product(bottom)
        if top is None or bottom is None or bottom[0] == 0 or len(whole) > MAX_DIGITS:
            return None
        value = top[0] / bottom[0]
        if whole:
            if not 0 <= value < 1:  # "2\frac{3}{2}" is not how a mixed number is written
                return None
            value += int(whole)
        return (-value if sign == "-" else value), ""
    match = _MIXED.match(s)
    if match and all(len(part) < 30 for part in match.groups()):
        sign, whole, top, bottom = match.groups()
        if int(bottom) == 0 or int(top) >= int(bottom):
            return None
        value = int(whole) + Fraction(int(top), int(bottom))
        return (-value if sign == "-" else value), ""
    if s.count("/") == 1:
        top, bottom = (_read_product(part) for part in s.split("/"))
        if top is None or bottom is None or bottom[0] == 0:
            return None
        return top[0] / bottom[0], ""
    if re.fullmatch(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?", s):
        s = s.replace(" ", "")
    return _read_product(s)


@lru_cache(maxsize=8192)
def read_number(s) -> Number | None:
    """Read a normalised string as a rational literal with optional percent sign, degree sign or unit; None when it is
    none."""
    if not s or len(s) > 2 * MAX_DIGITS or not any(c.isdigit() for c in s[:40] + s[-40:]):
        return None
    unit, percent, factor = "", False, 1
    if "¤" in s[:2]:
        s, unit = s.replace("¤", "", 1), "dollar"
    if not s:
        return None
    if s[-1] == "°":
        s, unit = s[:-1].rstrip(), "degree"
    elif s[-1].isalpha() or (s[-2:] in ("^2", "^3") and s[-3:-2].isalpha()):
        match = _UNIT_SUFFIX.match(s)
        if match is None:
            return None
        scale = match.group(3).split(" ", 1)
        if scale[0] in _SCALES:
            factor = _SCALES[scale[0]]
            name = unit if len(scale) == 1 else _unit_name(scale[1])
        else:
            name = _unit_name(match.group(3))
        if name is None or (name == "" and not match.group(2)):
            return None
        s, unit = match.group(1), name + s[-2:] if name and s[-2] == "^" else name
    if s.endswith("%"):
        s, percent = s[:-1].rstrip(), True
    read = _read_value(s)
    if read is None:
        return None
    value, text = read
    places = len(text) - text.index(".") - 1 if "." in text else 0
    digits = len(text.replace(".", "").lstrip("0")) if "." in text else 0
    return Number(value * factor, digits, places, percent, unit)


def _rounds_to(decimal, exact, places, digits):
    """True when `decimal`, written with at least 6 significant digits, is `exact` rounded to its last place."""
    return digits >= 6 and exact.denominator != 1 and 2 * abs(decimal - exact) * 10**places <= 1


def same_number(a, b):
    """Whether two Numbers are equal: as rationals, or a decimal of >= 6 significant digits that is the other, rounded.

    A percent sign may be read as "of a hundred" or dropped when only one side has it. Units are ignored unless both
    are known and differ; they are never converted.
    """
    if a.unit and b.unit and a.unit != b.unit:
        return False
    pairs = [(a.value, b.value)]
    if a.percent != b.percent:
        pairs.append((a.value / 100, b.value) if a.percent else (a.value, b.value / 100))
    for x, y in pairs:
        if x == y or _rounds_to(x, y, a.places, a.digits) or _rounds_to(y, x, b.places, b.digits):
            return True
        if max(a.digits, b.digits) >= 14 and abs(x - y) <= Fraction(1, 10**14) * abs(y):
            return True  # floating-point noise such as 0.30000000000000004
    return False


# ---------------------------------------------------------------------------------------------------------- collections

_MATRIX = re.compile(r"^\(?\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}\)?$", re.DOTALL)


def _split(s, separator=","):
    """Split at top level; None when the brackets do not match or there are too many parts."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(s):
        c = s[i]
        if c == "\\":
            depth += {"{": 1, "}": -1}.get(s[i + 1 : i + 2], 0)
            i += 2
            continue
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and c == separator:
            parts.append(s[start:i].strip())
            start = i + 1
        i += 1
    parts.append(s[start:].strip())
    return parts if depth == 0 and len(parts) <= 1000 else None


@lru_cache(maxsize=8192)
def read_collection(s):
    r"""Return (kind, elements) of a normalised list, or None: kind is "list" (bare), "set" (`\{\}`), "matrix"
    (elements are rows) or the two brackets "()", "[]", "(]", "[)"."""
    match = _MATRIX.match(s)
    if match:
        rows = [row for row in match.group(2).split("\\\\") if row.strip()]
        return "matrix", tuple(tuple(cell.strip() for cell in row.split("&")) for row in rows)
    if s.startswith("\\{") and s.endswith("\\}"):
        parts = _split(s[2:-2])
        return ("set", tuple(parts)) if parts else None
    if len(s) > 2 and s[0] in "([" and s[-1] in ")]":
        parts = _split(s[1:-1])
        if parts and len(parts) > 1:
            return s[0] + s[-1], tuple(parts)
    parts = _split(re.sub(r",? (?:and|or) |(?<=\d)(?:and|or)(?=\d)", ",", s))
    if parts and len(parts) > 1 and all(parts):
        return "list", tuple(parts)
    return None


def _compare_elements(gold, pred, ordered):
    """Compare two tuples of element strings: True / False where certain, else None."""
    if ordered:
        if len(gold) != len(pred):
            return False
        verdicts = [compare_normalized(g, p) for g, p in zip(gold, pred, strict=True)]
        return True if all(v is True for v in verdicts) else (False if False in verdicts else None)
    if sorted(gold) == sorted(pred):
        return True
    numbers = [[read_number(x) for x in side] for side in (gold, pred)]
    if all(n is not None for side in numbers for n in side):
        gold_n, pred_n = numbers
        rest = list(pred_n)
        for g in gold_n:
            hit = next((i for i, p in enumerate(rest) if same_number(g, p)), None)
            if hit is None:
                return False
            rest.pop(hit)
        return not rest
    return None


_BASES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_IN_BASE = re.compile(r"^([0-9A-Fa-f]+)_\{?\s*(\d{1,2}|[a-z]+)\s*\}?$")
_WORD_ANSWER = re.compile(r"^\(?(?:[A-Za-z]+(?:[ '-][A-Za-z]+)*)\)?$")
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_CHOICE = re.compile(r"^\(?([A-Za-z])\)?$")
_ASSIGN = re.compile(
    r"^([A-Za-z](?:_\w|_\{\w+\})?(?:\([A-Za-z]\))?|\\[a-z]+)(=|\\in(?![a-z])|:=)(?!.*=)(.+)$", re.DOTALL
)


def _words(s):
    """Return the folded words of a text answer such as "an ellipse", or None for anything that can be algebra."""
    match = _CHOICE.match(s)
    if match and s[0] == "(":
        return match.group(1).lower()
    if len(s) > 200 or not _WORD_ANSWER.match(s) or len(s) < 3:
        return None
    s = s.strip("()").lower()
    return None if s in _NOT_UNITS else _ARTICLE.sub("", s)


def _base(text):
    return _BASES.index(text) if text in _BASES else text if not text.isdigit() else int(text)


def compare_normalized(g, p):
    """`compare` on normalised strings."""
    if g == p:
        return True if g else False
    gn, pn = read_number(g), read_number(p)
    if gn is not None and pn is not None:
        if same_number(gn, pn):
            return True
        if "," not in g and "," not in p:
            return False
    elif "," not in g + p:
        ga, pa = _ASSIGN.match(g), _ASSIGN.match(p)
        if ga and pa and ga.group(1) != pa.group(1):
            return False if gn is None and read_number(ga.group(3)) and read_number(pa.group(3)) else None
        if ga and (pa or "=" not in p) and read_number(ga.group(3)) is not None:
            return compare_normalized(ga.group(3), pa.group(3) if pa else p)
        if pa and gn is not None:
            return compare_normalized(g, pa.group(3))
    gb, pb = _IN_BASE.match(g), _IN_BASE.match(p)
    if (gb or pb) and (gb or g.isalnum()) and (pb or p.isalnum()):
        same_digits = (gb.group(1) if gb else g).upper() == (pb.group(1) if pb else p).upper()
        return same_digits and (not (gb and pb) or _base(gb.group(2)) == _base(pb.group(2)))
    gw, pw = _words(g), _words(p)
    if gw is not None or pw is not None:
        choice = _CHOICE.match(g if gw is None else p)
        if gw is not None and pw is not None:
            return gw == pw
        if choice and (gw or pw) and len(gw or pw) == 1:
            return choice.group(1).lower() == (gw or pw)
        if gn is not None or pn is not None:
            return False
    gc, pc = read_collection(g), read_collection(p)
    if gc is None or pc is None:
        return False if (gn is not None and pn is not None) else None
    (gk, ge), (pk, pe) = gc, pc
    if gk == "matrix" or pk == "matrix":
        if gk != pk:
            return None
        if [len(row) for row in ge] != [len(row) for row in pe]:
            return False
        return _compare_elements(tuple(x for row in ge for x in row), tuple(x for row in pe for x in row), True)
    if gk == pk and gk not in ("list", "set"):
        return _compare_elements(ge, pe, True)
    if {gk, pk} <= {"list", "set"}:
        return _compare_elements(tuple(dict.fromkeys(ge)), tuple(dict.fromkeys(pe)), False)
    if {gk, pk} == {"[]", "()"} or {gk, pk} & {"[)", "(]"}:
        return False if {gk, pk} <= {"[]", "()", "[)", "(]"} and all(map(read_number, ge + pe)) else None
    return None


def compare(gold, pred):
    """Compare two answers given as text; True / False where that is certain without algebra, else None.

    Args:
      gold: the right answer.
      pred: the answer to judge.
    """
    return compare_normalized(normalize(gold), normalize(pred))


def canonical(text):
    """Return one spelling of an answer for votes and logs: numbers as "p/q" or an integer, else the normalised text."""
    s = normalize(text)
    number = read_number(s)
    if number is None or max(number.value.numerator.bit_length(), number.value.denominator.bit_length()) > 600:
        return s
    return str(number.value) + ("%" if number.percent else "")
