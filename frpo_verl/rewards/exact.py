r"""Numbers read exactly: literals and closed forms, `1\frac{4}{5}`, `2^{10}`, `12.5\%`, `5\text{ cm}`, `\frac{1+2\sqrt{3}\pi}{4} - 5i`.

A number is kept as {(n, k, m): c}, the sum of c * sqrt(n) * pi^k * i^m with n squarefree and m 0 or 1. These products
are linearly independent over the rationals, so two numbers are equal exactly when their dictionaries are. Anything else
(variables, other roots, division by a sum, an ambiguous spelling) is not read; every size and depth is bounded.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import gcd, isqrt

from frpo_verl.rewards.units import SCALES, read_unit
from frpo_verl.rewards.values import Form, Number

MAX_CHARS = 2_000
MAX_DIGITS = 1_000  # longest run of digits that is read as a number
MAX_RADICAND = 10**8
MAX_TERMS = 16
MAX_DEPTH = 12
MAX_BITS = 14_000  # largest numerator or denominator; Python writes at most 4,300 digits (14,284 bits)
ROUNDED_DIGITS = 6  # significant digits from which the decimal of an answer may stand for an exact number
FLOAT_DIGITS = 12  # and that of a ground truth: a closed form that a program printed
ONE = (1, 0, 0)  # the key of the rational part


class _NotRead(Exception):
    """The text is no number of this kind, or too large a one."""


# ------------------------------------------------------------------------------------------------------------ arithmetic


def _check(form: Form) -> Form:
    form = {key: c for key, c in form.items() if c}
    bits = (max(c.numerator.bit_length(), c.denominator.bit_length()) for c in form.values())
    if len(form) > MAX_TERMS or any(n > MAX_RADICAND for n, _, _ in form) or max(bits, default=0) > MAX_BITS:
        raise _NotRead
    return form


def _multiply(a: Form, b: Form) -> Form:
    out: Form = {}
    for (n1, k1, m1), c1 in a.items():
        for (n2, k2, m2), c2 in b.items():
            common = gcd(n1, n2)
            key = (n1 * n2 // common**2, k1 + k2, (m1 + m2) % 2)
            out[key] = out.get(key, Fraction(0)) + c1 * c2 * common * (-1 if m1 + m2 == 2 else 1)
    return _check(out)


def _add(a: Form, b: Form, sign: int) -> Form:
    return _check({key: a.get(key, Fraction(0)) + sign * b.get(key, Fraction(0)) for key in {**a, **b}})


def _invert(form: Form) -> Form:
    if len(form) != 1:
        raise _NotRead
    ((n, k, m), c) = next(iter(form.items()))
    return {(n, -k, m): Fraction(1) / (c * n) * (-1 if m else 1)}


def _power(form: Form, exponent: int) -> Form:
    if exponent < 0:
        form, exponent = _invert(form), -exponent
    size = max((max(c.numerator.bit_length(), c.denominator.bit_length()) for c in form.values()), default=1)
    if exponent * size > MAX_BITS or len(form) > 1 and exponent > 12:
        raise _NotRead
    out = {ONE: Fraction(1)}
    for bit in bin(exponent)[2:]:
        out = _multiply(out, out)
        out = _multiply(out, form) if bit == "1" else out
    return out


def _square_root(form: Form) -> Form:
    if not form:
        return {}
    if list(form) != [ONE]:
        raise _NotRead
    value, imaginary = form[ONE], int(form[ONE] < 0)
    radicand, root = abs(value.numerator) * value.denominator, Fraction(1, value.denominator)
    whole = isqrt(radicand)
    if whole * whole == radicand:
        return {(1, 0, imaginary): root * whole}
    if radicand > MAX_RADICAND:
        raise _NotRead
    d = 2
    while d * d <= radicand:
        while radicand % (d * d) == 0:
            radicand, root = radicand // (d * d), root * d
        d += 1
    return {(radicand, 0, imaginary): root}


def _literal(token: str) -> Fraction:
    r"""12, 1.5, .5, 6.02e23, 0.1\overline{6}."""
    digits, _, repeated = token.partition("\\overline")
    if len(token) > MAX_DIGITS or repeated and "." not in digits:
        raise _NotRead
    value = Fraction(digits.rstrip(".") if "e" not in digits.lower() else digits)
    if repeated:
        n = len(repeated) - 2  # without the braces
        value += Fraction(int(repeated[1:-1]), (10**n - 1) * 10 ** len(digits.partition(".")[2]))
    return value


# --------------------------------------------------------------------------------------------------------------- reading

_TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d*)?(?:\\overline\{\d+\})?(?:[eE][+-]?\d{1,4}(?![\w.]))?|\.\d+)"
    r"|(\\frac|\\sqrt|\\pi)(?![A-Za-z])|([-+*/^(){}])|(i)(?![A-Za-z]))"
)


class _Reader:
    """Recursive descent over sum, product, power and atom; raises _NotRead unless all of the text is read."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        end = 0
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None:
                raise _NotRead
            self.tokens.append(match.group().strip())
            end = match.end()
        self.decimal = any(token[0] != "\\" and re.search("[.eE]", token) for token in self.tokens)
        self.tokens.append("")
        self.i = self.depth = 0
        self.form = self.sum()
        if self.tokens[self.i]:
            raise _NotRead

    def next(self, *wanted: str) -> str:
        """The next token if it is one of the wanted ones, else ""."""
        token = self.tokens[self.i]
        self.i += token in wanted
        return token if token in wanted else ""

    def sum(self) -> Form:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _NotRead
        total: Form = {}
        sign = self.next("+", "-") or "+"
        while sign:
            total = _add(total, self.product(), -1 if sign == "-" else 1)
            sign = self.next("+", "-")
        self.depth -= 1
        return total

    def product(self) -> Form:
        value, divided = self.power(), False
        while True:
            before, operator = self.tokens[self.i - 1], self.next("*", "/")
            token = self.tokens[self.i]
            if not operator and token in ("", "+", "-", ")", "}", "^"):
                return value
            # "1/2\pi" can be read in two ways, "2\frac{3}{2}" is no mixed number, "2 3" and "2{3}" are no products
            if not operator and (divided or token[0] in "0123456789.{" or before[0].isdigit() and token == "\\frac"):
                raise _NotRead
            factor = self.power()
            value, divided = _multiply(value, _invert(factor) if operator == "/" else factor), operator == "/"

    def power(self) -> Form:
        value = self.atom()
        if not self.next("^"):
            return value
        exponent = self.atom()
        if set(exponent) - {ONE} or exponent.get(ONE, Fraction(0)).denominator != 1:
            raise _NotRead
        return _power(value, int(exponent.get(ONE, 0)))

    def atom(self) -> Form:
        token = self.tokens[self.i]
        self.i += 1
        if token in ("(", "{"):
            value = self.sum()
            if not self.next(")" if token == "(" else "}"):
                raise _NotRead
            return value
        if token == "\\sqrt":
            return _square_root(self.atom())
        if token == "\\frac":
            top = self.atom()
            return _multiply(top, _invert(self.atom()))
        if token in ("\\pi", "i"):
            return {(1, 1, 0) if token == "\\pi" else (1, 0, 1): Fraction(1)}
        if not token or token[0] not in "0123456789.":
            raise _NotRead
        return _check({ONE: _literal(token)})


