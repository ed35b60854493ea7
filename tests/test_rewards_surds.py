import cmath
import random
from fractions import Fraction

import pytest

from frpo_verl.rewards.spelling import normalize
from frpo_verl.rewards.surds import read_surd, same_surd


def read(text):
    return read_surd(normalize(text))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (r"3\sqrt{13}", {(13, 0, 0): 3}),
        (r"\sqrt{117}", {(13, 0, 0): 3}),
        (r"\frac{\sqrt{3}}{3}", {(3, 0, 0): Fraction(1, 3)}),
        (r"\frac{1}{\sqrt 3}", {(3, 0, 0): Fraction(1, 3)}),
        (r"\sqrt{\frac{27}{16}}", {(3, 0, 0): Fraction(3, 4)}),
        ("6 - 5i", {(1, 0, 0): 6, (1, 0, 1): -5}),
        ("(2i)^2", {(1, 0, 0): -4}),
        (r"\sqrt{-4}", {(1, 0, 1): 2}),
        (r"\frac{1}{i}", {(1, 0, 1): -1}),
        (r"18+2\pi", {(1, 0, 0): 18, (1, 1, 0): 2}),
        (r"\frac{20000}{\pi}", {(1, -1, 0): 20000}),
        (r"\frac{\pi^2}{8}", {(1, 2, 0): Fraction(1, 8)}),
        (r"11(1+\sqrt{5})", {(1, 0, 0): 11, (5, 0, 0): 11}),
        (r"(1+\sqrt2)(1-\sqrt2)", {(1, 0, 0): -1}),
        (r"\sqrt{2}\sqrt{6}", {(3, 0, 0): 2}),
        (r"\sqrt{5}-\sqrt{5}", {}),
        (r"-\pi/6", {(1, 1, 0): Fraction(-1, 6)}),
    ],
)
def test_read(text, form):
    assert read(text) == (form, False)


@pytest.mark.parametrize(
    "text",
    ["", "x", "2x", r"\sqrt{x}", r"\sqrt[3]{2}", r"\sqrt{\pi}", r"\frac{1}{1+\sqrt{2}}", r"1/2\pi", r"2\frac{1}{2}",
     "2 3", r"\frac{1}{0}", "9^9^9", "2^{99}", r"\sqrt{123456789012}", "(" * 50, "1+", r"\pi\%", "1,2", "5!",
     r"\sqrt{1+\sqrt{2}}", "(1+i)^{12}" * 30, "e", r"90^\circ", "1 + x"],
)  # fmt: skip
def test_not_read(text):
    assert read(text) is None


def test_decimals_may_be_rounded():
    assert same_surd(read(r"\sqrt{2}"), read("1.41421356")) is None
    assert same_surd(read(r"0.5\pi"), read(r"\frac{\pi}{2}")) is True
    assert same_surd(read(r"\sqrt{2}"), read(r"\sqrt{3}")) is False


def test_values_agree_with_complex_arithmetic():
    """Random sums and products: a form has the value of its expression, and forms are equal for equal values only."""
    rng = random.Random(0)

    def build(depth):
        if depth == 0:
            kind = rng.randrange(4)
            if kind == 0:
                n = rng.randint(1, 9)
                return str(n), n
            if kind == 1:
                n = rng.randint(2, 40)
                return rf"\sqrt{{{n}}}", n**0.5
            return (r"\pi", cmath.pi) if kind == 2 else ("i", 1j)
        (a, x), (b, y) = build(depth - 1), build(depth - 1)
        kind = rng.randrange(4)
        if kind == 0:
            return f"({a}+{b})", x + y
        if kind == 1:
            return f"({a}-{b})", x - y
        if kind == 2:
            return f"({a})*({b})", x * y
        n = rng.randint(1, 9)
        return rf"\frac{{{a}}}{{{n}}}", x / n

    seen = []
    for _ in range(300):
        text, value = build(3)
        form = read(text)
        if form is None:
            continue
        total = sum(float(c) * n**0.5 * cmath.pi**k * 1j**m for (n, k, m), c in form[0].items())
        assert abs(total - value) <= 1e-9 * (1 + abs(value)), text
        seen.append((form, value))
    assert len(seen) > 250
    for (f, x), (g, y) in zip(seen, seen[1:] + seen[:1], strict=True):
        assert same_surd(f, g) is (abs(x - y) < 1e-9 * (1 + abs(x)))
