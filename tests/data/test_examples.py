"""What becomes of a row: the answer of a worked solution, answers as text, whole numbers."""

import pytest

from frpo_verl.data import examples


@pytest.mark.parametrize(
    "solution,expected",
    [
        (r"\boxed{1}", "1"),
        (r"\boxed{1} then \boxed{ \frac{a}{b} } end", r"\frac{a}{b}"),
        (r"\fbox{x}", "x"),
        (r"\boxed {7}", "7"),
        (r"$\boxed 5$.", "5"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{a\\}", "a\\\\"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{1} and \boxed{\frac{1}{2}", None),
        (r"\boxedminipage{1}", None),
        ("no box", None),
        (r"\boxed", None),
        (r"\boxed{}", ""),
    ],
)
def test_last_boxed(solution, expected):
    assert examples.last_boxed(solution) == expected


@pytest.mark.parametrize(
    "solution,expected",
    [
        (r"So the roots are $x=\boxed{1}$ and $x=\boxed{2}$.", "1, 2"),
        (r"in all $\boxed{15\frac{39}{40}},$ or $\boxed{\frac{639}{40}}$ inches.", r"\frac{639}{40}"),
        (r"First \boxed{1}. Then we see that the sum is $\boxed{7}$.", "7"),
        (r"\boxed{1,2}", "1,2"),
        (r"$\boxed 5$.", "5"),
        ("no box", None),
    ],
)
def test_several_boxes_side_by_side_are_one_answer(solution, expected):
    """The ground truth is what the verifier takes the solution's own answer to be."""
    from frpo_verl.rewards.math import compute_score

    assert examples.parse_row({"problem": "p", "solution": solution}).answer == expected
    if expected is not None:
        assert compute_score("math", solution, expected)["acc"] == 1.0


@pytest.mark.parametrize(
    "value,expected",
    [
        ("$5$", "5"), ("$$5$$", "5"), (r"\(5\)", "5"), (r"\[5\]", "5"), ("$1$ & $2$", "$1$ & $2$"),
        (r"\(a\) or \(b\)", r"\(a\) or \(b\)"), ("$", "$"), ("", None), ("$$", None), ("  ", None),
        ("NaN", None),
        (float("nan"), None), ("proof", None), (None, None), ([], None), (["$1$", "2"], "1, 2"), (27.0, "27"),
        (0.5, "0.5"), (0, "0"), (-3, "-3"), (1e300, str(int(1e300))), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_clean_answer(value, expected):
    assert examples.clean_answer(value) == expected


@pytest.mark.parametrize(
    "given,expected",
    [("1,024", "1024"), ("-07", "-7"), ("27.0", "27"), ("27.5", "27.5"), ("1,02", "1,02"), ("x", "x")],
)
def test_integer_answers(given, expected):
    assert examples.parse_integer_row({"problem": "P", "answer": given}).answer == expected
