r"""Compare two answers by a table of their types; no pair of types outside the table is ever equal.

A verdict is True or False where it is certain and None where algebra is needed. `compare` with `ask=unknown` is what a
reward worker runs itself; a verification process runs the same function with algebra behind `ask` (symbolic.py), which
sees single formulas, relations and sets only: what is a list, a tuple, a name or a unit is decided here.
"""

import re

from frpo_verl.rewards.conditions import without_conditions
from frpo_verl.rewards.numbers import _ONE, FLOAT_DIGITS, ROUNDED_DIGITS, approximate, read_number, same_number
from frpo_verl.rewards.reading import letters_of, read
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.values import INFINITY, Assign, Chain, Formula, Items, Number, Text, write

_DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+$")
_FUNCTION = re.compile(r"(.+)\(([a-z](?:,[a-z])*)\)$")
# VI, HTH, A1: letters whose order counts, and a word of letters that was set as text
_CODE = re.compile(r"[A-Z]{2,}|[A-Z]+\d[A-Z\d]*")
_LETTERED = re.compile(r"[A-Z\d]*[A-Z]\d[A-Z\d]*")
_TEXT_WORD = re.compile(r"\$?\\(?:text|textbf|textit|textrm|mathrm|mbox)\{\s*[A-Za-z]{2,}\s*\}\$?")
_OPEN = {"()", "open"}
_LABELLED = re.compile(r"(?:\(([A-J])\)|([A-J])[.:)]) ?(?!\(?[A-Ja-j]\)?$)(?=\S)")  # E: text of the choice
_OTHER_LABEL = re.compile(r"(?<![A-Za-z])\(?[A-J][).:]|\b(?:or|and) \(?[A-J]\b|^(?:is|are|isn't)\b")
_TRANSCENDENTAL = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|sinh|cosh|tanh|log|ln|exp)(?![A-Za-z])|e\^")
TABLE = {}


def _rule(*pairs):
    """Enter a function (gold, pred, ask) -> verdict into the table for pairs of types, in both orders."""

    def enter(function):
        for a, b in pairs:
            TABLE[a, b] = TABLE[b, a] = function
        return function

    return enter


def unknown(gold, pred, kind):
    """The algebra of a process that has none: always None."""
    return None


def same(g, p, ask):
    """Whether two values are equal: True or False where certain, None where `ask` does not know.

    Args:
      g: the value of the ground truth.
      p: the value of the answer.
      ask: (gold text, answer text, "value" | "decimal" | "relation" | "set") -> True, False or None.
    """
    rule = TABLE.get((type(g), type(p)))
    return False if rule is None else rule(g, p, ask)


def _all(verdicts):
    """Three-valued "and"; stops at the first False."""
    certain = True
    for verdict in verdicts:
        if verdict is False:
            return False
        certain = certain and verdict is True
    return True if certain else None


def _ordered(gold, pred, ask):
    return len(gold) == len(pred) and _all(same(g, p, ask) for g, p in zip(gold, pred, strict=True))


def _matched(gold, pred, ask):
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


def _distinct(items):
    out = []
    for item in items:
        if not any(same(item, other, unknown) for other in out):
            out.append(item)
    return out


def _written(g, p, ask, kind):
    gold, pred = write(g), write(p)
    return ask(gold, pred, kind) if gold and pred else False


@_rule((Number, Number))
def _numbers(g, p, ask):
    return same_number(g, p)


@_rule((Text, Text))
def _texts(g, p, ask):
    if "choice" in (g.kind, p.kind):
        return g.text.lower() == p.text.lower()
    return bool(g.text) and g == p


