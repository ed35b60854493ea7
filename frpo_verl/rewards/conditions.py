r"""Conditions behind an answer: `x+1 for all x`, `2\pi n, n\in\mathbb{Z}`, `2k where k is an integer`.

A condition of the ground truth may be left out. One of the answer alone must say nothing that restricts it (a universal one). Where
both have one that restricts, it must be the same.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LETTERS = r"[A-Za-z](?:_\w)?(?:,[A-Za-z](?:_\w)?)*"
_MEMBER = rf"({_LETTERS}) ?\\in ?(\\mathbb ?\{{?[NZQRC]\}}?(?:[_^]\{{?[+*\d-]+\}}?)?)"
_KIND = (
    r"(?:(?:an?|any|all|every|each|some|arbitrary|fixed|positive|negative|nonnegative|non-negative|nonzero|real|natural|whole|"
    r"rational|complex) )*(?:integers?|reals?|constants?|numbers?|parameters?|scalars?)"
)
_UNIVERSAL = re.compile(
    rf"for (?:all|any|every|each|some)\b.*|(?:(?:where|with|for) )?(?:{_MEMBER}|{_LETTERS} (?:is|are|being) {_KIND})|(?:where|with|for) {_KIND}(?: {_LETTERS})?"
)
_WORDED = r"(?:for|where|with|when|if)"
_CONDITION = re.compile(rf"(.+?)(?:(?:, ?| ?\()({_MEMBER})|(?:, ?| ?\(| )({_WORDED} .+))$", re.DOTALL)
_SEVERAL = re.compile(r" (?:or|and|for|if|otherwise|when) |[,;][^,;]*=")


class Condition(NamedTuple):
    """A condition as text, whether it restricts nothing, and its (letters, set) where it is a membership."""

    text: str
    universal: bool
    member: tuple[str, str] | None


def split_condition(s: str) -> tuple[str, Condition | None]:
    """(what a normalised text says, the condition behind it) or (the text, None)."""
    if not re.search(rf"\\in|[ (,]{_WORDED} ", s):
        return s, None
    match = _CONDITION.match(s[:-1] if s.endswith(")") and re.search(r"\([^()]*\)$", s) else s)
    if match is None or _SEVERAL.search(match[2] or match[5]):
        return s, None
    core, text = match[1].rstrip(" ,"), match[2] or match[5]
    membership = re.search(_MEMBER, text)
    member = (membership[1], re.sub(r"[{} ]", "", membership[2])) if membership else None
    foreign = match[3] and not set(match[3].split(",")) <= set(re.findall(r"[A-Za-z](?:_\w)?", core))
    if not core or foreign or member and re.search(r"[<>]|\\[lgn]e(?![a-z])", core):
        return s, None  # x = 2, y \in R says something of y; x > 2, x \in Z is not x > 2
    return core, Condition(text, _UNIVERSAL.fullmatch(text) is not None, member)


def without_conditions(gold: str, pred: str) -> tuple[str, str]:
    """Both normalised texts without the conditions that need not be said; as they are where the conditions differ."""
    (g, of_gold), (p, of_pred) = split_condition(gold), split_condition(pred)
    if of_pred is None:
        return g, p
    if of_gold is None or of_gold.universal != of_pred.universal:
        return (g, p) if of_pred.universal else (gold, pred)
    if not of_gold.universal:
        return (g, p) if of_gold.text == of_pred.text else (gold, pred)
    if of_gold.member and of_pred.member:
        if of_gold.member[1] != of_pred.member[1]:
            return gold, pred
        p = renamed(p, of_pred.member[0].split(","), of_gold.member[0].split(",")) or p
    return g, p


def renamed(text: str, letters: list[str], to: list[str]) -> str | None:
    """The text with its letters called as the other side calls them: 2\\pi n for 2\\pi k; None where it has such letters
    already."""
    names = dict(zip(letters, to, strict=False))
    others = set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text))) - set(letters)
    if len(letters) != len(to) or others & set(to):
        return None
    return re.sub(r"\\[A-Za-z]+|[A-Za-z]", lambda match: names.get(match[0], match[0]), text)
