"""Brackets: what stands inside them and where a text can be cut outside all of them."""

from __future__ import annotations

import re

MAX_ELEMENTS = 1_000
_TOKEN = re.compile(  # an opening bracket, a closing one, or any other character or command
    r"([(\[{]|\\\{|\\begin(?=\{)|\\langle(?![A-Za-z]))|([)\]}]|\\\}|\\end(?=\{)|\\rangle(?![A-Za-z]))|\\?.", re.DOTALL
)


def groups(s: str) -> tuple[dict[int, int], int]:
    """({position of an opening bracket: that of its closing one}, how deep they nest); brackets without a partner are
    left out."""
    closing: dict[int, int] = {}
    open_: list[int] = []
    depth = 0
    for match in _TOKEN.finditer(s):
        if match[1]:
            open_.append(match.start())
            depth = max(depth, len(open_))
        elif match[2] and open_:
            closing[open_.pop()] = match.end() - 1
    return closing, depth


def mask(s: str) -> str | None:
    """The text with everything inside brackets blanked, or None when the brackets do not match."""
    out, depth = [], 0
    for match in _TOKEN.finditer(s):
        depth -= bool(match[2])
        if depth < 0:
            return None
        out.append("\x00" * len(match[0]) if depth or match[1] or match[2] else match[0])
        depth += bool(match[1])
    return "".join(out) if depth == 0 else None


def cut(pattern: re.Pattern[str], s: str) -> tuple[list[str], list[str]]:
    """(parts, what was between them) of a text, cut at a pattern outside all brackets; ([], []) when the brackets do not
    match."""
    blanked = mask(s)
    found = [] if blanked is None else list(pattern.finditer(blanked))
    if blanked is None or len(found) > MAX_ELEMENTS:
        return [], []
    starts, ends = [0, *(match.end() for match in found)], [*(match.start() for match in found), len(s)]
    return [s[i:j].strip() for i, j in zip(starts, ends, strict=True)], [match.group().strip() for match in found]


def split(s: str, separator: str = ",") -> list[str]:
    """The parts of a text between separators outside all brackets; [] when the brackets do not match."""
    return cut(re.compile(separator), s)[0]