@_rule((Formula, Formula))
def _formulas(g, p, ask):
    if g.kind != p.kind or g.unit and p.unit and g.unit != p.unit:
        return False
    if g.text == p.text:
        return True
    if _CODE.fullmatch(g.text) or _LETTERED.fullmatch(p.text) and g.text.isalnum():  # XI is not IX, A1 not 1A
        return p.text.replace("*", "") == g.text
    # 0 q is 0: an equation in another variable is another equation
    other = g.kind == "relation" and letters_of(p.text) - letters_of(g.text)
    return False if other or INFINITY.text in (g.text[-6:], p.text[-6:]) else ask(g.text, p.text, g.kind)


@_rule((Number, Formula))
def _number_formula(g, p, ask):
    """A formula with a variable is no number unless an identity makes it one; a decimal may be a formula's value, rounded;
    the rest is algebra."""
    formula, number = (g, p) if isinstance(g, Formula) else (p, g)
    other_unit = formula.unit and number.unit and formula.unit != number.unit
    if formula.kind != "value" or formula.text.endswith(INFINITY.text) or other_unit:
        return False
    if formula.letters and not _TRANSCENDENTAL.search(formula.text):
        return False
    if number.digits >= (ROUNDED_DIGITS if formula is g else FLOAT_DIGITS) and not number.percent:
        decimal = f"{int(number.form[_ONE] * 10**number.places)}e-{number.places}"
        return ask(formula.text, decimal, "decimal") if formula is g else ask(decimal, formula.text, "decimal")
    return _written(g, p, ask, "value")


@_rule((Text, Formula))
def _letter_choice(g, p, ask):
    word, formula = (g, p) if isinstance(g, Text) else (p, g)
    return word.kind == "choice" and len(formula.text) == 1 and word.text.lower() == formula.text.lower()


def _units(items):
    return {getattr(item, "unit", "") for item in items.items}


@_rule((Items, Items))
def _items(g, p, ask):
    kinds = {g.kind, p.kind}
    if kinds == {"named"}:
        return _by_name(g, p, ask)
    if kinds <= {"list", "set"}:
        if len(_units(g)) > 1 and "" in _units(p):  # 5 m, 6 kg: without its unit a value is known by its place alone
            return _ordered(g.items, p.items, ask)
        g_once, p_once = _distinct(g.items), _distinct(p.items)
        if "set" in kinds or len(g_once) == len(g.items):  # then saying one of them twice says nothing else
            return _matched(g_once, p_once, ask)
        return _matched(g.items, p.items, ask)
    if kinds <= {"parts", "list"}:
        units = [[getattr(v, "unit", "") for v in side.items] for side in (g, p)]
        return units[0] == units[1] and _ordered(g.items, p.items, ask)
    if "union" in kinds:
        together = len(kinds) == 1 and _matched(g.items, p.items, ask)
        return True if together else _written(g, p, ask, "set")
    if kinds <= {"ratio", "time"} and g.kind == "ratio":
        return _proportional(g.items, p.items)
    if kinds == {"matrix", "()"}:  # a column or a row as a tuple
        g, p = (_vector(v) or v for v in (g, p))
    if "named" in kinds and "list" in kinds:  # the values alone, in the order of the names
        g, p = (Items("list", tuple(part.value for part in v.items)) if v.kind == "named" else v for v in (g, p))
    elif not (g.kind == p.kind or kinds == _OPEN or (g.kind, p.kind) == ("list", "()")):
        return False  # a bare list may be answered by a tuple in its order, a tuple and a set by their like only
    return _ordered(g.items, p.items, ask)


def _proportional(gold, pred):
    """Whether two ratios of numbers are the same."""
    pairs = list(zip(gold, pred, strict=False))
    if len(gold) != len(pred) or not all(isinstance(v, Number) and v.form for pair in pairs for v in pair):
        return False
    values = [[approximate(v.form) for v in pair] for pair in pairs]
    if any(v is None for pair in values for v in pair):
        return False
    return all(a * values[0][1] == b * values[0][0] for a, b in values)


def _vector(value):
    """A matrix of one row or one column as a tuple, else None."""
    rows = [row.items for row in value.items] if value.kind == "matrix" else []
    if len(rows) > 1 and all(len(row) == 1 for row in rows):
        return Items("()", tuple(row[0] for row in rows))
    return Items("()", rows[0]) if len(rows) == 1 else None


