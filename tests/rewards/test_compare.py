"""What holds for all answers; which are equal stands in tests/support/labelled/rules.yaml (test_labelled.py)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.rewards.compare import canonical, compare
from frpo_verl.rewards.exact import ROUNDED_DIGITS
from frpo_verl.rewards.reading import read
from frpo_verl.rewards.values import Chain, Number


# Rules under which an exact verdict "equal" may differ from math-verify's, each with a reason.
def rule_for(gold, pred):
    g, p = read(gold, True), read(pred)
    numbers = [v for v in (g, p) if isinstance(v, Number)]
    if any(v.unit or v.percent for v in numbers):
        return "units and percent signs may be left out"
    if any(v.digits >= ROUNDED_DIGITS for v in numbers):
        return "a decimal of six digits may be rounded"
    if isinstance(g, Chain) or isinstance(p, Chain):
        return "chains"
    if type(g) is not type(p):
        return f"{type(g).__name__} and {type(p).__name__} in the table"
    return None


_ATOMS = st.sampled_from(
    ["1", "-2", "0.5", r"\frac{3}{4}", r"2\sqrt{3}", r"\frac{\pi}{2}", "3", r"\sqrt{12}", "6/8", "1/2", "2^3"]
)
_SHAPES = st.sampled_from(["%s", "(%s,7)", "%s,7", r"\{%s,7\}", "[%s,70)", r"\begin{pmatrix}%s\\7\end{pmatrix}"])


@settings(max_examples=150, deadline=None)
@given(_SHAPES, _ATOMS, _ATOMS)
def test_exactly_equal_is_equal_for_math_verify(shape, a, b):
    """Whatever the exact comparison calls equal, math-verify calls equal, or a rule says why not."""
    math_verify = pytest.importorskip("math_verify")
    gold, pred = shape % a, shape % b
    if compare(gold, pred) is True and rule_for(gold, pred) is None:
        parsed = [math_verify.parse(f"${text}$", parsing_timeout=None) for text in (gold, pred)]
        assert math_verify.verify(*parsed, timeout_seconds=None), (gold, pred)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"0123456789.,+-*/^_!%\{}()[]$ abxfrcsqt=<", max_size=60), st.text(max_size=30))
def test_any_text_gets_a_verdict(a, b):
    for gold, pred in ((a, b), (b, a), (a, a)):
        assert compare(gold, pred) in (True, False, None)


@pytest.mark.timeout(120)  # one of these took for ever if any pattern backtracked without bound
@pytest.mark.parametrize(
    "unit",
    ["a..", "5 a.b", "1 ", "\\pm 1,", "(", "{", "1,", "1=", "x<", "\\sqrt(", "\\frac", "\\text{a", " and ", "1:", "\\cup ", "_1", "^{-1}", "'",
     "5 m/s", "\\pi^9", "\\sqrt{99999989}", "(1,(", "\\{1,\\{", "twenty-", "°C", "$", "1\\approx "],
)  # fmt: skip
def test_long_answers_are_read_in_time(unit):
    longest = unit * (990 // len(unit))
    for text in (longest, f"5 {longest}!", f"x={longest}\x00"):
        assert compare("5", text) in (False, None) and compare(text, "5") in (False, None)
        canonical(text)


def test_nothing_is_not_equal_to_nothing():
    assert compare("", "") is False


def test_canonical():
    assert canonical("0.50") == canonical(r"\frac{2}{4}") == "1/2"
    assert canonical("1,080") == "1080" and canonical(r"$\dfrac12\pi$") == r"\frac{1}{2}\pi"
    assert canonical(r"25\%") == "25%" and canonical("0") == "0"
