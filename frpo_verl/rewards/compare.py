r"""Compare two answers given as text.

Both are read (reading.py), without conditions that need not be said, and the rule for their types decides (rules.py). `compare` with `ask=unknown` is what a reward worker runs itself; a verification process runs the same function with algebra
behind `ask` (symbolic.py).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from frpo_verl.rewards.exact import ONE, read_number
from frpo_verl.rewards.reading import read
from frpo_verl.rewards.rules import Ask, Verdict, renamed, same, unknown
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.values import Formula, Items, Number, Text, Value

# ------------------------------------------------------------------------------------------------------------ conditions
# `x+1 for all x`, `2\pi n, n\in\mathbb{Z}`, `2k where k is an integer`: a condition of the ground truth may be left out. One of the
# answer alone must say nothing that restricts it (a universal one). Where both have one that restricts, it must be the same.

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


# ------------------------------------------------------------------------------------------------------------- comparing

_LABELLED = re.compile(r"(?:\(([A-J])\)|([A-J])[.:)]) ?(?!\(?[A-Ja-j]\)?$)(?=\S)")  # E: text of the choice
_OTHER_LABEL = re.compile(r"(?<![A-Za-z])\(?[A-J][).:]|\b(?:or|and) \(?[A-J]\b|^(?:is|are|isn't)\b")
_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+$")
_TEXT_WORD = re.compile(r"\$?\\(?:text|textbf|textit|textrm|mathrm|mbox)\{\s*[A-Za-z]{2,}\s*\}\$?")


def _choice(g: Value) -> str:
    """The letter of a ground truth that is a choice, or ""."""
    text = g.text if isinstance(g, Formula) or isinstance(g, Text) and g.kind == "choice" else ""
    return text.upper() if re.fullmatch("[A-J]", text) or isinstance(g, Text) else ""


def compare(gold: str, pred: str, ask: Ask = unknown) -> Verdict:
    """Compare two answers given as text; True / False where that is certain, None where `ask` does not know.

    Args:
        gold: the right answer.
        pred: the answer to judge.
        ask: the algebra, see rules.same.
    """
    gold_text, pred_text = normalize(gold), normalize(pred)
    if not gold_text or not pred_text:
        return False
    if gold_text == pred_text:
        return True
    letter = _choice(read(gold, True))
    label = _LABELLED.match(pred_text) if letter else None
    if label:
        return letter == (label[1] or label[2]) and not _OTHER_LABEL.search(pred_text[label.end() :])
    gold_core, pred_core = without_conditions(gold_text, pred_text)
    gold, pred = gold if gold_core == gold_text else gold_core, pred if pred_core == pred_text else pred_core
    g, p = read(gold, True), read(pred)
    if isinstance(g, Items) and not isinstance(p, Items):
        p = read(pred, grouped=False)  # beside a list, 32,349 is one, too
    if isinstance(g, Number) and g.places and isinstance(p, Items) and _DECIMAL_COMMA.match(pred.strip()):
        p = read(pred.strip().replace(",", "."))
    if isinstance(g, Number) and g.percent and re.search(r" [a-z]{3,}$", pred_text):  # a share is not counted
        return False
    if isinstance(g, Formula) and _TEXT_WORD.fullmatch(gold.strip()):  # a word that was set as text is no product
        return False
    return same(g, p, ask)


def canonical(text: str) -> str:
    """One spelling of an answer for votes and logs: rationals as "p/q" or an integer, else the normalised text."""
    s = normalize(text)
    number = read_number(s)
    if number is None or any(key != ONE for key in number.form):
        return s.replace("␣", " ")
    value = number.form.get(ONE, 0)
    if value and max(value.numerator.bit_length(), value.denominator.bit_length()) > 600:
        return s
    return str(value) + "%" * number.percent