_CURRENCIES = {"¤": "$", "€": "€", "£": "£", "¥": "¥", "₹": "₹"}
_UNIT = r"[^\W\d_]+(?:\^\{?-?\d\}?)?"
_PHRASE = rf"{_UNIT}(?:[ */.]+{_UNIT})*\.*|°[CF]|[€£¥₹₩¢]"  # deterministic: no text makes it backtrack
_VARIABLE = re.compile(r"[A-Za-z](?:\^\{?-?\d\}?)?", re.ASCII)
_SUFFIX = re.compile(rf"^(.*?[\d)}}%!°])([ ␣]?)({_PHRASE})$", re.DOTALL)


def _split_unit(s: str, trusted: bool) -> tuple[str, str, int]:
    """(text without the unit, canonical unit or "", factor) of a normalised answer."""
    sign = s.lstrip("-")[:1]
    if sign in _CURRENCIES:
        inner, unit, factor = _split_unit(s.replace(sign, "", 1), trusted)
        return inner, unit or _CURRENCIES[sign], factor
    if s.endswith(("¤", "°")):
        return s[:-1].rstrip(), "$" if s.endswith("¤") else "°", 1
    match = _SUFFIX.match(s)
    if match is None:
        return s, "", 1
    core, space, phrase = match.groups()
    scale, _, rest = phrase.partition(" ")
    if space and scale.lower() in SCALES:
        name = read_unit(rest, trusted) if rest else ""
        return (s, "", 1) if name is None else (core, name, SCALES[scale.lower()])
    if core.endswith("°"):  # 20°C
        core, phrase = core[:-1], "°" + phrase
    if not space and _VARIABLE.fullmatch(phrase) and (trusted or not phrase.startswith("m^")):
        return s, "", 1  # 5m and 3s^2 are products; an answer may be 15m^2
    name = read_unit(phrase, trusted)
    return (s, "", 1) if name is None or not name and not space and core[-1].isdigit() else (core, name, 1)


