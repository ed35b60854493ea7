import pytest

symbolic = pytest.importorskip("frpo_verl.rewards.symbolic", reason="needs math-verify")


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
