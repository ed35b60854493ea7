r"""Algebra on single formulas with math-verify (sympy); imported inside verification processes only, see worker.py.

Whole formulas are parsed: math-verify's own extraction is not used, because it falls back to numbers found inside a
formula that it could not read, and so can call two different unreadable formulas equal. Two values are compared as rational
functions first, by their values modulo a prime, which needs no expansion; then at a point; what is left goes to math-verify.
"""

from __future__ import annotations

import hashlib
import logging
import re
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from frpo_verl.rewards import compare

logging.getLogger("math_verify").setLevel(logging.ERROR)
logging.getLogger("latex2sympy2_extended").setLevel(logging.ERROR)


class GoldError(ValueError):
    """The ground truth can't be read as mathematics."""


_CONFIG = NormalizationConfig(
    basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
)
_TRIG_DEGREES = re.compile(r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*(\d+(?:\.\d+)?)\s*°\s*[)}]?")
# latex2sympy can't read E_1 and e_1, and drops the index of I_2 and the prime of f'
_RENAMED = re.compile(r"(?<![A-Za-z\\])(?:([EeI])_(?:(\w)|\{([^{}]*)\})|([A-Za-z])('+))")
_MEMBER = re.compile(r"^\s*[A-Za-z]\s*\\in(?![a-z])")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\_])i(?![A-Za-z])")


def to_latex(text: str) -> str:
    r"""A formula in one spelling (spelling.normalize) as the LaTeX that latex2sympy reads."""
    s = _TRIG_DEGREES.sub(r"\\\1(\\frac{\\pi \\cdot \2}{180})", text)
    s = _RENAMED.sub(lambda m: f"z_{{{''.join(filter(None, m.groups()))}}}".replace("'", "q"), s)
    return _MEMBER.sub("", s).replace("*", " \\cdot ").replace("°", "^{\\circ}").replace("¤", "").strip()


def _parse(text: str, is_complex: bool) -> Any:
    value = latex2sympy(
        normalize_latex(to_latex(text), _CONFIG), is_real=not is_complex, convert_degrees=False,
        normalization_config=None, conversion_config=ConversionConfig(lowercase_symbols=False),
    )  # fmt: skip
    if isinstance(value, sympy.Basic) and value.has(sympy.log):  # \log_3 x, which sympy.N would take for \ln x
        value = value.replace(
            lambda n: isinstance(n, sympy.log) and len(n.args) == 2,
            lambda n: sympy.expand_log(sympy.log(n.args[0])) / sympy.log(n.args[1]),
        )
    if is_complex and isinstance(value, sympy.Basic):
        value = value.subs({symbol: sympy.I for symbol in value.free_symbols if symbol.name == "i"})
    return value


@lru_cache(maxsize=4096)
def parse_gold(text: str, is_complex: bool = False) -> Any:
    """Parse a ground truth once; raises GoldError when it can't be read."""
    try:
        return _parse(text, is_complex)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise GoldError(f"the ground truth {text[:80]!r} can't be read ({type(error).__name__})") from error


PRIME = 2**127 - 1
_UNEVALUATED = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative, sympy.UnevaluatedExpr)


def _fingerprint(node: Any, opaque: list[Any]) -> int:
    """The value of an expression modulo PRIME at a fixed point: symbols and, noted in `opaque`, everything that is no
    rational function have values drawn from their name. Raises ValueError where it has none."""
    if node.is_Float:
        node = sympy.Rational(str(node))
    if node.is_Rational:
        return int(node.p) * pow(int(node.q), -1, PRIME) % PRIME
    if node.is_Add or node.is_Mul:
        out = 0 if node.is_Add else 1
        for part in node.args:
            value = _fingerprint(part, opaque)
            out = (out + value if node.is_Add else out * value) % PRIME
        return out
    if node.is_Pow and node.exp.is_Integer:
        base = _fingerprint(node.base, opaque)
        return pow(base, int(node.exp), PRIME)  # raises ValueError for 0 to a negative power
    if not isinstance(node, sympy.Expr) or node.has(sympy.Float, *_UNEVALUATED, sympy.oo, sympy.nan, sympy.zoo):
        raise ValueError("no value modulo PRIME")
    if not (node.is_Symbol or node is sympy.pi):
        opaque.append(node)
    return int.from_bytes(hashlib.sha256(sympy.srepr(node).encode()).digest()[:15], "big")


