r"""When two values are equal, by a table of types, in either order: a pair of types that is not in it is never equal.

A verdict is True or False where it is certain and None where algebra is needed. A rule says for two types when their values are equal;
what it cannot decide it asks of `ask`: the algebra of a verification process (symbolic.py), or `unknown` where there is none.
What is a list, a tuple, a name or a unit is decided here; algebra sees single formulas, relations and sets only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from frpo_verl.rewards.exact import FLOAT_DIGITS, ONE, ROUNDED_DIGITS, approximate, same_number
from frpo_verl.rewards.reading import letters_of, read
from frpo_verl.rewards.values import INFINITY, Assign, Chain, Formula, Items, Number, Text, Value, write

Verdict: TypeAlias = "bool | None"
Ask: TypeAlias = "Callable[[str, str, str], Verdict]"  # gold, answer, "value" | "decimal" | "relation" | "set"
Rule: TypeAlias = "Callable[..., Verdict]"  # (value of the ground truth, value of the answer, ask)


def same(g: Value, p: Value, ask: Ask) -> Verdict:
    """Whether two values are equal: True or False where certain, None where `ask` does not know.

    Args:
        g: the value of the ground truth.
        p: the value of the answer.
        ask: (gold text, answer text, "value" | "decimal" | "relation" | "set") -> True, False or None.
    """
    rule = TABLE.get((type(g), type(p)))
    return rule is not None and rule(g, p, ask)


def unknown(gold: str, pred: str, kind: str) -> Verdict:
    """The algebra of a process that has none: always None."""
    return None


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


# ------------------------------------------------------------------------------------------- numbers, formulas, words


def _texts(g: Text, p: Text, ask: Ask) -> Verdict:
    if "choice" in (g.kind, p.kind):
        return g.text.lower() == p.text.lower()
    return bool(g.text) and g == p


# VI, HTH, A1: letters whose order counts
_CODE = re.compile(r"[A-Z]{2,}|[A-Z]+\d[A-Z\d]*")
_LETTERED = re.compile(r"[A-Z\d]*[A-Z]\d[A-Z\d]*")


def _formulas(g: Formula, p: Formula, ask: Ask) -> Verdict:
    if g.kind != p.kind or g.unit and p.unit and g.unit != p.unit:
        return False
    if g.text == p.text:
        return True
    if _CODE.fullmatch(g.text) or _LETTERED.fullmatch(p.text) and g.text.isalnum():  # XI is not IX, A1 not 1A
        return p.text.replace("*", "") == g.text
    # 0 q is 0: an equation in another variable is another equation
    other = g.kind == "relation" and letters_of(p.text) - letters_of(g.text)
    return False if other or INFINITY.text in (g.text[-6:], p.text[-6:]) else ask(g.text, p.text, g.kind)


_TRANSCENDENTAL = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|log|ln|exp)(?![A-Za-z])|e\^")


def _number_formula(g: Number | Formula, p: Number | Formula, ask: Ask) -> Verdict:
    """A formula with a variable is no number, unless two functions in an answer may cancel it; a decimal may be a formula's
    value, rounded; the rest is algebra."""
    formula, number = (g, p) if isinstance(g, Formula) else (p, g)
    assert isinstance(formula, Formula) and isinstance(number, Number)
    other_unit = formula.unit and number.unit and formula.unit != number.unit
    if formula.kind != "value" or formula.text.endswith(INFINITY.text) or other_unit:
        return False
    if formula.letters and (formula is g or len(_TRANSCENDENTAL.findall(formula.text)) < 2):
        return False
    if number.digits >= (ROUNDED_DIGITS if formula is g else FLOAT_DIGITS) and not number.percent:
        decimal = f"{int(number.form[ONE] * 10**number.places)}e-{number.places}"
        return ask(formula.text, decimal, "decimal") if formula is g else ask(decimal, formula.text, "decimal")
    return written(g, p, ask, "value")


def _letter_choice(g: Text | Formula, p: Text | Formula, ask: Ask) -> Verdict:
    word, formula = (g, p) if isinstance(g, Text) else (p, g)
    return word.kind == "choice" and len(formula.text) == 1 and word.text.lower() == formula.text.lower()


# ----------------------------------------------------------------------------------------------------------------- items

_OPEN = {"()", "open"}


def _units(items: Items) -> list[str]:
    return [getattr(item, "unit", "") for item in items.items]


def _items(g: Items, p: Items, ask: Ask) -> Verdict:
    kinds = {g.kind, p.kind}
    if kinds == {"named"}:
        return _by_name(g, p, ask)
    if kinds <= {"list", "set"}:
        if len(set(_units(g))) > 1 and "" in _units(p):  # 5 m, 6 kg: without its unit a value is known by its place
            return in_order(g.items, p.items, ask)
        g_once, p_once = distinct(g.items), distinct(p.items)
        if "set" in kinds or len(g_once) == len(g.items):  # then saying one of them twice says nothing else
            return matched(g_once, p_once, ask)
        return matched(g.items, p.items, ask)
    if kinds <= {"parts", "list"}:
        return _units(g) == _units(p) and in_order(g.items, p.items, ask)
    if "union" in kinds:
        together = len(kinds) == 1 and matched(g.items, p.items, ask)
        return True if together else written(g, p, ask, "set")
    if kinds <= {"ratio", "time"} and g.kind == "ratio":
        return _proportional(g.items, p.items)
    if kinds == {"matrix", "()"}:  # a column or a row as a tuple
        g, p = _vector(g), _vector(p)
    if "named" in kinds and "list" in kinds:  # the values alone, in the order of the names
        g, p = _unnamed(g), _unnamed(p)
    # a bare list may be answered by a tuple in its order, a tuple and a set by their like only
    comparable = g.kind == p.kind or kinds == _OPEN or (g.kind, p.kind) == ("list", "()")
    return comparable and in_order(g.items, p.items, ask)


def _proportional(gold: Sequence[Value], pred: Sequence[Value]) -> bool:
    """Whether two ratios of numbers are the same."""
    values = [approximate(v.form) if isinstance(v, Number) else None for v in (*gold, *pred)]
    known = [value for value in values if value]  # not 0
    if len(gold) != len(pred) or len(known) < len(values):
        return False
    a, b = known[: len(gold)], known[len(gold) :]
    return all(x * b[0] == y * a[0] for x, y in zip(a, b, strict=True))


def _vector(items: Items) -> Items:
    """A matrix of one row or one column as a tuple, anything else as it is."""
    rows = [row.items for row in items.items if isinstance(row, Items) and items.kind == "matrix"]
    if len(rows) == 1:
        return Items("()", rows[0])
    return Items("()", tuple(row[0] for row in rows)) if rows and all(len(row) == 1 for row in rows) else items


def _unnamed(items: Items) -> Items:
    """The values of x = 1, y = 2 as a list."""
    values = tuple(part.value if isinstance(part, Assign) else part for part in items.items)
    return Items("list", values) if items.kind == "named" else items


def _items_other(g: Value, p: Value, ask: Ask) -> Verdict:
    """Sums and products of matrices (no determinant), sets with other operations, 7:32 as a fraction, and one value that
    is said in several ways."""
    items, other = (g, p) if isinstance(g, Items) else (p, g)
    assert isinstance(items, Items) and isinstance(other, (Number, Formula))
    if items is p and items.kind == "list" and getattr(g, "kind", "value") == "value":
        return len(set(_units(items)) - {""}) < 2 and every(same(g, item, ask) for item in items.items)
    if items.kind in ("ratio", "time") and len(items.items) == 2:
        quotient = read("\\frac" + "".join(f"{{{write(item) or '?'}}}" for item in items.items))
        return same(quotient, other, ask) if items is g else same(other, quotient, ask)
    if isinstance(other, Number):
        return False
    if items.kind == "matrix" and re.search(r"matrix|array", other.text):
        return False if re.search(r"[vV]matrix|\\det", other.text) else written(g, p, ask, "value")
    sets = items.kind in ("union", "set", "[]", "[)", "(]", *_OPEN)
    comparable = sets and (other.kind == "set" or other.kind == "relation" and other is g)
    return written(g, p, ask, "set") if comparable else False


# ----------------------------------------------------------------------------------------------------------------- names

_FUNCTION = re.compile(r"(.+)\(([a-z](?:,[a-z])*)\)$")


def _named(value: Value) -> dict[str, Value]:
    """{name: value} of x = 1, y = 2 or of (x, y) = (1, 2), {} for anything else."""
    if isinstance(value, Items) and value.kind == "named":
        return {part.name: part.value for part in value.items if isinstance(part, Assign)}
    if isinstance(value, Assign) and value.name[0] == "(" and isinstance(value.value, Items):
        names = value.name[1:-1].split(",")
        return dict(zip(names, value.value.items, strict=True)) if len(names) == len(value.value.items) else {}
    return {}


def _by_name(g: Value, p: Value, ask: Ask) -> Verdict:
    gold, pred = _named(g), _named(p)
    return bool(gold and pred) and set(gold) == set(pred) and every(same(gold[name], pred[name], ask) for name in gold)


def renamed(text: str, letters: list[str], to: list[str]) -> str | None:
    """The text with its letters called as the other side calls them: 2\\pi n for 2\\pi k; None where it has such letters
    already."""
    names = dict(zip(letters, to, strict=False))
    others = set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", text))) - set(letters)
    if len(letters) != len(to) or others & set(to):
        return None
    return re.sub(r"\\[A-Za-z]+|[A-Za-z]", lambda match: names.get(match[0], match[0]), text)


def _same_function(g: Assign, p: Assign) -> Value | None:
    """The value of f(t) = t^2 written in the arguments of f(x) = x^2; None where the functions differ."""
    of_gold, of_pred, text = _FUNCTION.match(g.name), _FUNCTION.match(p.name), write(p.value)
    if not of_gold or not of_pred or of_gold[1] != of_pred[1] or text is None:
        return None
    text = renamed(text, of_pred[2].split(","), of_gold[2].split(","))
    return None if text is None else read(text)


def _curve(g: Assign, p: Formula, ask: Ask) -> Verdict:
    """`y = 2x+3` and `2x-y+3 = 0`: an equation of the same two variables; of one variable, solved means solved."""
    if not isinstance(g.value, Formula) or len(g.name) > 1 or re.search(r"[<>]|\\[lgn]e", p.text):
        return False
    letters = letters_of(g.name) | g.value.letters
    same_letters = len(letters) == 2 and letters_of(p.text) == letters
    return ask(f"{g.name}={g.value.text}", p.text, "relation") if same_letters else False


def _assigns(g: Value, p: Value, ask: Ask) -> Verdict:
    """`x = 5` and `5`: the name may be left out of either side, but not be another one. What is not solved does not answer
    what is; the other way round it does."""
    if isinstance(g, Assign) and isinstance(p, Formula) and p.kind == "relation":
        return _curve(g, p, ask)
    if isinstance(g, Formula) and isinstance(p, Assign) and g.kind == "relation":
        value, member = write(p.value), " \\in " if isinstance(p.value, Items) else "="
        return ask(g.text, p.name + member + value, "relation") if value and not p.words else False
    tuples = [isinstance(v, Assign) and v.name[0] == "(" for v in (g, p)]
    if all(tuples) or any(isinstance(v, Items) and v.kind == "named" for v in (g, p)):
        return _by_name(g, p, ask)
    if isinstance(g, Assign) and isinstance(p, Assign):
        if g.name == p.name or g.words or p.words:
            return same(g.value, p.value, ask)
        value_of_p = _same_function(g, p)
        if value_of_p is not None:
            return same(g.value, value_of_p, ask)
        return (write(g.value), write(p.value)) == (p.name, g.name)  # x = y and y = x
    if isinstance(g, Assign):
        return same(g.value, p, ask)
    assert isinstance(p, Assign)
    names = list(_named(p))
    return same(g, p.value, ask) if names == sorted(names) else False


# ---------------------------------------------------------------------------------------------------------------- chains


def _chains(g: Value, p: Value, ask: Ask) -> Verdict:
    """Every side has to be the other answer; a ground truth counts by its last exact side."""
    if isinstance(g, Chain):
        return same(g.sides[-1], p, ask)
    assert isinstance(p, Chain)
    first, about = p.sides[0], p.about[-1:]
    if isinstance(first, Number) and about and isinstance(g, Number) and g.decimal and not first.decimal:
        said = about[0]  # 70/9 \approx 7.78
        return len(p.sides) == 1 and isinstance(said, Number) and _agrees(first, said) and same_number(g, said)
    if isinstance(first, Number) and not all(_agrees(first, side) for side in p.about):
        return False
    return every(same(g, side, ask) for side in p.sides)


def _agrees(exact: Number, decimal: Value) -> bool:
    """Whether a decimal is an exact number rounded to its last place."""
    if not isinstance(decimal, Number):
        return False
    a, b = approximate(exact.form), approximate(decimal.form)
    return a is not None and b is not None and 2 * abs(a - b) * 10**decimal.places <= 1


# ----------------------------------------------------------------------------------------------------------------- table

TABLE: dict[tuple[type, type], Rule] = {
    (Number, Number): lambda g, p, ask: same_number(g, p),
    (Text, Text): _texts,
    (Formula, Formula): _formulas,
    (Number, Formula): _number_formula,
    (Text, Formula): _letter_choice,
    (Items, Items): _items,
    **{(Items, kind): _items_other for kind in (Number, Formula)},
    **{(Assign, kind): _assigns for kind in (Number, Formula, Items, Text, Assign)},
    **{(Chain, kind): _chains for kind in (Number, Formula, Items, Text, Assign, Chain)},
}
TABLE |= {(b, a): rule for (a, b), rule in TABLE.items()}
