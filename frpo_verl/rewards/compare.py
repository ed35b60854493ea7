r"""Compare two answers by a table of their types; no pair of types outside the table is ever equal.

A verdict is True or False where it is certain and None where algebra is needed. `compare` with `ask=unknown` is what a
reward worker runs itself; a verification process runs the same function with algebra behind `ask` (symbolic.py), which
sees single formulas, equations and unions only: what is a list, a tuple, a name or a unit is decided here.
"""

import re

from frpo_verl.rewards.numbers import _ONE, ROUNDED_DIGITS, approximate, read_number, same_number
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.values import (
    Assign,
    Based,
    Chain,
    Expression,
    Infinity,
    Interval,
    Items,
    Matrix,
    Named,
    Number,
    Opaque,
    Ratio,
    Relation,
    Union,
    Word,
    letters_of,
    read,
)


def unknown(gold, pred, kind):
    """The algebra of a process that has none: always None."""
    return None


def _all(verdicts):
    """Three-valued "and"; stops at the first False."""
    open_ = False
    for verdict in verdicts:
        if verdict is False:
            return False
        open_ = open_ or verdict is None
    return None if open_ else True


def _ordered(gold, pred, ask):
    return len(gold) == len(pred) and _all(same(g, p, ask) for g, p in zip(gold, pred, strict=True))


