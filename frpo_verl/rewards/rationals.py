r"""Number literals read as fractions of integers: digits, one fraction, mixed numbers, powers, percent, units.

Only literals are read, such as a mixed number, `2^{10}`, `6.7 \times 10^{-5}`, `12.5\%` or `5 cm`; no expression is
evaluated, and the size of digits and powers is bounded.
"""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

MAX_DIGITS = 1_000  # longest run of digits that is read as a number
MAX_POWER_BITS = 20_000  # largest integer power that is formed

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


def is_unit_word(word):
    """Whether a lower-case word may be a unit or a thing that is counted, not part of a formula ("pi", "or")."""
    return word not in _NOT_UNITS


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
