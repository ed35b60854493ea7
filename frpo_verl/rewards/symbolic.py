r"""Symbolic comparison with math-verify (sympy); imported inside verification processes only, see worker.py.

The whole answer has to parse: math-verify's own extraction is not used, because it falls back to numbers found inside
  a formula that it could not read, and so can call two different unreadable formulas equal.
"""

import logging
import re
from functools import lru_cache

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from frpo_verl.rewards import spelling

logging.getLogger("math_verify").setLevel(logging.ERROR)
logging.getLogger("latex2sympy2_extended").setLevel(logging.ERROR)

_CONFIG = NormalizationConfig(
    basic_latex=True, units=True, malformed_operators=True, nits=True, boxed="none", equations=False
)
_PLAIN_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan)(?=[\s(\d{])"
)
_PLAIN_SYMBOL = re.compile(r"(?<![\\A-Za-z])(pi|infty|infinity|inf|oo)(?![A-Za-z])")

_TRIG_DEGREES = re.compile(r"\\(sin|cos|tan|cot|sec|csc)\s*[({]?\s*(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?\s*[)}]?")
_MEMBER = re.compile(r"^\s*[A-Za-z]\s*\\in(?![A-Za-z])")
_IMAGINARY = re.compile(r"(?<![A-Za-z\\_])i(?![A-Za-z])")
_RELATION = re.compile(r"\\le(?![A-Za-z])|\\ge(?![A-Za-z])|<=|>=|<|>")
_VARIABLE = re.compile(r"[A-Za-z]|\\(?:theta|alpha|lambda)")
_CONSTANTS = re.compile(r"\\(?:frac|sqrt|pi|infty|cdot)(?![A-Za-z])")


class GoldError(ValueError):
    """The ground truth can't be read as mathematics."""


def to_latex(text):
    r"""Return an answer as LaTeX: math delimiters removed, `sqrt(2)` as `\sqrt{2}`, `pi` as `\pi`, `**` as `^`, `\sin
    30^\circ` in radians."""
    s = spelling.strip_delimiters(text.translate(spelling.UNICODE)).replace("$", "")
    s = re.sub(r"\\(?:mathrm|text|operatorname)\{([ei])\}", r"\1", s.replace("**", "^"))
    s = _PLAIN_SYMBOL.sub(lambda m: "\\pi " if m.group(1) == "pi" else "\\infty ", s)
    s = _PLAIN_FUNCTION.sub(r"\\\1 ", s)
    s = re.sub(r"\\sqrt *\(([^()]*(?:\([^()]*\)[^()]*)*)\)", r"\\sqrt{\1}", s)
    s = _TRIG_DEGREES.sub(r"\\\1(\\frac{\\pi \\cdot \2}{180})", s)
    s = _MEMBER.sub("", s)
    return s.strip().rstrip(".").strip()


def _parse(text, is_complex):
    latex = normalize_latex(to_latex(text), _CONFIG)
    value = latex2sympy(
        latex, is_real=not is_complex, convert_degrees=False, normalization_config=None,
        conversion_config=ConversionConfig(lowercase_symbols=False),
    )  # fmt: skip
    if is_complex and isinstance(value, sympy.Basic):
        units = [symbol for symbol in value.free_symbols if symbol.name == "i"]
        value = value.subs({symbol: sympy.I for symbol in units}) if units else value
    return value


@lru_cache(maxsize=4096)
def parse_gold(text, is_complex=False):
    """Parse a ground truth once; raises GoldError when it can't be read."""
    try:
        return _parse(text, is_complex)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise GoldError(f"the ground truth {text[:80]!r} can't be read ({type(error).__name__})") from error


def _differ(a, b):
    """True when two numbers that math-verify calls equal are not, relative to their size.

    It compares differences to 15 decimals, so that 1/2^99 = 1/2^98. Without decimals in either number they have to
    agree to 12 significant digits, with decimals to 5.
    """
    try:
        if not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr)) or a.free_symbols or b.free_symbols:
            return False
        x, y = sympy.N(a.doit(), 30), sympy.N(b.doit(), 30)
        tolerance = 1e-5 if a.has(sympy.Float) or b.has(sympy.Float) else 1e-12
        return bool(abs(x - y) > tolerance * max(abs(x), abs(y)))
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False


_UNEVALUATED = (
    sympy.Sum,
    sympy.Product,
    sympy.Integral,
    sympy.Limit,
    sympy.Derivative,
    sympy.UnevaluatedExpr,
)


