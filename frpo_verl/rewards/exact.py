r"""Cheap exact comparison of two answers, without sympy: strings, rationals, lists, tuples, sets, matrices, words.

`compare(gold, pred)` says True or False only where it is certain, and None where algebra is needed (radicals,
variables, intervals of expressions, equations ...).
"""

import re
from functools import lru_cache

from frpo_verl.rewards.rationals import is_unit_word, read_number, same_number
from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.surds import read_surd, same_surd

_MATRIX = re.compile(r"^\(?\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}\)?$", re.DOTALL)


def _split(s, separator=","):
    """Split at top level; None when the brackets do not match or there are too many parts."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(s):
        c = s[i]
        if c == "\\":
            depth += {"{": 1, "}": -1}.get(s[i + 1 : i + 2], 0)
            i += 2
            continue
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0 and c == separator:
            parts.append(s[start:i].strip())
            start = i + 1
        i += 1
    parts.append(s[start:].strip())
    return parts if depth == 0 and len(parts) <= 1000 else None


@lru_cache(maxsize=8192)
def read_collection(s):
    r"""Return (kind, elements) of a normalised list, or None: kind is "list" (bare), "set" (`\{\}`), "matrix"
    (elements are rows) or the two brackets "()", "[]", "(]", "[)"."""
    match = _MATRIX.match(s)
    if match:
        rows = [row for row in match.group(2).split("\\\\") if row.strip()]
        return "matrix", tuple(tuple(cell.strip() for cell in row.split("&")) for row in rows)
    if s.startswith("\\{") and s.endswith("\\}"):
        parts = _split(s[2:-2])
        return ("set", tuple(parts)) if parts else None
    if len(s) > 2 and s[0] in "([" and s[-1] in ")]":
        parts = _split(s[1:-1])
        if parts and len(parts) > 1:
            return s[0] + s[-1], tuple(parts)
    parts = _split(re.sub(r",? (?:and|or) |(?<=\d)(?:and|or)(?=\d)", ",", s))
    if parts and len(parts) > 1 and all(parts):
        return "list", tuple(parts)
    return None


def _compare_elements(gold, pred, ordered):
    """Compare two tuples of element strings: True / False where certain, else None."""
    if ordered:
        if len(gold) != len(pred):
            return False
        verdicts = [compare_normalized(g, p) for g, p in zip(gold, pred, strict=True)]
        return True if all(v is True for v in verdicts) else (False if False in verdicts else None)
    if sorted(gold) == sorted(pred):
        return True
    numbers = [[read_number(x) for x in side] for side in (gold, pred)]
    if all(n is not None for side in numbers for n in side):
        gold_n, pred_n = numbers
        rest = list(pred_n)
        for g in gold_n:
            hit = next((i for i, p in enumerate(rest) if same_number(g, p)), None)
            if hit is None:
                return False
            rest.pop(hit)
        return not rest
    return None


_BASES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_IN_BASE = re.compile(r"^([0-9A-Fa-f]+)_\{?\s*(\d{1,2}|[a-z]+)\s*\}?$")
_WORD_ANSWER = re.compile(r"^\(?(?:[A-Za-z]+(?:[ '-][A-Za-z]+)*)\)?$")
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_CHOICE = re.compile(r"^\(?([A-Za-z])\)?$")
_ASSIGN = re.compile(
    r"^([A-Za-z](?:_\w|_\{\w+\})?(?:\([A-Za-z]\))?|\\[a-z]+)(=|\\in(?![a-z])|:=)(?!.*=)(.+)$", re.DOTALL
)


def _words(s):
    """Return the folded words of a text answer such as "an ellipse", or None for anything that can be algebra."""
    match = _CHOICE.match(s)
    if match and s[0] == "(":
        return match.group(1).lower()
    if len(s) > 200 or not _WORD_ANSWER.match(s) or len(s) < 3:
        return None
    s = s.strip("()").lower()
    return None if not is_unit_word(s) else _ARTICLE.sub("", s)


def _is_scalar(s):
    return read_number(s) is not None or read_surd(s) is not None


def _one_against_several(g, gc, p, pc):
    """Whether one answer is a single number and the other has several (a decimal comma as in "3,14" is left open)."""
    single, several = (g, pc) if gc is None else (p, gc)
    if several is None or several[0] == "matrix" or not _is_scalar(single) or re.fullmatch(r"\d+,\d+", p):
        return False
    return len(set(several[1])) > 1 and all(map(_is_scalar, several[1]))


def _base(text):
    return _BASES.index(text) if text in _BASES else text if not text.isdigit() else int(text)


def compare_normalized(g, p):
    """`compare` on normalised strings."""
    if g == p:
        return True if g else False
    gn, pn = read_number(g), read_number(p)
    if gn is not None and pn is not None:
        if same_number(gn, pn):
            return True
        if "," not in g and "," not in p:
            return False
    elif "," not in g + p:
        ga, pa = _ASSIGN.match(g), _ASSIGN.match(p)
        if ga and pa and ga.group(1) != pa.group(1):
            return False if gn is None and read_number(ga.group(3)) and read_number(pa.group(3)) else None
        if ga and (pa or "=" not in p) and read_number(ga.group(3)) is not None:
            return compare_normalized(ga.group(3), pa.group(3) if pa else p)
        if pa and gn is not None:
            return compare_normalized(g, pa.group(3))
    gs = read_surd(g)
    ps = read_surd(p) if gs is not None else None
    if ps is not None:
        return same_surd(gs, ps)
    gb, pb = _IN_BASE.match(g), _IN_BASE.match(p)
    if (gb or pb) and (gb or g.isalnum()) and (pb or p.isalnum()):
        same_digits = (gb.group(1) if gb else g).upper() == (pb.group(1) if pb else p).upper()
        return same_digits and (not (gb and pb) or _base(gb.group(2)) == _base(pb.group(2)))
    gw, pw = _words(g), _words(p)
    if gw is not None or pw is not None:
        choice = _CHOICE.match(g if gw is None else p)
        if gw is not None and pw is not None:
            return gw == pw
        if choice and (gw or pw) and len(gw or pw) == 1:
            return choice.group(1).lower() == (gw or pw)
        if gn is not None or pn is not None:
            return False
    gc, pc = read_collection(g), read_collection(p)
    if gc is None or pc is None:
        if gn is not None and pn is not None:
            return False
        return False if _one_against_several(g, gc, p, pc) else None
    (gk, ge), (pk, pe) = gc, pc
    if gk == "matrix" or pk == "matrix":
        if gk != pk:
            return None
        if [len(row) for row in ge] != [len(row) for row in pe]:
            return False
        return _compare_elements(tuple(x for row in ge for x in row), tuple(x for row in pe for x in row), True)
    if gk == pk and gk not in ("list", "set"):
        return _compare_elements(ge, pe, True)
    if {gk, pk} <= {"list", "set"}:
        return _compare_elements(tuple(dict.fromkeys(ge)), tuple(dict.fromkeys(pe)), False)
    if {gk, pk} == {"[]", "()"} or {gk, pk} & {"[)", "(]"}:
        return False if {gk, pk} <= {"[]", "()", "[)", "(]"} and all(map(read_number, ge + pe)) else None
    return None


def compare(gold, pred):
    """Compare two answers given as text; True / False where that is certain without algebra, else None.

    Args:
      gold: the right answer.
      pred: the answer to judge.
    """
    return compare_normalized(normalize(gold), normalize(pred))


def canonical(text):
    """Return one spelling of an answer for votes and logs: numbers as "p/q" or an integer, else the normalised text."""
    s = normalize(text)
    number = read_number(s)
    if number is None or max(number.value.numerator.bit_length(), number.value.denominator.bit_length()) > 600:
        return s
    return str(number.value) + ("%" if number.percent else "")
