r"""Pre-filters: refuse answers that would only burn a verification process (power towers, factorials, deep nesting
...).

They save time, they are not the safety net: whatever passes here is verified in a process that is killed at a deadline.
"""

import re

MAX_EXPONENT = 10_000
MAX_FACTORIAL = 1_000
MAX_DEPTH = 40
MAX_DIGIT_RUN = 1_000
MAX_ELEMENTS = 200
MAX_BOUND = 10_000
MAX_LOGARITHMS = 4
MAX_EXPANSION = 300  # terms that are added times the exponent over them

_DIGITS = re.compile(rf"\d{{{MAX_DIGIT_RUN + 1},}}")
_LONG_NUMBER = re.compile(r"\d{51,}")
_POWER = re.compile(r"\^")
_FACTORIAL = re.compile(r"(\d+|[)}\]])\s*!(?!=)")
_BIG_BOUND = re.compile(r"\\(?:sum|prod|bigcup|bigcap|binom|dbinom|tbinom|Gamma|zeta)(?![A-Za-z])")
_UNEVALUATED = re.compile(r"\\(?:int|oint|iint|sum|prod|lim)(?![A-Za-z])")
_LOGARITHM = re.compile(r"\\(?:log|ln)(?![A-Za-z])")


def _group_before(s, end):
    """Return the text of the bracket group that closes at s[end - 1]."""
    depth, i = 0, end - 1
    while i >= 0:
        if s[i] in ")}]":
            depth += 1
        elif s[i] in "({[":
            depth -= 1
            if depth == 0:
                return s[i + 1 : end - 1]
        i -= 1
    return s[:end]


def _argument_after(s, start):
    """Return the exponent that starts at s[start:], a group or the token, and its end."""
    while start < len(s) and s[start] == " ":
        start += 1
    if s[start : start + 1] in ("{", "("):
        depth, i = 0, start
        while i < len(s):
            if s[i] in "{(":
                depth += 1
            elif s[i] in "})":
                depth -= 1
                if depth == 0:
                    return s[start + 1 : i], i + 1
            i += 1
        return s[start + 1 :], len(s)
    match = re.compile(r"[+-]?(?:\d+|\\?[A-Za-z]+|.)", re.DOTALL).match(s, start)
    return (match.group(), match.end()) if match else ("", start)


def _depth(s):
    depth = deepest = 0
    for c in s:
        if c in "{([":
            depth += 1
            deepest = max(deepest, depth)
        elif c in "})]":
            depth -= 1
    return max(deepest, -depth)


def _size(s, level=0):
    """Upper bound of a numeric exponent; infinity when it is a tower that can't be bounded cheaply."""
    if level > 4:
        return float("inf")
    numbers = [int(n) if len(n) <= 9 else float("inf") for n in re.findall(r"\d+", s)]
    largest = max(numbers, default=1)
    if "!" in s:
        return largest if largest < 8 and s.count("!") == 1 and not re.search(r"[)}\]]\s*!", s) else float("inf")
    if "^" in s and numbers:
        inner, _ = _argument_after(s, s.index("^") + 1)
        power = _size(inner, level + 1)
        if power > 64 or largest == float("inf"):
            return float("inf")
        return min(float(max(largest, 2)) ** power, float("inf"))
    return largest


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
    for match in _POWER.finditer(answer):
        exponent, end = _argument_after(answer, match.end())
        while answer[end : end + 1] == "^":  # 9^9^9 without braces
            more, end = _argument_after(answer, end + 1)
            exponent += "^" + ("{" + more + "}")
        if _size(exponent) > MAX_EXPONENT:
            return f"an exponent above {MAX_EXPONENT}"
        if answer[match.start() - 1 : match.start()] == ")":
            inside = _group_before(answer, match.start())
            if (inside.count("+") + inside.count("-")) * _size(exponent) > MAX_EXPANSION and re.search("[a-z]", inside):
                return "a sum to a high power"
    for match in _FACTORIAL.finditer(answer):
        token = match.group(1)
        inside = token if token.isdigit() else _group_before(answer, match.start() + 1)
        if "!" in inside or _size(inside) > MAX_FACTORIAL or answer[match.end() : match.end() + 1] == "!":
            return f"a factorial above {MAX_FACTORIAL}!"
    for match in _BIG_BOUND.finditer(answer):
        if _size(answer[match.end() : match.end() + 60].replace("!", "")) > MAX_BOUND:
            return f"a bound above {MAX_BOUND} in {match.group()}"
    return ""
