import pytest

from frpo_verl.rewards.guard import refuse
from frpo_verl.rewards.spelling import normalize


@pytest.mark.parametrize(
    "text",
    [r"\int_0^1 x^x dx", r"\lim_{n\to\infty} a_n", r"\Gamma(10^{8})",
    "(" + "1" * 60 + ")^{1/3}", r"\log(\log(\log(\log(\log x))))",
     "9**9**9", "9^9^9", "9^{9^{9^9}}", "(10^7)!", "((9!)!)!", "99!!!!", "100000!", "2^{1000000000}", "x^{999999}",
     "2^{-10^{10}}", r"(1/3)^{10^{9}}", r"e^{10^{9}i}", r"e^{10^{9}+i}", r"e^{\pi^{60}i}", "(10^4 i)!",
     r"\binom{10000000}{5000000}", r"\sum_{n=1}^{100000000} n^{-2}", r"\prod_{k=1}^{1000000} k", "1" * 1500,
     "{" * 100, "(" * 100,
     r"\frac{1}{" * 60 + "1" + "}" * 60, ",".join("1" * 300), r"\frac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}",
     r"7^{7^{7^{7}}} \bmod 100", "2^{2^{2^{2^{2^{2}}}}}"],
)  # fmt: skip
def test_refused(text):
    assert refuse(normalize(text)) != ""


@pytest.mark.parametrize(
    "text",
    ["2^{2024}", "(a-x)^{6000}", r"(x+y+z+w+1)^{200}", "x^{2024}+1", "e^{x^2}", r"\frac{(2n)!}{n!\,n!}", "n!", "100!", r"\binom{2n}{n}", r"\binom{50}{25}",
    r"\log_2 3 + \ln 5", r"\sqrt{1+\sqrt{2}}", "x^{2^{3}}",
     r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"(x-1)^{100}", r"\left( 3, \frac{\pi}{2} \right)",
     "1,2,3,4,5,6,7,8,9,10", r"\frac{1}{2004!}"[:9] + "{200!}", "x != 3",
     r"1+\frac{1}{1+\frac{1}{1+\frac{1}{2}}}", "2^{n^2}", r"10^{10}", r"e^{\pi i/3}", r"e^{i\pi/3}", r"e^{(1+2i)\pi}", "i^i"],
)  # fmt: skip
def test_let_through(text):
    assert refuse(normalize(text)) == ""


def test_sums_are_for_ground_truths_that_have_them():
    assert refuse(r"\sum_{k=1}^{n}k^2", r"\sum_{k=0}^{n}k^2") == ""
    assert "worked out" in refuse(r"\sum_{k=1}^{n}k^2", r"\frac{n}{2}")
    assert refuse(r"\sum_{k=1}^{100000000}k^2", r"\sum_{k=0}^{n}k^2") != ""
