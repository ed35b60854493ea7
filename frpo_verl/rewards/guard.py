r"""Pre-filters: refuse answers that would only burn a verification process (power towers, factorials, deep nesting).

They save time, they are not the safety net: whatever passes here is verified in a process that is killed at a deadline.
"""

import re

MAX_EXPONENT = 100_000
MAX_BOUND = 10_000  # of a sum, product or binomial
MAX_FACTORIAL = 1_000
MAX_DEPTH = 40
MAX_DIGIT_RUN = 1_000
MAX_ELEMENTS = 200
MAX_LOGARITHMS = 4

_DIGITS = re.compile(rf"\d{{{MAX_DIGIT_RUN + 1},}}")
_LONG_NUMBER = re.compile(r"\d{51,}")
_FACTORIAL = re.compile(r"(\d+|[)}\]])\s*!(?!=)")
_BOUNDED = re.compile(r"\\(?:sum|prod|bigcup|bigcap|[dt]?binom|Gamma|zeta)(?![A-Za-z])")
_UNEVALUATED = re.compile(r"\\(?:int|oint|iint|sum|prod|lim)(?![A-Za-z])")
_LOGARITHM = re.compile(r"\\(?:log|ln)(?![A-Za-z])")
_TOKEN = re.compile(r"[+-]?(?:\d+|\\?[A-Za-z]+|.)", re.DOTALL)


def _group_before(s, end):
    """Return the text of the bracket group that closes at s[end - 1]."""
    depth = 0
    for i in range(end - 1, -1, -1):
        depth += (s[i] in ")}]") - (s[i] in "({[")
        if depth == 0:
            return s[i + 1 : end - 1]
    return s[:end]


def _argument_after(s, start):
    """Return the exponent that starts at s[start:], a group or the token, and its end."""
    if s[start : start + 1] not in ("{", "("):
        match = _TOKEN.match(s, start)
        return (match.group(), match.end()) if match else ("", start)
    depth = 0
    for i in range(start, len(s)):
        depth += (s[i] in "{(") - (s[i] in "})")
        if depth == 0:
            return s[start + 1 : i], i + 1
    return s[start + 1 :], len(s)


def _depth(s):
    depth = deepest = 0
    for c in s:
        depth += (c in "{([") - (c in "})]")
        deepest = max(deepest, abs(depth))
    return deepest


def _size(s, level=0):
    """Upper bound of a number that is written with powers; infinity when it can't be bounded cheaply."""
    numbers = [int(n) if len(n) <= 9 else float("inf") for n in re.findall(r"\d+", s)]
    largest = max(numbers, default=1)
    if level > 4 or "!" in s and not (largest < 8 and s.count("!") == 1 and not re.search(r"[)}\]]\s*!", s)):
        return float("inf")
    if "^" not in s or not numbers:
        return largest
    power = _size(_argument_after(s, s.index("^") + 1)[0], level + 1)
    return float("inf") if power > 64 or largest == float("inf") else float(max(largest, 2)) ** power


def refuse(answer, gold=""):
    r"""Return why a normalised answer is not worth a verification process, or "".

    Args:
      answer: the normalised text of the answer (spelling.normalize), at most a few thousand characters.
      gold: the normalised ground truth; only where it has `\int`, `\sum`, `\prod` or `\lim` may the answer have them.
    """
    if _UNEVALUATED.search(answer) and not _UNEVALUATED.search(gold):
        return "an integral, sum, product or limit that is not worked out"
    if len(_LOGARITHM.findall(answer)) > MAX_LOGARITHMS:
        return f"more than {MAX_LOGARITHMS} logarithms"
    if _LONG_NUMBER.search(answer) and ("^" in answer or "\\sqrt" in answer):
        return "a power or root next to a number of more than 50 digits"
    if _DIGITS.search(answer):
        return f"more than {MAX_DIGIT_RUN} digits in a row"
    if _depth(answer) > MAX_DEPTH or len(re.findall(r"\\frac|\\sqrt", answer)) > MAX_DEPTH:
        return f"nested more than {MAX_DEPTH} deep"
    if answer.count(",") > MAX_ELEMENTS:
        return f"more than {MAX_ELEMENTS} elements"
    for match in re.finditer(r"\^", answer):
        exponent, end = _argument_after(answer, match.end())
        while answer[end : end + 1] == "^":  # 9^9^9 without braces
            more, end = _argument_after(answer, end + 1)
            exponent += "^{" + more + "}"
        if _size(exponent) > MAX_EXPONENT:
            return f"an exponent above {MAX_EXPONENT}"
    for match in _FACTORIAL.finditer(answer):
        token = match.group(1)
        inside = token if token.isdigit() else _group_before(answer, match.start() + 1)
        if "!" in inside or _size(inside) > MAX_FACTORIAL or answer[match.end() : match.end() + 1] == "!":
            return f"a factorial above {MAX_FACTORIAL}!"
    for match in _BOUNDED.finditer(answer):
        if _size(answer[match.end() : match.end() + 60].replace("!", "")) > MAX_BOUND:
            return f"a bound above {MAX_BOUND} in {match.group()}"
    return ""
