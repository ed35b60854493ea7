import pytest

symbolic = pytest.importorskip("frpo_verl.rewards.symbolic", reason="needs math-verify")


@pytest.mark.parametrize(
    ("gold", "pred", "same"),
    [
        (r"3\sqrt{13}", r"\sqrt{117}", True), (r"3\sqrt{13}", "3*sqrt(13)", True), (r"1+274i", "1 + 274 i", True),
        (r"-4", r"(2i)^2", True), (r"\sin 30^\circ", r"\frac12", True), (r"3R^2", r"3r^2", False),
        # equal to 15 decimals, different all the same
        (r"\frac{\sqrt{2}}{2^{99}}", r"\frac{\sqrt{2}}{2^{98}}", False),
        (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}", False),
        # a solution may be written as an interval or as inequalities on one lone variable, not as the problem restated
        (r"(2,\infty)", "x > 2", True), (r"(2,\infty)", "x + 1 > 3", False),
        (r"x \in [-2,7]", r"-2 \le x \le 7", True),
        # unreadable formulas are not compared by the numbers inside them
        (r"1 - \frac{1}{\mathrm{e}}", r"1 + \frac{1}{\mathrm{e}}", False), (r"\pm 2021", "2021", False),
        # rational functions, by their values modulo a prime
        ("(a-x)^{6000}", "(x-a)^{5999}", False), (r"\frac{x^2-1}{x-1}", "x+1", True), (r"\pi x+1", r"x+\pi", False),
        (r"\sin^2 x", r"1-\cos^2 x", True), ("0.333333x", "0.3333334x", False),
    ],
)  # fmt: skip
def test_equal(gold, pred, same):
    assert symbolic.equal(gold, pred) is same


def test_unreadable_gold_is_an_error_and_unreadable_answer_is_wrong():
    with pytest.raises(symbolic.GoldError, match="ground truth"):
        symbolic.ask(r"\frac{", "1", "value")
    assert symbolic.equal(r"\sqrt{2}", r"\frac{") is False


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("E_{12}", "z_{E12}"), ("f'(x)", "z_{fq}(x)"), ("2*x", r"2 \cdot x"),
        (r"\sin(30°)", r"\sin(\frac{\pi \cdot 30}{180})"),
    ],
)  # fmt: skip
def test_to_latex(text, latex):
    assert symbolic.to_latex(text) == latex
