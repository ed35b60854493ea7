"""Brackets: what stands inside them and where a text can be cut outside all of them."""

import re

MAX_ELEMENTS = 1_000


def mask(s):
    """Return the text with everything inside brackets blanked, or None when the brackets do not match."""
    out, depth, i = [], 0, 0
    while i < len(s):
        pair = s[i : i + 2] if s[i] == "\\" else s[i]
        opens = pair in ("(", "[", "{", "\\{") or s.startswith(("\\begin{", "\\langle"), i)
        closes = pair in (")", "]", "}", "\\}") or s.startswith(("\\end{", "\\rangle"), i)
        depth -= closes
        if depth < 0:
            return None
        out.append("\x00" * len(pair) if depth or opens or closes else pair)
        depth += opens
        i += len(pair)
    return "".join(out) if depth == 0 else None


def cut(pattern, s):
    """Return (parts, what was between them) of a text, cut at a pattern outside all brackets; None when the brackets do
    not match."""
    blanked = mask(s)
    found = [] if blanked is None else list(pattern.finditer(blanked))
    if blanked is None or len(found) > MAX_ELEMENTS:
        return None
    starts, ends = [0, *(match.end() for match in found)], [*(match.start() for match in found), len(s)]
    return [s[i:j].strip() for i, j in zip(starts, ends, strict=True)], [match.group().strip() for match in found]


def split(s, separator=","):
    """Split at a separator outside all brackets; None when the brackets do not match."""
    found = cut(re.compile(separator), s)
    return found and found[0]
