r"""Compare two answers given as text.

Both are read (reading.py), without conditions that need not be said (conditions.py), and the rule for their types decides (table.py,
rules.py). `compare` with `ask=unknown` is what a reward worker runs itself; a verification process runs the same function with algebra
behind `ask` (symbolic.py).
"""

from __future__ import annotations

import re

from frpo_verl.rewards.conditions import without_conditions
from frpo_verl.rewards.exact import ONE, read_number
from frpo_verl.rewards.reading import read
from frpo_verl.rewards.rules import same  # with the table that they fill
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.table import Ask, Verdict, unknown
from frpo_verl.rewards.values import Formula, Items, Number, Text, Value

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
        ask: the algebra, see table.same.
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
    if (
        isinstance(g, Number) and g.percent and re.search(r" [a-z]{3,}$", pred_text)
    ):  # a share is nothing that is counted
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
