r"""One spelling for answers: Unicode, delimiters, spacing, fractions and separators written the same way.

Only the writing changes, never the meaning, and nothing is evaluated.
"""

import re
from functools import lru_cache

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