_INTEGER = re.compile(r"-?\d{1,30}", re.ASCII)
_MIXED = re.compile(  # 1\frac{4}{5}, 1 4/5
    r"(?<![\d.}\\_^])(\d{1,30}) ?\\frac\{(\d{1,30})\}\{(\d{1,30})\}|(?<![\d.}_^])(\d{1,30}) (\d{1,30})/(\d{1,30})"
)


def _sum_mixed(match: re.Match[str]) -> str:
    """A mixed number as a sum, where its fraction is proper."""
    whole, top, bottom = (group for group in match.groups() if group)
    return f"({whole}+{top}/{bottom})" if int(top) < int(bottom) else match.group()


@lru_cache(maxsize=8192)
def read_number(s: str, trusted: bool = False) -> Number | None:
    """Read a normalised answer as a number; None when it is none.

    Args:
        s: the answer in one spelling (spelling.normalize).
        trusted: whether a word outside the vocabulary of units counts as a thing that is counted (a ground truth).
    """
    if _INTEGER.fullmatch(s):
        return Number({ONE: Fraction(int(s))} if int(s) else {})
    if not s or len(s) > MAX_CHARS:
        return None
    core, unit, factor = _split_unit(s, trusted)
    percent = core.endswith("%")
    core = core[:-1].rstrip() if percent else core
    try:
        reader = _Reader(_MIXED.sub(_sum_mixed, core))
        form = reader.form if factor == 1 else _multiply(reader.form, {ONE: Fraction(factor)})
    except (_NotRead, ZeroDivisionError, ValueError):
        return None
    lone = core.lstrip("+-")
    places = len(lone) - lone.index(".") - 1 if re.fullmatch(r"\d*\.\d+", lone) and factor == 1 else 0
    digits = len(lone.replace(".", "").lstrip("0")) if places else 0
    return Number(form, places, digits, reader.decimal and "overline" not in core, percent, unit)


# ------------------------------------------------------------------------------------------------------------- comparing

_PI = Fraction(3141592653589793238462643383279502884197169399375105820974944, 10**60)


def approximate(form: Form) -> Fraction | None:
    """The value of a real number, good to 50 digits; None for one that is not real or too large."""
    if any(m or abs(k) > 50 for _, k, m in form):
        return None
    total = Fraction(0)
    for (n, k, _), c in form.items():
        total += c * Fraction(isqrt(n * 10**120), 10**60) * _PI**k
    return total


def _rounds_to(decimal: Number, exact: Number) -> bool:
    """Whether a lone decimal with enough digits is an exact number, rounded to its last place."""
    whole = list(exact.form) == [ONE] and exact.form[ONE].denominator == 1
    value = None if decimal.digits < ROUNDED_DIGITS or exact.decimal or whole else approximate(exact.form)
    if value is None:
        return False
    difference = abs(decimal.form.get(ONE, Fraction(0)) - value)
    noise = decimal.digits >= 15 and difference <= abs(value) / 10**14  # what binary floating point leaves
    return noise or 2 * difference * 10**decimal.places <= 1


def _hundredth(number: Number) -> Number:
    return number._replace(form={key: c / 100 for key, c in number.form.items()})


def same_number(a: Number, b: Number) -> bool:
    """Whether a number equals that of the ground truth `a`: exactly, or as a decimal of at least six significant digits
    that is `a`, which is exact, rounded; or a ground truth of at least twelve that is `b` rounded. Two decimals are never
    rounded.

    A percent sign that only one side has may be read as "of a hundred"; it may be dropped as well, but not before a
    ground truth between 0 and 1, which is a share. A missing unit is forgiven, another one is not; nothing is converted.
    """
    units = [number.unit or "%" * number.percent for number in (a, b)]
    if all(units) and units[0] != units[1]:
        return False
    pairs = [(a, b)]
    if a.percent != b.percent:
        share = b.percent and list(a.form) == [ONE] and 0 < a.form[ONE] < 1
        pairs = [(_hundredth(a), b) if a.percent else (a, _hundredth(b)), *([] if share else pairs)]
    return any(
        x.form == y.form
        or bool(x.form and y.form)
        and (_rounds_to(y, x) or x.digits >= FLOAT_DIGITS and _rounds_to(x, y))
        for x, y in pairs
    )
