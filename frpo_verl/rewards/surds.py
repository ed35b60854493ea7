r"""Closed forms read exactly: sums of rational multiples of square roots, powers of pi and i, such as
`\frac{11+2\sqrt{3}\pi}{4} - 5i`.

Such a number is kept as {(n, k, m): c}, the sum of c * sqrt(n) * pi^k * i^m with n squarefree and m 0 or 1. These
products are linearly independent over the rationals, so two forms are equal exactly when their dictionaries are.
Anything else (variables, other roots, division by a sum, an ambiguous spelling) is not read. The size of every number
and the depth are bounded.
"""

import re
from fractions import Fraction
from functools import lru_cache
from math import gcd

MAX_CHARS = 200
MAX_RADICAND = 10**8
MAX_TERMS = 16
MAX_POWER = 12
MAX_DEPTH = 12
MAX_BITS = 2_000

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?|\.\d+)|(\\frac|\\sqrt|\\pi)(?![A-Za-z])|([-+*/^(){}])|(i)(?![A-Za-z]))")


class _NotRead(Exception):
    pass


def _multiply(a, b):
    out = {}
    for (n1, k1, m1), c1 in a.items():
        for (n2, k2, m2), c2 in b.items():
            common = gcd(n1, n2)
            key = (n1 * n2 // common**2, k1 + k2, (m1 + m2) % 2)
            out[key] = out.get(key, 0) + c1 * c2 * common * (-1 if m1 + m2 == 2 else 1)
    return _check({key: c for key, c in out.items() if c})


def _check(form):
    if len(form) > MAX_TERMS:
        raise _NotRead
    for (n, _, _), c in form.items():
        if n > MAX_RADICAND or max(c.numerator.bit_length(), c.denominator.bit_length()) > MAX_BITS:
            raise _NotRead
    return form


def _add(a, b, sign):
    out = dict(a)
    for key, c in b.items():
        out[key] = out.get(key, 0) + sign * c
    return _check({key: c for key, c in out.items() if c})


def _invert(form):
    if len(form) != 1:
        raise _NotRead
    ((n, k, m), c) = next(iter(form.items()))
    return {(n, -k, m): Fraction(1) / (c * n) * (-1 if m else 1)}


def _square_root(form):
    if not form:
        return {}
    if list(form) != [(1, 0, 0)]:
        raise _NotRead
    value = form[1, 0, 0]
    radicand, root = abs(value.numerator) * value.denominator, Fraction(1, value.denominator)
    if radicand > MAX_RADICAND:
        raise _NotRead
    d = 2
    while d * d <= radicand:
        while radicand % (d * d) == 0:
            radicand, root = radicand // (d * d), root * d
        d += 1
    return {(radicand, 0, 1 if value < 0 else 0): root}


class _Reader:
    def __init__(self, text):
        self.tokens, end, self.decimal = [], 0, False
        while end < len(text):
            match = _TOKEN.match(text, end)
            if match is None:
                raise _NotRead
            self.tokens.append(next(group for group in match.groups() if group))
            end = match.end()
        self.i = self.depth = 0

    def peek(self):
        return self.tokens[self.i] if self.i < len(self.tokens) else ""

    def take(self, expected):
        if self.peek() != expected:
            raise _NotRead
        self.i += 1

    def sum(self):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _NotRead
        total, sign = {}, 1
        if self.peek() in ("+", "-"):
            sign = -1 if self.peek() == "-" else 1
            self.i += 1
        while True:
            total = _add(total, self.product(), sign)
            if self.peek() not in ("+", "-"):
                break
            sign = -1 if self.peek() == "-" else 1
            self.i += 1
        self.depth -= 1
        return total

    def product(self):
        value, divided = self.power(), False
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.i += 1
                factor = self.power()
                value, divided = _multiply(value, _invert(factor) if token == "/" else factor), token == "/"
            elif token and token not in "+-)}^":
                # "1/2\pi" can be read in two ways, "2\frac{1}{2}" is a mixed number, "2 3" is not a product
                if (
                    divided
                    or token[0].isdigit()
                    or token == "."
                    or self.tokens[self.i - 1][0].isdigit()
                    and token == "\\frac"
                ):
                    raise _NotRead
                value = _multiply(value, self.power())
            else:
                return value

    def power(self):
        value = self.atom()
        if self.peek() == "^":
            self.i += 1
            braces = self.peek() == "{"
            self.i += braces
            exponent = self.peek()
            if not exponent.isdigit() or len(exponent) > 2 or int(exponent) > MAX_POWER:
                raise _NotRead
            self.i += 1
            if braces:
                self.take("}")
            base, value = value, {(1, 0, 0): Fraction(1)}
            for _ in range(int(exponent)):
                value = _multiply(value, base)
        return value

    def group(self):
        self.take("{")
        value = self.sum()
        self.take("}")
        return value

    def atom(self):
        token = self.peek()
        self.i += 1
        if token and (token[0].isdigit() or token[0] == "."):
            if len(token) > 40:
                raise _NotRead
            self.decimal = self.decimal or "." in token
            return {(1, 0, 0): Fraction(token)} if Fraction(token) else {}
        if token == "\\pi":
            return {(1, 1, 0): Fraction(1)}
        if token == "i":
            return {(1, 0, 1): Fraction(1)}
        if token == "(":
            value = self.sum()
            self.take(")")
            return value
        if token == "\\sqrt":
            return _square_root(self.group())
        if token == "\\frac":
            top = self.group()
            return _multiply(top, _invert(self.group()))
        raise _NotRead


@lru_cache(maxsize=8192)
def read_surd(text):
    """Return (form, whether a decimal was written) for a normalised answer, or None when it is not such a closed form.

    Args:
      text: the answer in one spelling (spelling.normalize).
    """
    if not text or len(text) > MAX_CHARS:
        return None
    try:
        reader = _Reader(text)
        value = reader.sum()
    except (_NotRead, ZeroDivisionError):
        return None
    return (value, reader.decimal) if reader.i == len(reader.tokens) else None


def same_surd(a, b):
    """Compare two results of read_surd: True or False where certain, None where a decimal may stand for a rounded
    value."""
    if a[0] == b[0]:
        return True
    return None if a[1] or b[1] else False
