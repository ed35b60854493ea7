from fractions import Fraction

import pytest

from frpo_verl.rewards.rationals import is_unit_word, read_number, same_number
from frpo_verl.rewards.spelling import normalize


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18), ("-18", -18), ("−18", -18), ("+3", 3), ("025", 25), ("1,080", 1080), (r"10,\!080", 10080),
        (r"2{,}125", 2125),
        (r"11,\! 111,\! 111,\! 100", 11111111100), ("10 080", 10080), (r"5\,040", 5040), ("27.0", 27), (".0000672",
        Fraction(672, 10**7)),
        (r"6.72 \times 10^{-5}", Fraction(672, 10**7)), ("6.72e-5", Fraction(672, 10**7)), (r"\frac43", Fraction(4, 3)),
        (r"\dfrac{-35}{9}", Fraction(-35, 9)), ("7/12", Fraction(7, 12)), (r"1\frac{4}{5}", Fraction(9, 5)),
        ("2 3/8", Fraction(19, 8)),
        (r"-1\frac12", Fraction(-3, 2)), (r"1/2^{99}", Fraction(1, 2**99)), (r"\frac{1}{2^{98}}", Fraction(1,
        2**98)), ("2^{10}", 1024),
        (r"\$32,\!348", 32348), (r"5.4 \text{ cents}", Fraction(27, 5)), (r"864 \mbox{ inches}^2", 864),
        (r"90^\circ", 90),
        ("109.2 million", 109200000), (r"12.5\%", Fraction(25, 2)), ("**73**", 73), ("$18$", 18),
    ],
)  # fmt: skip
def test_read_number(text, value):
    assert read_number(normalize(text)).value == value


@pytest.mark.parametrize(
    "text", ["", "x", "2x", "1,2", r"\sqrt{2}", r"2\pi", "1+1", "3!", "1/0", r"\frac{1}{0}", "0^{-1}", "9^9^9",
    "2^{99999}", "5i", "1" * 2000, "1:2",
             "12:00", "1..2", "--", ".", "2 or 3", r"2\frac{3}{2}", "10^{9999999}"],
)  # fmt: skip
def test_not_a_number(text):
    assert read_number(normalize(text)) is None


def number(text):
    return read_number(normalize(text))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("1/3", "0.333333", True),
        ("1/3", "0.333334", False),
        ("0.333333", "1/3", True),
        ("3", "3.0000004", False),
        ("0.3", "0.30000000000000004", True),
        (r"50\%", "50", True),
        (r"50\%", "0.5", True),
        (r"50\%", r"0.5\%", False),
        ("5 cm", "5 m", False),
        ("5 cm", "5 apples", True),
        ("5 square inches", r"5\text{ in}^2", True),
        ("5 inches", r"5\text{ in}^2", False),
        (r"\$5.40", "5.40 dollars", True),
        (r"\$5.40", "5.40 cents", False),
    ],
)
def test_same_number(a, b, same):
    assert same_number(number(a), number(b)) is same
    assert same_number(number(b), number(a)) is same


def test_what_the_notation_says():
    assert number("0.050")[1:] == (2, 3, False, "")
    assert number("12.5\\%").percent and number("3 hours").unit == "h" and number("3 apples").unit == ""
    assert is_unit_word("apples") and not is_unit_word("pi")
