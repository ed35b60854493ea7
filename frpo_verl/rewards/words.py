r"""What is read as a whole: names (`x`, `f(x)`, `\overline{AB}`), words, choices, numbers in words or in a base, constants."""

from __future__ import annotations

import re

from frpo_verl.rewards.exact import read_number
from frpo_verl.rewards.values import INFINITY, MINUS_INFINITY, Items, Number, Text, Value

LETTERS = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta kappa lambda mu nu xi rho sigma tau phi varphi chi "
    "psi omega ell Gamma Delta Theta Lambda Sigma Phi Psi Omega".split()
)
INDEX = r"(?:_(?:\w|\{[^{}]*\}))?"
SYMBOL = rf"(?:[A-Za-z]|\\(?:{'|'.join(sorted(LETTERS))})(?![A-Za-z])){INDEX}'*"  # x, a_n, \theta_{12}, f'
NAME = (  # a symbol, f^{-1}(x), AB, |AB|, \angle ABC
    rf"(?:{SYMBOL}(?:\^\{{-1\}})?(?:\((?:{SYMBOL}|\d)(?:,{SYMBOL})*\))?|[A-Z]{{2,4}}{INDEX}|\|[A-Za-z]{{1,2}}\||"
    rf"m?\\(?:angle|overline|triangle|vec|bar|hat) ?\{{?[A-Za-z]{{1,3}}\}}?)"
)
_NAME = re.compile(  # P(A), AB:BC, \frac{AB}{BC}
    rf"(?:{NAME}|P\([^()]*\)|[A-Z]{{1,3}}{INDEX}[:/][A-Z]{{1,3}}{INDEX}|\\frac\{{[A-Z]{{1,3}}\}}\{{[A-Z]{{1,3}}\}})$"
)
_TUPLE_NAME = re.compile(rf"\(({NAME}(?:,{NAME})+)\)$")


def read_name(s: str) -> tuple[str, bool] | None:
    """(canonical name, whether it is a description such as "area") or None."""
    if _NAME.match(s):
        return s.replace("{", "").replace("}", ""), False
    if _TUPLE_NAME.match(s):
        return s, False
    return (s.lower(), True) if len(s) <= 60 and _WORDS.match(s) and read_word(s) else None


_WORDS = re.compile(r"[A-Za-z][A-Za-z' -]*[A-Za-z.]$")
_SHORT_WORDS = frozenset("no yes odd all six ten one two red by cat dog tie up".split())
_CHOICE = re.compile(r"(?:(?:option|choice) ?)?[(\[]?([A-Za-z])[)\]]$|(?:option|choice) ([A-Z])$", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the) ")


def read_word(s: str) -> Text | None:
    """A word or a choice, or None for what can be algebra."""
    choice = _CHOICE.match(s)
    if choice:
        return Text(choice[1] or choice[2], "choice")
    runs = re.findall(r"[A-Za-z]+", s) if len(s) <= 200 and _WORDS.match(s) else []
    if any(len(run) > 3 or len(run) > 1 and run.istitle() for run in runs) or runs and s.lower() in _SHORT_WORDS:
        return Text(_ARTICLE.sub("", s.lower().rstrip(".")), "word")
    return None


_CONSTANTS: dict[str, Value] = {
    **dict.fromkeys(
        (r"\emptyset", "no solution", "no solutions", "no real solution", "no real solutions", "empty set", "none"),
        Items("set", ()),
    ),
    **dict.fromkeys(
        (r"\mathbb{R}", "all real numbers", "all reals"), Items("open", (MINUS_INFINITY, INFINITY))
    ),
    **dict.fromkeys(("dne", "does not exist"), Text("does not exist", "word")),
    r"\infty": INFINITY, r"+\infty": INFINITY, r"-\infty": MINUS_INFINITY,
}  # fmt: skip


def read_constant(s: str) -> Value | None:
    """Infinity, the empty set, the reals, "does not exist"."""
    return _CONSTANTS.get(s) or _CONSTANTS.get(_ARTICLE.sub("", s.lower()))


_COUNT = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = {name: 20 + 10 * k for k, name in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_BASED = re.compile(r"^(-?)\(?([0-9A-Za-z]+)\)?(?:_| base )\{?\(?\s*(\d{1,2}|[a-z]+)\s*\)?\}?$")


def read_count(s: str) -> Number | None:
    """A number below a hundred that is written as a word, or None."""
    tens, _, ones = s.lower().replace("-", " ").partition(" ")
    if s.lower() in _COUNT or tens in _TENS and (not ones or ones in _COUNT[1:10]):
        return read_number(str(_COUNT.index(tens) if tens in _COUNT else _TENS[tens] + _COUNT.index(ones or "zero")))
    return None


def read_base(s: str) -> Number | Text | None:
    """Digits with their base, or None: 2 <= base <= 36, every digit below it."""
    match = _BASED.match(s)
    if match is None or not (match[2][0].isdigit() or match[2].isupper()):
        return None
    sign, digits, base = match.groups()
    number = _COUNT.index(base) if base in _COUNT else int(base) if base.isdigit() else 0
    if not 2 <= number <= 36 or any(int(c, 36) >= number for c in digits) or not any(c.isdigit() for c in digits):
        return None
    return read_number(sign + digits) if number == 10 else Text(f"{sign}{digits.upper()}_{number}", "word")