@_rule((Items, Formula), (Items, Number))
def _items_other(g, p, ask):
    """Sums and products of matrices (no determinant), sets with other operations, 7:32 as a fraction, and one value that
    is said in several ways."""
    items, other = (g, p) if isinstance(g, Items) else (p, g)
    if items is p and items.kind == "list" and getattr(g, "kind", "value") == "value":
        return len(_units(items) - {""}) < 2 and _all(same(g, item, ask) for item in items.items)
    if items.kind in ("ratio", "time") and len(items.items) == 2:
        quotient = read("\\frac" + "".join(f"{{{write(item) or '?'}}}" for item in items.items))
        return same(quotient, other, ask) if items is g else same(other, quotient, ask)
    if isinstance(other, Number):
        return False
    matrix = re.search(r"matrix|array", other.text) and not re.search(r"[vV]matrix|\\det", other.text)
    if items.kind == "matrix" and matrix:
        return _written(g, p, ask, "value")
    sets = items.kind in ("union", "set", "[]", "[)", "(]", *_OPEN)
    return (
        _written(g, p, ask, "set")
        if sets and (other.kind == "set" or other.kind == "relation" and other is g)
        else False
    )


def _named(value):
    """Return {name: value} of x = 1, y = 2 or of (x, y) = (1, 2), else None."""
    if isinstance(value, Items) and value.kind == "named":
        return {part.name: part.value for part in value.items}
    if isinstance(value, Assign) and value.name[0] == "(" and isinstance(value.value, Items):
        names = value.name[1:-1].split(",")
        return dict(zip(names, value.value.items, strict=True)) if len(names) == len(value.value.items) else None
    return None


def _by_name(g, p, ask):
    gold, pred = _named(g), _named(p)
    return bool(gold and pred) and set(gold) == set(pred) and _all(same(gold[name], pred[name], ask) for name in gold)


def _renamed(g, p):
    """The value of f(t) = t^2 written in the arguments of f(x) = x^2; None where the functions differ."""
    names = [_FUNCTION.match(v.name) for v in (g, p)]
    if not all(names) or names[0][1] != names[1][1] or len(names[0][2]) != len(names[1][2]):
        return None
    to = dict(zip(names[1][2].split(","), names[0][2].split(","), strict=True))
    text = write(p.value)
    if text is None or letters_of(text) & (set(to.values()) - set(to)):
        return None
    return read(re.sub(r"\\[A-Za-z]+|[A-Za-z]", lambda m: to.get(m[0], m[0]), text))


def _curve(g, p, ask):
    """`y = 2x+3` and `2x-y+3 = 0`: an equation of the same two variables; of one variable, solved means solved."""
    letters = (letters_of(g.name) | g.value.letters) if isinstance(g.value, Formula) and len(g.name) == 1 else ()
    curve = (
        len(letters) == 2
        and letters_of(p.text) == letters
        and "=" in p.text
        and not re.search(r"[<>]|\\[lgn]e", p.text)
    )
    return ask(f"{g.name}={g.value.text}", p.text, "relation") if curve else False


@_rule((Assign, Assign), *((Assign, kind) for kind in (Number, Formula, Items, Text)))
def _assigns(g, p, ask):
    """`x = 5` and `5`: the name may be left out of either side, but not be another one. What is not solved does not answer
    what is; the other way round it does."""
    if isinstance(g, Assign) and isinstance(p, Formula) and p.kind == "relation":
        return _curve(g, p, ask)
    if isinstance(g, Formula) and g.kind == "relation":
        value, interval = write(p.value), isinstance(p.value, Items)
        return (
            ask(g.text, p.name + (" \\in " if interval else "=") + value, "relation")
            if value and not p.words
            else False
        )
    names = [v.name for v in (g, p) if isinstance(v, Assign)]
    if (
        any(isinstance(v, Items) and v.kind == "named" for v in (g, p))
        or len(names) == 2
        and names[0][0] == names[1][0] == "("
    ):
        return _by_name(g, p, ask)
    if not isinstance(g, Assign):
        names = list(_named(p) or ())
        return same(g, p.value, ask) if names == sorted(names) else False
    if not isinstance(p, Assign):
        return same(g.value, p, ask)
    if g.name == p.name or g.words or p.words:
        return same(g.value, p.value, ask)
    renamed = _renamed(g, p)
    if renamed is not None:
        return same(g.value, renamed, ask)
    return (write(g.value), write(p.value)) == (p.name, g.name)  # x = y and y = x