def _by_fingerprint(a: Any, b: Any) -> bool | None:
    """Equality of two expressions as rational functions of their symbols and opaque parts: True, False (when nothing
    is opaque) or None."""
    opaque: list[Any] = []
    try:
        if _fingerprint(a, opaque) == _fingerprint(b, opaque):
            return True
    except ValueError:
        return None
    return None if opaque else False


def _values_differ(a: Any, b: Any) -> bool:
    """Whether two expressions take different values, relative to their size, at a point with positive coordinates: then
    simplify() need not be tried, and what math-verify would call equal to 15 decimals (1/2^99 = 1/2^98) is not."""
    symbols = a.free_symbols | b.free_symbols
    try:
        if not symbols:
            a, b = a.doit(), b.doit()
        if a.has(*_UNEVALUATED) or b.has(*_UNEVALUATED):
            return False
        names = sorted({symbol.name for symbol in symbols})
        point = {symbol: sympy.Rational(137 + 61 * names.index(symbol.name), 97) for symbol in symbols}
        x, y = (sympy.N(value.subs(point), 30) for value in (a, b))
        if not (x.is_number and y.is_number and x.is_finite and y.is_finite):
            return False
        return bool(abs(x - y) > sympy.Float("1e-12") * max(abs(x), abs(y)))
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False  # not certain: math-verify decides


_DECIMAL = re.compile(r"-?\d+e-\d+")


def _rounded(value: Any, decimal: str) -> bool:
    """Whether a decimal, written 1234567e-6, is a value, rounded to its last place or to the precision of binary floats."""
    digits, places = (int(part) for part in decimal.split("e-"))
    value = sympy.N(value, places + 40)
    if not value.is_real:
        return False
    difference = abs(value * 10**places - digits)
    return bool(2 * difference <= 1 or len(str(abs(digits))) >= 15 and difference <= abs(digits) * sympy.Float("1e-14"))


@lru_cache(maxsize=4096)
def ask(gold: str, pred: str, kind: str) -> bool:
    """Whether two formulas are equal by algebra.

    Args:
        gold: the right one.
        pred: the one to judge.
        kind: "value", "relation" (equations, inequalities), "set", or "decimal": one of them is a decimal, 1234567e-6,
            perhaps rounded.

    Raises:
        GoldError: when the ground truth can't be read.
    """
    is_complex = any(_IMAGINARY.search(text) or should_treat_as_complex(text) for text in (gold, pred))
    printed = kind == "decimal" and _DECIMAL.fullmatch(gold) is not None
    gold_value = None if printed else parse_gold(gold, is_complex)
    try:
        if kind == "decimal":
            return _rounded(_parse(pred, is_complex), gold) if printed else _rounded(gold_value, pred)
        pred_value = _parse(pred, is_complex)
        plain = all(  # symbols of several letters are words and not variables
            isinstance(v, sympy.Expr) and not any(len(s.name) > 1 and s.name.isalpha() for s in v.free_symbols)
            for v in (gold_value, pred_value)
        )
        if kind == "value" and plain:
            verdict = _by_fingerprint(gold_value, pred_value)
            if verdict is not None:
                return verdict
            if _values_differ(gold_value, pred_value):
                return False
        return bool(
            verify(gold_value, pred_value, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True)
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False  # an answer that can't be read or compared is not the right one


@lru_cache(maxsize=4096)  # the answers of a group repeat
def equal(gold: str, pred: str) -> bool:
    """Whether `pred` equals the ground truth `gold` (both text); raises GoldError when the ground truth can't be read."""
    return compare.compare(gold, pred, ask) is True


def warm_up() -> None:
    """Judge a few fixed pairs, so that workers forked afterwards have the parser's tables and sympy's modules in
    memory."""
    pairs = (
        (r"\frac{3\sqrt{3}}{x}", r"\sqrt{\frac{27}{x^2}}"), (r"x^2-2x+1", r"(x-1)^2"),
        (r"\{1\pm\sqrt[3]{5},-2\}", r"-2, 1-5^{1/3}, 1+5^{1/3}"), (r"(0, 2) \cup (1, 3)", r"(0,3)"),
        (r"2x-y+3=0", r"y-2x=3"), (r"\sin^2 x + \log_2 3", r"\tan x + e^{2x}"), (r"\sqrt[4]{4}", r"2^{1/2}"),
        (r"2\begin{pmatrix} x & 1 \\ 2 & 3 \end{pmatrix}", r"\begin{pmatrix} 2x & 2 \\ 4 & 6 \end{pmatrix}"),
    )  # fmt: skip
    for gold, pred in pairs:
        equal(gold, pred)