def _matched(gold, pred, ask):
    """Whether each element of one side has its own equal on the other, in any order."""
    if len(gold) != len(pred):
        return False
    rest, open_ = list(pred), []
    for g in gold:
        verdicts = [same(g, p, unknown) for p in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            open_.append(g)
        else:
            return False
    for g in open_:
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


def _distinct(items):
    out = []
    for item in items:
        if not any(same(item, other, unknown) is True for other in out):
            out.append(item)
    return tuple(out)


# ------------------------------------------------------------------------------------------------- pairs of one type


def _numbers(g, p, ask):
    return same_number(g, p)


def _based(g, p, ask):
    return g == p


def _formulas(g, p, ask):
    if g.unit and p.unit and g.unit != p.unit:
        return False
    return True if g.text == p.text else ask(g.text, p.text, "value")


def _infinities(g, p, ask):
    return g.sign == p.sign


def _items(g, p, ask):
    if "tuple" in (g.kind, p.kind):
        # a bare list may be answered by a tuple in its order; a tuple and a set only by their like
        return _ordered(g.items, p.items, ask) if g.kind == p.kind or g.kind == "list" else False
    if "set" in (g.kind, p.kind):
        return _matched(_distinct(g.items), _distinct(p.items), ask)
    once = len(_distinct(g.items)) == len(g.items)  # then saying one of them twice says nothing else
    return _matched(g.items, _distinct(p.items) if once else p.items, ask)


def _intervals(g, p, ask):
    return g.ends == p.ends and _ordered((g.low, g.high), (p.low, p.high), ask)


def _unions(g, p, ask):
    verdict = _matched(g.parts, p.parts, ask) if g.parts and p.parts else None
    return _union_other(g, p, ask) if verdict is None or not verdict else True


def _matrices(g, p, ask):
    return len(g.rows) == len(p.rows) and _all(_ordered(a, b, ask) for a, b in zip(g.rows, p.rows, strict=True))


def _ratios(g, p, ask):
    verdict = _ordered(g.items, p.items, ask)
    if verdict is False and not (g.clock and p.clock) and len(g.items) == len(p.items):
        numbers = [
            [item.form.get(_ONE) if isinstance(item, Number) else None for item in side.items] for side in (g, p)
        ]
        if all(n for side in numbers for n in side):
            return len({a / b for a, b in zip(*numbers, strict=True)}) == 1
    return verdict


def _assigns(g, p, ask):
    if g.name[0] == p.name[0] == "(":
        return _by_name(_named(g), _named(p), ask)
    if g.name == p.name or g.words or p.words:
        return same(g.value, p.value, ask)
    flipped = isinstance(p.value, Expression) and isinstance(g.value, Expression)
    return bool(flipped and g.value.text == p.name and p.value.text == g.name)


def _named(value):
    """Return {name: value} of x = 1, y = 2 or of (x, y) = (1, 2), else None."""
    if isinstance(value, Named):
        return {part.name: part.value for part in value.values}
    if isinstance(value, Assign) and value.name[0] == "(" and isinstance(value.value, Items):
        names = value.name[1:-1].split(",")
        return dict(zip(names, value.value.items, strict=True)) if len(names) == len(value.value.items) else None
    return None


def _by_name(g, p, ask):
    if not g or not p or set(g) != set(p):
        return False
    return _all(same(g[name], p[name], ask) for name in g)


def _names(g, p, ask):
    return _by_name(_named(g), _named(p), ask)


def _relations(g, p, ask):
    if g.text == p.text:
        return True
    operators, sides = p.operators, p.sides
    for _ in range(2):  # as written, and read from the right
        if operators == g.operators and len(sides) > 2:
            values = [[read(side) for side in part] for part in (g.sides, sides)]
            if _ordered(*values, unknown) is True:
                return True
        flip = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
        operators, sides = tuple(flip.get(operator, operator) for operator in operators[::-1]), sides[::-1]
    return ask(g.text, p.text, "relation") if len(g.sides) == len(p.sides) else False


def _words(g, p, ask):
    return g.text.lower() == p.text.lower() if g.choice or p.choice else g.text == p.text


def _opaque(g, p, ask):
    return g.text == p.text if g.text else False


# ----------------------------------------------------------------------------------------------- pairs of two types


def _number_formula(g, p, ask):
    """A number and a formula: a formula with a variable is no number; the rest is algebra."""
    formula, number = (g, p) if isinstance(g, Expression) else (p, g)
    if formula.letters or formula.unit and number.unit and formula.unit != number.unit:
        return False
    if formula is g and number.digits >= ROUNDED_DIGITS and not number.percent:  # perhaps the formula's value, rounded
        return ask(formula.text, f"{int(number.form[_ONE] * 10**number.places)}e-{number.places}", "decimal")
    sides = [formula.text, str_of(number)]
    return ask(*(sides if formula is g else sides[::-1]), "value")


def _letter_choice(g, p, ask):
    word, formula = (g, p) if isinstance(g, Word) else (p, g)
    return word.choice and len(formula.text) == 1 and word.text.lower() == formula.text.lower()


def _number_based(g, p, ask):
    number, based = (g, p) if isinstance(g, Number) else (p, g)
    return based.base == 10 and number.form == read_number(based.digits.lstrip("0") or "0").form


def _tuple_interval(g, p, ask):
    """`(0, 5)` is a tuple or an open interval, whichever the other side says."""
    items, interval = (g, p) if isinstance(g, Items) else (p, g)
    if items.kind != "tuple" or len(items.items) != 2 or interval.ends != "()":
        return False
    ends = (interval.low, interval.high)
    return _ordered(items.items, ends, ask) if items is g else _ordered(ends, items.items, ask)


def _union_other(g, p, ask):
    gold, pred = write(g), write(p)
    return ask(gold, pred, "set") if gold and pred else False


def _matrix_formula(g, p, ask):
    """Sums, products and multiples of matrices are worked out; a determinant is none of them."""
    formula, matrix = (g, p) if isinstance(g, Expression) else (p, g)
    if (
        "matrix" not in formula.text
        and "array" not in formula.text
        or re.search(r"vmatrix|\\det|Vmatrix", formula.text)
    ):
        return False
    sides = (formula.text, write(matrix))
    return ask(*(sides if formula is g else sides[::-1]), "value")


def _ratio_value(g, p, ask):
    ratio, value = (g, p) if isinstance(g, Ratio) else (p, g)
    if len(ratio.items) != 2:
        return False
    quotient = read("\\frac" + "".join(f"{{{write(item) or '?'}}}" for item in ratio.items))
    return same(quotient, value, ask) if ratio is g else same(value, quotient, ask)


def _assign_value(g, p, ask):
    """`x = 5` and `5`: the name may be left out of either side."""
    if isinstance(g, Assign):
        return same(g.value, p, ask)
    if p.name[0] == "(" and list(_named(p) or ()) != sorted(_named(p) or ()):
        return False
    return same(g, p.value, ask)


def _named_list(g, p, ask):
    """`x = 1, y = 2` and `1, 2`: the values in the order of the names; a tuple says no names."""
    values = [tuple(part.value for part in v.values) if isinstance(v, Named) else v.items for v in (g, p)]
    kinds = [v.kind for v in (g, p) if isinstance(v, Items)]
    return kinds == ["list"] and _ordered(*values, ask)


def _assign_relation(g, p, ask):
    """A ground truth that is solved takes a solved answer; one that is not may be answered by a solved one."""
    if isinstance(g, Assign):
        return False
    if isinstance(p.value, (Interval, Union)):
        return ask(g.text, p.name + " \\in " + (write(p.value) or "?"), "relation")
    value = write(p.value)
    return ask(g.text, f"{p.name}={value}", "relation") if value and not p.words else False


def _relation_set(g, p, ask):
    return ask(g.text, write(p) or "?", "set") if isinstance(g, Relation) else False


def _chain(g, p, ask):
    """Several sides: every one of them has to be the other answer; a ground truth counts by its last exact side."""
    if isinstance(g, Chain):
        return same(g.sides[-1], p, ask)
    first, about = p.sides[0], p.about[-1:]
    if about and isinstance(g, Number) and g.decimal and isinstance(first, Number) and not first.decimal:
        return len(p.sides) == 1 and _agrees(first, about[0]) and same(g, about[0], unknown) is True
    verdict = _all(same(g, side, ask) for side in p.sides)
    if (
        verdict is not False
        and isinstance(p.sides[0], Number)
        and not all(_agrees(p.sides[0], side) for side in p.about)
    ):
        return False
    return verdict


def _agrees(exact, decimal):
    """Whether a decimal is an exact number rounded to its last place."""
    if not (isinstance(exact, Number) and isinstance(decimal, Number)):
        return False
    values = approximate(exact.form), approximate(decimal.form)
    return None not in values and 2 * abs(values[0] - values[1]) * 10**decimal.places <= 1


def _list_single(g, p, ask):
    return False


_SINGLE = (Number, Based, Expression, Infinity, Word, Matrix, Ratio, Interval, Union, Items)
TABLE = {
    (Number, Number): _numbers,
    (Based, Based): _based,
    (Expression, Expression): _formulas,
    (Infinity, Infinity): _infinities,
    (Items, Items): _items,
    (Interval, Interval): _intervals,
    (Union, Union): _unions,
    (Matrix, Matrix): _matrices,
    (Ratio, Ratio): _ratios,
    (Assign, Assign): _assigns,
    (Named, Named): _names,
    (Relation, Relation): _relations,
    (Word, Word): _words,
    (Opaque, Opaque): _opaque,
}
for _a, _b, _rule in (
    (Number, Expression, _number_formula),
    (Number, Based, _number_based),
    (Word, Expression, _letter_choice),
    (Items, Interval, _tuple_interval),
    (Items, Union, _union_other),
    (Interval, Union, _union_other),
    (Matrix, Expression, _matrix_formula),
    (Number, Ratio, _ratio_value),
    (Expression, Ratio, _ratio_value),
    (Named, Items, _named_list),
    (Named, Assign, _names),
    (Assign, Relation, _assign_relation),
    (Relation, Interval, _relation_set),
    (Relation, Union, _relation_set),
    *((Assign, kind, _assign_value) for kind in _SINGLE),
):
    TABLE[_a, _b] = TABLE[_b, _a] = _rule


def same(g, p, ask):
    """Whether two values are equal: True or False where certain, None where `ask` does not know.

    Args:
      g: the value of the ground truth.
      p: the value of the answer.
      ask: (gold text, answer text, "value" | "decimal" | "relation" | "set") -> True, False or None.
    """
    if isinstance(g, Chain) or isinstance(p, Chain):
        return _chain(g, p, ask)
    rule = TABLE.get((type(g), type(p)))
    return False if rule is None else rule(g, p, ask)


def str_of(number):
    """A Number as LaTeX that the algebra reads."""
    if number.percent:
        return f"\\frac{{{_sum(number.form)}}}{{100}}"
    return _sum(number.form)


def _sum(form):
    if not form:
        return "0"
    parts = []
    for (n, k, m), c in form.items():
        text = f"\\frac{{{c.numerator}}}{{{c.denominator}}}" if c.denominator != 1 else str(c.numerator)
        text += f"\\cdot\\sqrt{{{n}}}" * (n != 1) + f"\\cdot\\pi^{{{k}}}" * (k != 0) + "\\cdot i" * m
        parts.append(text)
    return "+".join(parts).replace("+-", "-")


def write(value):
    """A value as LaTeX for the algebra, or None for a type that algebra has nothing to say about."""
    if isinstance(value, Number):
        return str_of(value)
    if isinstance(value, (Expression, Relation)) or isinstance(value, Union) and not value.parts:
        return value.text
    if isinstance(value, Union):
        parts = [write(part) for part in value.parts]
        return None if None in parts else "\\cup ".join(parts)
    if isinstance(value, Infinity):
        return "-\\infty" if value.sign < 0 else "\\infty"
    if isinstance(value, Interval):
        parts = write(value.low), write(value.high)
        return None if None in parts else value.ends[0] + ",".join(parts) + value.ends[1]
    if isinstance(value, Items):
        parts = [write(item) for item in value.items]
        inner = None if None in parts else ",".join(parts)
        return inner and (f"({inner})" if value.kind == "tuple" else f"\\{{{inner}\\}}")
    if isinstance(value, Matrix):
        rows = [[write(cell) for cell in row] for row in value.rows]
        if any(cell is None for row in rows for cell in row):
            return None
        return "\\begin{pmatrix}" + "\\\\".join("&".join(row) for row in rows) + "\\end{pmatrix}"
    return None


_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+$")


def compare(gold, pred, ask=unknown):
    """Compare two answers given as text; True / False where that is certain, None where `ask` does not know.

    Args:
      gold: the right answer.
      pred: the answer to judge.
      ask: see `same`.
    """
    if not pred.strip() or not gold.strip():
        return False
    g, p = read(gold, True), read(pred)
    if isinstance(g, Items) and not isinstance(p, (Items, Named)):
        p = read(pred, grouped=False)  # beside a list, 32,349 is one, too
    if isinstance(g, Number) and g.places and isinstance(p, Items) and _DECIMAL_COMMA.match(pred.strip()):
        p = read(pred.strip().replace(",", "."))
    if normalize(gold) == normalize(pred) and not isinstance(p, Chain):
        return True
    return same(g, p, ask)


def canonical(text):
    """Return one spelling of an answer for votes and logs: rationals as "p/q" or an integer, else the normalised text."""
    s = normalize(text)
    number = read_number(s)
    if number is None or any(key != _ONE for key in number.form):
        return s
    value = number.form.get(_ONE, 0)
    if value and max(value.numerator.bit_length(), value.denominator.bit_length()) > 600:
        return s
    return str(value) + ("%" if number.percent else "")


__all__ = ["TABLE", "canonical", "compare", "letters_of", "same", "unknown", "write"]
