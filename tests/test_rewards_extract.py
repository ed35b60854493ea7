import pytest

from frpo_verl.rewards.extract import LAST_NUMBER_SOURCES, clean_text, extract_answer, is_marked, last_boxed


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
        (r"first \boxed{1}, no: \boxed{2}", "2"),  # only the words of a list join boxes
        (r"first \boxed{1}. I was wrong, it is \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{-2}", "1, -2"),
        (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$", "1, 2, 3"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{1,2\right.}", r"\left\{1,2\right."),
        (r"\boxed 7", "7"),
        (r"\fbox{7}", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{7} and then \boxed{8", "7"),  # the last one was cut off
        ("3 + 4 = 7\n#### 7", "7"),
        ("#### 7\n#### 8\nbye", "8"),
        (r"#### 7 then \boxed{8}", "8"),
        (r"\boxed{8} then" + "\n#### 7", "7"),
        ("#### $1,080", "$1,080"),
        ("Answer: 12", "12"),
        ("**Answer:** 12.", "12"),
        ("Final Answer: **73**", "73"),
        ("The final answer is $\\frac12$. I hope it is correct.", r"\frac12"),
        ("the answer is $\\sqrt{2}$, as shown", r"\sqrt{2}"),
        ("Q: 1+1?\nA: 2", "2"),
        ("The answer is: $18.90", "$18.90"),
        ("Answer:\n\n$(3, 4)$", "(3, 4)"),
        (r"<think>\boxed{1}</think> it is \boxed{2}", "2"),
        (r"<think>\boxed{1}</think> no idea", None),
        ("the sum is 12", None),
        ("", None),
        (r"\boxed{", None),
        ("####", None),
    ],
)
def test_extract(text, answer):
    assert extract_answer(text, "math") == answer


def test_last_number_only_where_the_data_source_asks():
    text = "She has 3 boxes, so she pays $1,080.50 in all."
    assert extract_answer(text, "math") is None
    assert extract_answer(text, "arithmetic") is None
    for source in LAST_NUMBER_SOURCES:
        assert extract_answer(text, source) == "$1,080.50"
    assert extract_answer(text, "mine", last_number_sources=("mine",)) == "$1,080.50"
    assert extract_answer("x3 v2 only", "openai/gsm8k") is None
    assert extract_answer("#### 4 then 5", "openai/gsm8k") == "4 then 5"  # a marker wins over the last number


def test_last_boxed_position_and_marks():
    assert last_boxed("ab\\boxed{c}") == ("c", 2)
    assert last_boxed("none") is None
    assert is_marked("#### 4") and is_marked(r"\boxed{4}")
    assert not is_marked("Answer: 4") and not is_marked("####")


def test_clean_text():
    assert clean_text("a\x00b\ud800c") == "ab?c"
    assert clean_text(12) == "12"


@pytest.mark.timeout(60)  # each of these took minutes if any search were quadratic
@pytest.mark.parametrize(
    "unit",
    ["\\boxed{", "{", "}", "$", "answer is ", "A:\n", ". ", "1,", "#### ", "\\boxed{1}", " ", "-", "*", "\\"],
)
def test_long_inputs_are_linear(unit):
    text = unit * (400_000 // len(unit))
    result = extract_answer(text, "openai/gsm8k")
    assert result is None or isinstance(result, str)
