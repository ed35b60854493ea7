r"""One spelling for answers: Unicode, delimiters, spacing, fractions and separators written the same way.

Only the writing changes, never the meaning, and nothing is evaluated. `normalize` applies the tables below from top to bottom;
a rule is a pattern and what it becomes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from frpo_verl.rewards.brackets import groups

Replacement: TypeAlias = "str | Callable[[re.Match[str]], str]"
Rules: TypeAlias = "tuple[tuple[re.Pattern[str], Replacement], ...]"


def _compiled(*rules: tuple[str, Replacement]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


def _apply(rules: Rules, s: str) -> str:
    for pattern, replacement in rules:
        s = pattern.sub(replacement, s)
    return s


_AS_LATEX = str.maketrans({
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "°": r"^\circ ", "′": "'", "√": r"\sqrt ", "±": r"\pm ", "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "≤": r"\le ", "≥": r"\ge ", "≦": r"\le ", "≧": r"\ge ", "⩽": r"\le ",
    "⩾": r"\ge ", "≈": r"\approx ", "≠": r"\ne ", "⟨": r"\langle ", "⟩": r"\rangle ", "μ": "µ", "\u200b": "",
    **{c: rf"\mathbb{{{letter}}}" for c, letter in zip("ℝℤℕℚℂ", "RZNQC", strict=True)},
})  # fmt: skip


def _latex(text: str) -> str:
    """Unicode as LaTeX: raised and lowered characters, vulgar fractions, digits of other scripts, and the wide, bold and
    other forms of a character as Unicode itself decomposes them."""
    out, script = [], ""
    for c in text.translate(_AS_LATEX):
        kind, *points = unicodedata.decomposition(c).split() or [""]
        plain = "".join(chr(int(point, 16)) for point in points)
        wanted = {"<super>": "^", "<sub>": "_"}.get(kind, "")
        if wanted != script:
            out.append("}" * bool(script) + (wanted and wanted + "{"))
            script = wanted
        if kind == "<fraction>":
            out.append("\\frac{" + plain.replace("⁄", "}{") + "}")
        else:
            out.append(plain if kind.startswith("<") else str(unicodedata.decimal(c, c)))
    return "".join([*out, "}" * bool(script)]).translate(_AS_LATEX)


DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))


def _without_delimiters(text: str) -> str:
    """The text without the math delimiters and markdown stars that enclose all of it."""
    s = text.strip()
    for _ in range(3):
        t = s.strip("*").strip()
        for opening, closing in DELIMITERS:
            if t.startswith(opening) and t.endswith(closing) and len(t) > len(opening) + len(closing):
                if opening not in t[len(opening) : -len(closing)]:
                    t = t[len(opening) : -len(closing)].strip()
        if t == s:
            break
        s = t
    return s


_SEPARATORS = _compiled(  # 1{,}080 and 1 080
    (r"(?<=\d)\s?(?:\{\s*,\s*\}|,\\!\s*|\\,|\\ |\\;|~)(?=\d{3}(?!\d))", ""),
    (r"(?<![\d.])(\d{1,3}(?: \d{3})+)(?![\d ])", lambda m: m[1].replace(" ", "")),
)
_GROUPED = re.compile(r"(?<![\d.,^_{])\d{1,3}(?:,\d{3})+(?![\d,])")


def _ungroup(s: str) -> str:
    """Drop the commas of 1,080 outside brackets: inside them they part the elements of a tuple."""

    def drop(match: re.Match[str]) -> str:
        before = s[: match.start()]
        depth = sum(before.count(c) for c in "([") + before.count("\\{")
        depth -= sum(before.count(c) for c in ")]") + before.count("\\}")
        return match.group() if depth > 0 else match.group().replace(",", "")

    return _GROUPED.sub(drop, s)


_GREEK = (
    r"\\(?:pi|alpha|beta|gamma|delta|epsilon|varepsilon|theta|lambda|mu|rho|sigma|tau|phi|varphi|psi|omega)(?![A-Za-z])"
)
_FUNCTIONS = r"sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|arcsin|arccos|arctan"
_MARKUP = _compiled(  # degrees, line ends, colours, currency, percent, the empty set, space, sizes
    (r"\^\s*\{?\s*\\circ\s*\}?|(?<=\d)\^\{?o\}?(?![A-Za-z])|\\degrees?(?![A-Za-z])|(?<=\d)(?:\s|\\text\s*\{)\s*degrees?\s*\}?$", "°"),
    (r"\\\\\s*\[[\d.]+\s*(?:pt|em|ex|mm|cm)\]|\\cr(?![A-Za-z])", r"\\\\"), (r"\\(?:text)?color\s*\{\w+\}|\\hline", ""),
    (r"(?<!\\)\\\$\s*|(?<!\w)(?:USD|US\\?\$)\s*", "¤"), (r"\\%", "%"), (r"\$", ""),
    (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"(?<!\\)\\[!,;:> ]|\\(?:q?quad|(?:displaystyle|textstyle|limits|thinspace|medspace|large|checkmark)(?![a-z]))|~", " "),
    (r"\\(?:left|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|middle)(?![A-Za-z])\.?", ""),
)  # fmt: skip
_NOTATION = _compiled(
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"), (r"\\([lg])eq(?:slant)?(?![A-Za-z])", r"\\\1e"),
    (r"<=|\\leqq", r"\\le "), (r">=|\\geqq", r"\\ge "), (r"!=|\\neq(?![A-Za-z])", r"\\ne "),
    (r"\\lt(?![A-Za-z])", "<"), (r"\\gt(?![A-Za-z])", ">"), (r"\\lbrace(?![A-Za-z])", r"\\{"),
    (r"\\rbrace(?![A-Za-z])", r"\\}"), (r"\*\*", "^"), (r"\\(?:cdot|times|ast)(?![A-Za-z])", "*"),
    (r"\\div(?![A-Za-z])", "/"), (r"\\lg(?![A-Za-z])", r"\\log_{10} "), (r"(?<=[A-Za-z])\s*([/*])\s*␣", r"\1"),
    (rf"\\sqrt\s*({_GREEK})", r"\\sqrt{\1}"), (r"\\[dt]?binom\s+([A-Za-z])\s*([A-Za-z\d])", r"\\binom{\1}{\2}"),
    (r"(?<=[\d}])\s*(?:percent(?:age)?|per cent|pct)(?![A-Za-z])", "%"),
    (r"(?<![A-Za-z])(?:np|numpy|math|sympy)\.(?=[a-z])", ""), (r"\^\s*(-\d+)", r"^{\1}"),
    (rf"(?<![\\A-Za-z])({_FUNCTIONS})(?=[\s(\d{{^])", r"\\\1 "), (r"(?<![\\A-Za-z])pi(?![A-Za-z])", r"\\pi "),
    (r"(?<![\\A-Za-z])(?:infty|infinity|inf|oo)(?![A-Za-z])", r"\\infty "), (r"([\^_])\{(\w)\}(?!\d)", r"\1\2"),
    (r"(?:°|\s*degrees?)\s*([CF])(?:elsius|ahrenheit)?(?![A-Za-z])", r"°\1"), (r"\^\{?\\prime\}?", "'"),
    (r"\\([bp]?mod) ?\{?(\w+)\}?(?![A-Za-z])", r"\\\1 \2"), (r"(\.\d*)\\(?:bar|dot) ?(\d|\{\d+\})", r"\1\\overline\2"),
    (r"\\overline(\d)", r"\\overline{\1}"), (r"\\overline\{([A-Z]{2})\}", r"\1"), (r"\{:\}", ":"),
    (r"\{?(\w+)\s*\\choose\s*(\w+)\}?", r"\\binom{\1}{\2}"),
    (r"(?<![\\A-Za-z}\]_^])\{([A-Za-z])\}", r"\1"), (r"\\binom(\d)(\d)", r"\\binom{\1}{\2}"),
    (r"\\sqrt\s*(\[\d+\])?\s*(\d)", r"\\sqrt\1{\2}"), (r"\\sqrt\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)", r"\\sqrt{\1}"),
    (r"^ *(?:approximately|about|exactly|only) +(?=\S)| (?:approximately|exactly) *$", ""),
)  # fmt: skip
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|normal)?|math(?:rm|bf|it|sf)|operatorname|[mh]box|underline|bf|rm)\s*(?=\{)"
)
_ROMAN_UNIT = re.compile(r"(?<=[\d})\s])\\(?:text|mbox|textrm|textnormal|mathrm|rm)\s*\{[\s~]*([mgshJLNVWKCFAB])\s*\}")


def _unwrap(s: str) -> str:
    r"""Drop the commands that set text, `\text{...}`, with their braces."""
    closing, _ = groups(s)
    chars = list(s)
    for match in _TEXT.finditer(s):
        if match.end() in closing:
            chars[match.start() : match.end() + 1] = [" "] + [""] * (match.end() - match.start())
            chars[closing[match.end()]] = " "
    return "".join(chars)


_ARGUMENT = rf"\{{[^{{}}]*\}}|\d|[a-zA-Z]|{_GREEK}"  # of a command, with or without braces
_FRACTION = re.compile(rf"\\frac\s*({_ARGUMENT})\s*({_ARGUMENT})")
_BARE_FRACTION = re.compile(r"(\^|_|\\sqrt\s*)(\\frac\{[^{}]*\}\{[^{}]*\})")  # x^\frac12


def _braced_fractions(s: str) -> str:
    r"""Write `\frac12` and `\frac ab` with braces, three of them inside each other at most."""
    for _ in range(3):
        s, before = _FRACTION.sub(lambda m: f"\\frac{{{m[1].strip('{}')}}}{{{m[2].strip('{}')}}}", s), s
        if s == before:
            break
    return _BARE_FRACTION.sub(r"\1{\2}", s)


_SPACES = re.compile(r"(?<![^\W_])\s+|\s+(?![^\W_])")  # beside anything but letters and digits


@lru_cache(maxsize=8192)
def normalize(text: str, grouped: bool = True) -> str:
    r"""`text` in one spelling: no math delimiters, sizes, spacing commands, text wrappers or separators of thousands; `\dfrac`
    as `\frac`, `\frac12` as `\frac{1}{2}`. A letter that was set upright behind a number, and so is a unit, has the sign ␣
    before it.

    Args:
        text: an answer.
        grouped: whether `1,080` outside brackets is one number (`1{,}080` always is; `1, 080` never).
    """
    if text.isascii():
        if text.isdigit():
            return text
    else:
        text = _latex(text)
    s = _apply(_SEPARATORS, _without_delimiters(text))
    s = _apply(_MARKUP, _ungroup(s) if grouped and "," in s else s)
    s = _braced_fractions(_apply(_NOTATION, _unwrap(_ROMAN_UNIT.sub(r"␣\1", s))))
    s = _SPACES.sub("", re.sub(r"\s+", " ", s).strip())
    return s.rstrip(".,;:").strip() if not s.endswith("...") else s