def _certainly_differ(a, b):
    """True when two expressions take different values at a point with positive coordinates: then simplify() need not
    be tried.

    It says True only for plain expressions: no sums, integrals, percent signs or symbols of several letters (words).
      With decimals the values have to be 2e-6 apart, since math-verify rounds them to 6 decimals, without to 9
      digits.
    """
    try:
        if (
            not (isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr))
            or a.has(*_UNEVALUATED)
            or b.has(*_UNEVALUATED)
        ):
            return False
        symbols = a.free_symbols | b.free_symbols
        if any(len(symbol.name) > 1 and symbol.name.isalpha() for symbol in symbols):
            return False
        names = sorted({symbol.name for symbol in symbols})
        point = {symbol: sympy.Rational(137 + 61 * names.index(symbol.name), 97) for symbol in symbols}
        x, y = sympy.N(a.subs(point), 20), sympy.N(b.subs(point), 20)
        if not (x.is_number and y.is_number and x.is_finite and y.is_finite):
            return False
        if a.has(sympy.Float) or b.has(sympy.Float):
            return bool(abs(x - y) > 2e-6)
        return bool(abs(x - y) > 1e-9 * max(abs(x), abs(y)))
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False


def _is_solved(text):
    """Whether a relation says where one lone variable lies, as in "-2 <= x < 7": a solution, not the problem
    restated."""
    sides = _RELATION.split(spelling.normalize(text))
    variables = [side.strip() for side in sides if _VARIABLE.fullmatch(side.strip())]
    others = [_CONSTANTS.sub("", side) for side in sides if not _VARIABLE.fullmatch(side.strip())]
    return len(sides) in (2, 3) and len(variables) == 1 and not any(re.search("[A-Za-z]", side) for side in others)


def equal(gold, pred):
    """Whether `pred` equals the ground truth `gold` (both text) by math-verify.

    Raises:
      GoldError: when the ground truth can't be read.
    """
    is_complex = any(_IMAGINARY.search(text) or should_treat_as_complex(text) for text in (gold, pred))
    gold_value = parse_gold(gold, is_complex)
    try:
        pred_value = _parse(pred, is_complex)
        if _certainly_differ(gold_value, pred_value):
            return False
        same = verify(
            gold_value,
            pred_value,
            timeout_seconds=None,
            raise_on_error=True,
            allow_set_relation_comp=_is_solved(pred),
        )
    except (MemoryError, RecursionError):
        raise
    except Exception:
        return False  # an answer that can't be read or compared is not the right one
    return bool(same) and not _differ(gold_value, pred_value)


def warm_up():
    """Judge a few fixed pairs, so that workers forked afterwards have the parser's tables and sympy's modules in
    memory."""
    pairs = (
        (r"\frac{3\sqrt{3}}{4}", r"\sqrt{\frac{27}{16}}"),
        (r"x^2-2x+1", r"(x-1)^2"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        (r"\{1\pm\sqrt{5},-2\}", r"-2, 1-\sqrt{5}, 1+\sqrt{5}"),
        (r"(-\infty, 2) \cup [3, \infty)", r"[3,\infty)\cup(-\infty,2)"),
        (r"2i+1", r"1-2i"),
        (r"y = 2x + 3", r"y-2x=3"),
        (r"\sin^2 x + \log_2 3", r"\tan x + e^{2x}"),
        (
            r"\begin{pmatrix} x & 1 \\ 2 & \sqrt{2} \end{pmatrix}",
            r"\begin{pmatrix} x & 1 \\ 2 & 2^{1/2} \end{pmatrix}",
        ),
    )
    for gold, pred in pairs:
        equal(gold, pred)
    parts = (
        r"\frac{%s}{%s}",
        r"2(%s)+\sqrt{%s}",
        r"-%s^{2}\cdot %s",
        r"\left(%s-3\right)\left(%s+1\right)",
        r"(%s,%s)",
        r"\{%s,-%s\}",
        r"[%s,%s)",
    )
    atoms = ("x", "5", r"\pi", "2n", r"3\sqrt{2}", "a_1", "0.5", r"7\pi/2", r"\frac{11}{4}")
    for k, part in enumerate(parts):
        for shift in range(3):
            _parse(part % (atoms[(k + shift) % len(atoms)], atoms[(2 * k + 3 * shift + 1) % len(atoms)]), False)
