import cmath
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpo_verl.rewards.compare import compare
from frpo_verl.rewards.exact import approximate, read_number, same_number
from frpo_verl.rewards.spelling import normalize

ONE = (1, 0, 0)


def read(text, trusted=False):
    return read_number(normalize(text), trusted)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18), ("-18", -18), ("−18", -18), ("+3", 3), ("025", 25), ("1,080", 1080), (r"10,\!080", 10080),
        (r"2{,}125", 2125), (r"11,\! 111,\! 111,\! 100", 11111111100), ("10 080", 10080), (r"5\,040", 5040),
        ("27.0", 27), (".0000672", Fraction(672, 10**7)), (r"6.72 \times 10^{-5}", Fraction(672, 10**7)),
        ("6.72e-5", Fraction(672, 10**7)), (r"\frac43", Fraction(4, 3)), (r"\dfrac{-35}{9}", Fraction(-35, 9)),
        ("7/12", Fraction(7, 12)), (r"1\frac{4}{5}", Fraction(9, 5)), ("2 3/8", Fraction(19, 8)), ("10^-2", Fraction(1, 100)),
        (r"-1\frac12", Fraction(-3, 2)), (r"1/2^{99}", Fraction(1, 2**99)), ("2^{10}", 1024), (r"\$32,\!348", 32348),
        (r"5.4 \text{ cents}", Fraction(27, 5)), (r"864 \mbox{ inches}^2", 864), (r"90^\circ", 90), ("5 dozen", 60),
        ("109.2 million", 109200000), (r"12.5\%", Fraction(25, 2)), ("**73**", 73), ("$18$", 18), ("(9+1)", 10),
        (r"0.\overline{72}", Fraction(8, 11)), (r"0.1\overline{6}", Fraction(1, 6)),
    ],
)  # fmt: skip
def test_rationals(text, value):
    assert read(text).form == {ONE: value}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"3\sqrt{13}", {(13, 0, 0): 3}), (r"\sqrt{117}", {(13, 0, 0): 3}), (r"\frac{1}{\sqrt 3}", {(3, 0, 0): Fraction(1, 3)}),
        (r"\sqrt{\frac{27}{16}}", {(3, 0, 0): Fraction(3, 4)}), ("6 - 5i", {ONE: 6, (1, 0, 1): -5}), ("(2i)^2", {ONE: -4}),
        (r"\sqrt{-4}", {(1, 0, 1): 2}), (r"\frac{1}{i}", {(1, 0, 1): -1}), (r"18+2\pi", {ONE: 18, (1, 1, 0): 2}),
        (r"\frac{20000}{\pi}", {(1, -1, 0): 20000}), (r"11(1+\sqrt{5})", {ONE: 11, (5, 0, 0): 11}), ("sqrt(2)", {(2, 0, 0): 1}),
        (r"(1+\sqrt2)(1-\sqrt2)", {ONE: -1}), (r"\sqrt{5}-\sqrt{5}", {}), (r"3\sqrt{2}\text{ cm}", {(2, 0, 0): 3}),
    ],
)  # fmt: skip
def test_closed_forms(text, form):
    assert read(text).form == form


@pytest.mark.parametrize(
    "text",
    ["", "x", "2x", r"\sqrt{x}", r"\sqrt[3]{2}", r"\sqrt{\pi}", r"\frac{1}{1+\sqrt{2}}", r"1/2\pi", r"2\frac{3}{2}", "1,2",
     r"\frac{1}{0}", "0^{-1}", "9^9^9", "2^{99999}", "3^{10000}", "10^{9999999}", r"\sqrt{123456789012}", "(" * 50, "1+", "5!", "1..2",
     "1" * 3000, "e", "1:2", "--", ".", "2 or 3", "5 tenths", "5m", "5 and a half", "5 squared"],
)  # fmt: skip
def test_not_a_number(text):
    assert read(text) is None


def test_what_the_notation_says():
    assert read("0.050")[1:4] == (3, 2, True)
    assert read("12.5\\%").percent and read("3 hours").unit == "h" and read("3 apples").unit == ""
    assert read("3 foobars") is None and read("3 foobars", trusted=True).form == {ONE: 3}


FORMS = (
    lambda n, d: f"{n}/{d}", lambda n, d: rf"\frac{{{n}}}{{{d}}}", lambda n, d: rf"\dfrac {{{3 * n}}}{{{3 * d}}}",
    lambda n, d: rf"$-\tfrac{{{-n}}}{{{d}}}$", lambda n, d: rf"\left( {n} \right) / {d}",
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6), st.integers(-5, 5), st.sampled_from(range(len(FORMS))))
def test_rationals_agree_with_fractions(n, d, shift, form):
    """Two written rationals compare as Fractions do (a shifted numerator is another number)."""
    assert compare(f"{n}/{d}", FORMS[form](n + shift, d)) is (Fraction(n, d) == Fraction(n + shift, d))


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**6), 10**6), st.integers(0, 6))
def test_decimals_and_separators(n, places):
    sign, digits = ("-" if n < 0 else ""), str(abs(n)).rjust(places + 1, "0")
    whole, part = digits[: len(digits) - places], digits[len(digits) - places :]
    grouped = f"{sign}{int(whole):,}" + (f".{part}" if places else "")
    gold = f"{n}/{10**places}"
    assert compare(gold, f"{sign}{whole}.{part}00" if places else f"{sign}{whole}.0") is True
    assert compare(gold, grouped) is True
    assert compare(gold, grouped + ("1" if places else ".1")) is False


def test_values_agree_with_complex_arithmetic():
    """Random sums and products: a form has the value of its expression, and forms are equal for equal values only."""
    rng = random.Random(0)

    def build(depth):
        if depth == 0:
            n = rng.randint(2, 40)
            return rng.choice(((str(n), n), (rf"\sqrt{{{n}}}", n**0.5), (r"\pi", cmath.pi), ("i", 1j)))
        (a, x), (b, y), n = build(depth - 1), build(depth - 1), rng.randint(1, 9)
        return rng.choice(
            ((f"({a}+{b})", x + y), (f"({a}-{b})", x - y), (f"({a})*({b})", x * y), (rf"\frac{{{a}}}{{{n}}}", x / n))
        )

    seen = []
    for _ in range(300):
        text, value = build(3)
        number = read(text)
        if number is not None:
            total = sum(float(c) * n**0.5 * cmath.pi**k * 1j**m for (n, k, m), c in number.form.items())
            assert abs(total - value) <= 1e-9 * (1 + abs(value)), text
            real = approximate(number.form)
            assert real is None or abs(float(real) - value) <= 1e-9 * (1 + abs(value))
            seen.append((number, value))
    assert len(seen) > 250
    for (f, x), (g, y) in zip(seen, seen[1:] + seen[:1], strict=True):
        assert same_number(f, g) is (abs(x - y) < 1e-9 * (1 + abs(x)))