@_rule(*((Chain, kind) for kind in (Number, Formula, Items, Assign, Chain, Text)))
def _chains(g, p, ask):
    """Every side has to be the other answer; a ground truth counts by its last exact side."""
    if isinstance(g, Chain):
        return same(g.sides[-1], p, ask)
    first, about = p.sides[0], p.about[-1:]
    exact = isinstance(first, Number) and not first.decimal
    if about and exact and isinstance(g, Number) and g.decimal:  # 70/9 \approx 7.78
        return len(p.sides) == 1 and _agrees(first, about[0]) and same_number(g, about[0])
    if isinstance(first, Number) and not all(_agrees(first, side) for side in p.about):
        return False
    return _all(same(g, side, ask) for side in p.sides)


def _agrees(exact, decimal):
    """Whether a decimal is an exact number rounded to its last place."""
    values = [approximate(v.form) if isinstance(v, Number) else None for v in (exact, decimal)]
    return None not in values and 2 * abs(values[0] - values[1]) * 10**decimal.places <= 1


def compare(gold, pred, ask=unknown):
    """Compare two answers given as text; True / False where that is certain, None where `ask` does not know.

    Args:
      gold: the right answer.
      pred: the answer to judge.
      ask: see `same`.
    """
    if not pred.strip() or not gold.strip():
        return False
    gold_text, pred_text = normalize(gold), normalize(pred)
    if gold_text == pred_text:
        return True
    letter = _choice(gold_text)
    label = _LABELLED.match(pred_text) if letter else None
    if label:
        return letter == (label[1] or label[2]) and not _OTHER_LABEL.search(pred_text[label.end() :])
    gold_core, pred_core = without_conditions(gold_text, pred_text)
    g = read(gold if gold_core == gold_text else gold_core, True)
    pred = pred if pred_core == pred_text else pred_core
    p = read(pred)
    if isinstance(g, Items) and not isinstance(p, Items):
        p = read(pred, grouped=False)  # beside a list, 32,349 is one, too
    if isinstance(g, Number) and g.places and isinstance(p, Items) and _DECIMAL_COMMA.match(pred.strip()):
        p = read(pred.strip().replace(",", "."))
    if (
        isinstance(g, Number) and g.percent and re.search(r" [a-z]{3,}$", pred_text)
    ):  # a share is nothing that is counted
        return False
    if isinstance(g, Formula) and _TEXT_WORD.fullmatch(gold.strip()):
        return False
    return same(g, p, ask)


def _choice(gold):
    """The letter of a ground truth that is a choice, or ""."""
    value = read(gold, True)
    text = value.text if isinstance(value, Formula) or isinstance(value, Text) and value.kind == "choice" else ""
    return text.upper() if re.fullmatch("[A-J]", text) or isinstance(value, Text) else ""


def canonical(text):
    """Return one spelling of an answer for votes and logs: rationals as "p/q" or an integer, else the normalised text."""
    s = normalize(text)
    number = read_number(s)
    if number is None or any(key != _ONE for key in number.form):
        return s.replace("␣", " ")
    value = number.form.get(_ONE, 0)
    if value and max(value.numerator.bit_length(), value.denominator.bit_length()) > 600:
        return s
    return str(value) + "%" * number.percent
