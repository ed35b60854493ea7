"""The table of types by which answers are compared: a pair of types that is not in it is never equal.

A verdict is True or False where it is certain and None where algebra is needed. A rule (rules.py) says for two types when their values
are equal; what it cannot decide it asks of `ask`: the algebra of a verification process (symbolic.py), or `unknown` where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from frpo_verl.rewards.values import Value, write

Verdict: TypeAlias = "bool | None"
Ask: TypeAlias = "Callable[[str, str, str], Verdict]"  # gold, answer, "value" | "decimal" | "relation" | "set"
Rule: TypeAlias = "Callable[..., Verdict]"  # (value of the ground truth, value of the answer, ask)

TABLE: dict[tuple[type, type], Rule] = {}


def rule(*pairs: tuple[type, type]) -> Callable[[Rule], Rule]:
    """Enter a rule into the table for pairs of types, in both orders."""

    def enter(function: Rule) -> Rule:
        for a, b in pairs:
            TABLE[a, b] = TABLE[b, a] = function
        return function

    return enter


def unknown(gold: str, pred: str, kind: str) -> Verdict:
    """The algebra of a process that has none: always None."""
    return None


def same(g: Value, p: Value, ask: Ask) -> Verdict:
    """Whether two values are equal: True or False where certain, None where `ask` does not know.

    Args:
        g: the value of the ground truth.
        p: the value of the answer.
        ask: (gold text, answer text, "value" | "decimal" | "relation" | "set") -> True, False or None.
    """
    known = TABLE.get((type(g), type(p)))
    return False if known is None else known(g, p, ask)


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Three-valued "and"; stops at the first False."""
    certain = True
    for verdict in verdicts:
        if verdict is False:
            return False
        certain = certain and verdict is True
    return True if certain else None


def in_order(gold: Sequence[Value], pred: Sequence[Value], ask: Ask) -> Verdict:
    """Whether the elements are equal, each to the one in its place."""
    return len(gold) == len(pred) and every(same(g, p, ask) for g, p in zip(gold, pred, strict=True))


def matched(gold: Sequence[Value], pred: Sequence[Value], ask: Ask) -> Verdict:
    """Whether each element of one side has its own equal on the other, in any order."""
    if len(gold) != len(pred):
        return False
    rest, left = list(pred), []
    for g in gold:
        verdicts = [same(g, p, unknown) for p in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            left.append(g)
        else:
            return False
    for g in left:
        for k, p in enumerate(rest):
            verdict = same(g, p, ask)
            if verdict is None:
                return None
            if verdict:
                rest.pop(k)
                break
        else:
            return False
    return True


def distinct(items: Iterable[Value]) -> list[Value]:
    """The values without those that are certainly equal to one before them."""
    out: list[Value] = []
    for item in items:
        if not any(same(item, other, unknown) for other in out):
            out.append(item)
    return out


def written(g: Value, p: Value, ask: Ask, kind: str) -> Verdict:
    """The verdict of the algebra on two values as LaTeX; False where one of them is nothing for it."""
    gold, pred = write(g), write(p)
    return ask(gold, pred, kind) if gold and pred else False
