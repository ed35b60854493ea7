import pytest

from frpo_verl.rewards.spelling import normalize


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        (r"$\dfrac12$", r"\frac{1}{2}"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"11,\! 111,\! 100", "11111100"), (r"10\,080", "10080"), (r"x^{2} \cdot y_{1}", "x^2*y_1"),
        (r"90^{\circ}", "90°"), (r"\text{Evelyn}.", "Evelyn"),
        (r"\begin{pmatrix}1 \\ -2\end{pmatrix}", r"\begin{pmatrix}1\\-2\end{pmatrix}"),
        (r"\begin{pmatrix}1 \\[4pt] -2\end{pmatrix}", r"\begin{pmatrix}1\\-2\end{pmatrix}"), ("−5 ≤ x", r"-5\le x"),
        ("1 2", "1 2"),  # two numbers stay two
        ("32, 349", "32,349"),  # so does a list
        ("32,349", "32349"), ("(99,503)", "(99,503)"), ("10^-2", "10^{-2}"), ("np.arcsin(10/13)", r"\arcsin(10/13)"),
        ("sqrt(2)/pi", r"\sqrt{2}/\pi"), (r"\sqrt 2", r"\sqrt{2}"), ("x⁻¹²+y₂", "x^{-12}+y_2"),
        ("1½", r"1\frac{1}{2}"), ("𝟒２٤", "424"), ("５ ≧ 𝜋", r"5\ge\pi"), (r"\mathrm{m\,s^{-2}}", "m s^{-2}"),
        (r"\textcolor{red}{x}", "x"), ("2^{1}00", "2^{1}00"), (r"\varnothing", r"\emptyset"), ("", ""),
    ],
)  # fmt: skip
def test_normalize(text, spelling):
    assert normalize(text) == spelling
    assert normalize(spelling, grouped=False) == spelling


def test_delimiters():
    assert normalize(" **$x$** ") == "x"
    assert normalize(r"\(x\)") == normalize(r"\[ x \]") == normalize("$$x$$") == "x"
    assert normalize("$x$ and $y$") == "x and y"
