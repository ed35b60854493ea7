import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.rewards.exact import canonical, compare, read_collection
from frpo_verl.rewards.spelling import normalize


@pytest.mark.parametrize(
    ("gold", "pred", "verdict"),
    [
        ("10", r"10\%", True), (r"50\%", "0.5", True), (r"50\%", r"0.5\%", False), ("0.25", r"25\%", True),
        ("1/3", "0.333333", True), ("1/3", "0.33333", False), ("3", "2.9999999", False), ("0.3",
        "0.30000000000000004", True),
        (r"5\text{ cm}", r"5\text{ m}", False), (r"5\text{ cm}", "5", True), (r"864 \mbox{ inches}^2",
        "864 square inches", True),
        ("1,-2", "-2, 1", True), ("1,-2", "1,2", False), ("1,-2", "1", False), ("3.14", "3,14", None), ("3, 5, 7",
        r"\{7,5,3\}", True),
        ("(1,-2)", "(-2,1)", False),
        ("(3,4]", "[3,4]", False), ("(1,2)", "(1, 2.0)", True), ("(1,2)", "(1,x)", None),
        (r"\begin{pmatrix}1\\2\end{pmatrix}",
        r"\begin{bmatrix} 1.0 \\[2pt] 2 \end{bmatrix}", True), (r"\begin{pmatrix}1\\2\end{pmatrix}",
        r"\begin{pmatrix}1&2\end{pmatrix}", False),
        ("x=5", "5", True), ("5", "x = 6", False), ("x=5", "y=5", False), (r"\text{Evelyn}", "evelyn", True),
        (r"\text{Evelyn}", "Carla", False),
        (r"\text{(C)}", "C", True), (r"\text{(C)}", "(B)", False), (r"\text{ellipse}", "an ellipse", True),
        (r"\text{even}", "2", False),
        ("4210_{5}", "4210_{\\text{five}}", True), ("4210_{5}", "4210_6", False), (r"\sqrt{2}", "1.41421356", None),
        (r"\sqrt{8}", r"2\sqrt{2}", True), (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", True),
        ("x+1", "1+x", None),
        (r"\sqrt{2}", r"$\sqrt 2$", True), ("1,000", "1000", True), ("12", "", None), (r"(2,\infty)",
        r"\left(2,\infty\right)", True),
    ],
)  # fmt: skip
def test_compare(gold, pred, verdict):
    assert compare(gold, pred) is verdict


FORMS = (
    lambda n, d: f"{n}/{d}",
    lambda n, d: rf"\frac{{{n}}}{{{d}}}",
    lambda n, d: rf"\dfrac {{{3 * n}}}{{{3 * d}}}",
    lambda n, d: rf"$-\tfrac{{{-n}}}{{{d}}}$",
    lambda n, d: rf"\left( {n} \right) / {d}",
)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(10**12), 10**12),
    st.integers(1, 10**6),
    st.integers(-5, 5),
    st.sampled_from(range(len(FORMS))),
)
def test_rationals_agree_with_fractions(n, d, shift, form):
    """Two written rationals compare as Fractions do (a shifted numerator is another number)."""
    pred = FORMS[form](n + shift, d)
    expected = Fraction(n, d) == Fraction(n + shift, d)
    assert compare(f"{n}/{d}", pred) is expected


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(0, 6))
def test_decimals_and_separators(n, places):
    sign, digits = ("-" if n < 0 else ""), str(abs(n)).rjust(places + 1, "0")
    whole, part = digits[: len(digits) - places], digits[len(digits) - places :]
    decimal = f"{sign}{whole}.{part}00" if places else f"{sign}{whole}.0"
    grouped = f"{sign}{int(whole):,}" + (f".{part}" if places else "")
    gold = f"{n}/{10**places}"
    assert compare(gold, decimal) is True
    assert compare(gold, grouped) is True
    assert compare(gold, grouped + ("1" if places else ".1")) is False


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"0123456789.,+-*/^_!%\{}()[]$ abxfrcsqt", max_size=60), st.text(max_size=30))
def test_any_text_gets_a_verdict(a, b):
    for gold, pred in ((a, b), (b, a), (a, a)):
        assert compare(gold, pred) in (True, False, None)
    if normalize(a):
        assert compare(a, a) is True


def test_order_does_not_matter_in_lists_but_in_tuples():
    rng = random.Random(0)
    values = [Fraction(rng.randint(-50, 50), rng.randint(1, 9)) for _ in range(6)]
    values = list(dict.fromkeys(values))
    shuffled = values[1:] + values[:1]
    text, other = (", ".join(map(str, side)) for side in (values, shuffled))
    assert compare(text, other) is True
    assert compare(f"({text})", f"({other})") is False


def test_collections():
    assert read_collection("1,2") == ("list", ("1", "2"))
    assert read_collection(r"\{1,(2,3)\}") == ("set", ("1", "(2,3)"))
    assert read_collection("(1,2]") == ("(]", ("1", "2"))
    assert read_collection("(1,2") is None and read_collection("7") is None


def test_canonical():
    assert canonical("0.50") == canonical(r"\frac{2}{4}") == "1/2"
    assert canonical("1,080") == "1080" and canonical(r"$\dfrac12\pi$") == r"\frac{1}{2}\pi"
    assert canonical(r"25\%") == "25%"
