import pytest

from frpo_verl.rewards.extract import LAST_NUMBER_SOURCES, clean_text, extract_answer, is_marked, last_boxed, last_boxes

NOTHING = ("", " ", "...", r"\ldots", r"\text{...}", "?", "answer", "ANSWER", "your answer", r"\text{Your answer here}",
           "the final answer", "<answer>", "[answer]", "final_answer", "number", "___", "$$", r"\square")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"), (r"\boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
        (r"first \boxed{1}, no: \boxed{2}", "2"),  # only the words of a list join boxes
        (r"first \boxed{1}. I was wrong, it is \boxed{2}", "2"), (r"it is \boxed{1}, so not $\boxed{2}$", "1"),
        (r"It isn't \boxed{1}.", None), (r"\boxed{1} and \boxed{-2}", "1, -2"),
        (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$", "1, 2, 3"), (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{1,2\right.}", r"\left\{1,2\right."), (r"\boxed 7", "7"), (r"\boxed7", "7"),
        (r"so \boxed7. Done", "7"), (r"\boxedx", None), (r"\fbox{7}", "7"), ("<answer>5</answer>", "5"),
        ("<answer>4</answer> no: <answer>\n$5$\n</answer>", "5"), (r"<answer>\boxed{5}</answer>", "5"),
        (r"<answer>5</answer>, that is \boxed{6}", "6"), (r"\boxed{6} <answer>5</answer>", "5"), ("<answer>5", None),
        ("<answer></answer>", None), ("<think><answer>5</answer></think> no idea", None),
        ("So \\boxed{7}.\n\n#### 2. Check\nfine", "7"), ("So \\boxed{7}.\n\n#### 2. I hope it is correct.", "2"),
        ("#### 2. Check", "2"), ("\\boxed{5}\n\nThe final answer is given in cm^2", "5"),
        ("\\boxed{5}\n\nThe final answer is in $cm^2$.", "5"), ("\\boxed{5}\n\nThe final answer is x^2", "x^2"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{7} and then \boxed{8", "7"),  # the last one was cut off
        ("3 + 4 = 7\n#### 7", "7"), ("#### 7\n#### 8\nbye", "8"), (r"#### 7 then \boxed{8}", "8"),
        (r"\boxed{8} then" + "\n#### 7", "7"), ("#### $1,080", "$1,080"), ("Answer: 12", "12"),
        ("**Answer:** 12.", "12"), ("Final Answer: **73**", "73"),
        ("The final answer is $\\frac12$. I hope it is correct.", r"\frac12"),
        ("the answer is $\\sqrt{2}$, as shown", r"\sqrt{2}"), ("Q: 1+1?\nA: 2", "2"),
        ("The answer is: $18.90", "$18.90"), ("Answer:\n\n$(3, 4)$", "(3, 4)"),
        (r"<think>\boxed{1}</think> it is \boxed{2}", "2"), (r"<think>\boxed{1}</think> no idea", None),
        # a sentence around the answer, an answer on the next line, what comes after it
        ("Final Answer: The volume of $ABC$ is 120. I hope it is correct.", "120"),
        ("Final Answer: Jane began 3 hours ago. I hope it is correct.", "3"), ("**Final Answer**\n\n$12$", "12"),
        ("#### \n17", "17"), (r"so \boxed{7} at first. The final answer is $8$.", "8"),
        (r"The final answer is \boxed{8}.", "8"), (r"\boxed{8}. The final answer is above.", "8"),
        (r"\boxed{8}" + "\n#### Conclusion\nDone.", "8"), ("#### 42<|im_end|>", "42"),
        (r"\boxed{42}</s><s> \boxed{43}", "42"), ("Answer: 42<|endoftext|>", "42"), ("Answer: 42}", "42"),
        ("Answer: $5$ cm.", "$5$ cm"), ("Answer: 5 cm.", "5 cm"),
        ("The answer is 42. This is because 6*7 is 42.", "42"), ("Therefore $x>3$ is the solution.", "x>3"),
        (r"We find \[ x = 4. \]", "x = 4."), ("Hence the probability that she wins is 2/3.", "2/3"),
        ("Then $x=3$ and we go on with 7 more", None),
        # several boxes
        (r"$\boxed{1} \quad \text{and} \quad \boxed{2}$", "1, 2"), (r"\(\boxed{1}\) and \(\boxed{-2}\).", "1, -2"),
        (r"\($y_1 = \boxed{3} \) and \( y_2 = \boxed{4} \)", "3, 4"),
        (r"\boxed{1} papers and \boxed{2} bins", "1, 2"),
        (r"\boxed{(3, 3)} \text{ for part (a) and } \boxed{(1, 1)}", "(3, 3), (1, 1)"),
        (r"\boxed{5} and \boxed{5}", "5"), (r"\boxed{1} no no no no no \boxed{2}", "2"),
        (r"\boxed{1}, no, wait, \boxed{2}", "2"), (r"\boxed{1}. And \boxed{2}", "2"),
        (r"\boxed{1} is what we would get and if we look again at it then it is \boxed{2}", "2"),
        ("the sum is 12", None), ("", None),
        # a mark that holds nothing, or a placeholder, is no answer
        (r"The answer is \boxed{42}. Let's think step by step and output the final answer within \boxed{}.", "42"),
        (r"Output the final answer within \boxed{}.", None),
        *((rf"\boxed{{7}} and \boxed{{{nothing}}}", "7") for nothing in NOTHING),
        *((rf"\boxed{{{nothing}}}", None) for nothing in NOTHING), ("#### 7\n#### ...", "7"),
        ('#### 7\nLet\'s think step by step and output the final answer after "####".', "7"),
        ("<answer>7</answer> <answer> answer here </answer>", "7"),
        ("Answer: 7\nThe last line should be of the form Answer: $Answer (without quotes)", "7"),
        ("The final answer is 7.\n\nThe final answer is [your answer].", "7"), (r"\boxed{A}", "A"),
        (r"\boxed{\emptyset}", r"\emptyset"), (r"\boxed{\{\}}", r"\{\}"),
        # what follows an answer
        ("The answer is 42 because 6*7 = 42", "42"), ("The answer is 42, since 6*7 = 42.", "42"),
        ("The answer is 42 as required.", "42"), ("The answer is 42 (by symmetry).", "42"),
        ("The answer is $42$ as desired", "42"), ("The answer is 42, which is even", "42"),
        ("#### 42 because 40 + 2 = 42", "42"), ("#### 42 (since 40 + 2 = 42)", "42"), ("The answer = 42", "42"),
        ("Hence 42 is the answer", "42"), ("Hence 42 is the answer. I hope it is correct.", "42"),
        (r"So $\frac12$ is the final answer.", r"\frac12"), ("Thus 3/8 is the required probability.", "3/8"),
        ("Hence 42 is not the answer", "42 is not the answer"), ("Thus $42$ is not the answer", None),
        ("What is the answer?", None), ("The answer must be 42.", "42"),
        # in quotation marks, the stop on either side; one mark alone is a unit
        ('The answer is "5".', "5"), ("The answer is '5.' So that", "5"), ("The final answer is “5”. Done.", "5"),
        ('The answer is "5" because 3+2=5.', "5"), (r'\boxed{"5"}', "5"), ("The answer is `5 cm`.", "5 cm"),
        (r'\boxed{5"}', '5"'),
        # a choice with its text
        ("The answer is E: all 24 of the pupils", "E: all 24 of the pupils"),
        ("The answer is E. all of the pupils walk", "E. all of the pupils walk"),
        ("The answer is (E) it is the same for all 24", "(E) it is the same for all 24"), ("Answer: (E)", "(E)"),
        # a box without braces
        (r"so $\boxed\frac{1}{2}$", r"\frac{1}{2}"), (r"so $\boxed\frac12$", r"\frac12"),
        (r"so $\boxed\pi$.", r"\pi"), (r"so $\boxed\sqrt[3]{5}$.", r"\sqrt[3]{5}"),
        # a thought that does not end holds no answer
        (r"<think>it is \boxed{1}", None), (r"\boxed{1}<think>or \boxed{2}", "1"),
        (r"<think>it is \boxed{1}</think>\boxed{2}<think>or \boxed{3}", "2"), (r"\boxed{", None), ("####", None),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so it is −7", "-7"), ("so it is – 7", "-7"), ("it fell by -7", "-7"), ("x=-7", "-7"), ("(-7)", "-7"), ("he owes -$7.", "-$7"),
        ("10 - 7", "7"), ("15 -7 = 8", "8"), ("- 7 apples", "7"), ("covid-19", None), ("it is 1/2.", "1/2"), ("2 1/2 cups", "2 1/2"),
        ("at 10:30", "10:30"), ("are 2^5 ways", "2^5"), ("are 2^{5} ways", "2^{5}"), ("70 000 people", "70000"), ("1 070 000", "1070000"),
        ("in 2020 300 people", "300"), ("18cm", "18 cm"), ("18th", "18"), ("the 2nd", "2"), ("1e3 g", "1e3"), ("$1,080.50.", "$1,080.50"),
        ("15%", "15%"), (r"15\%", r"15\%"), (r"it is $\frac{1}{2}$.", r"\frac{1}{2}"), ("from 5-10 apples", None), ("on 2023-05-17", None),
        ("(12)", "12"), ("**12**", "12"), ("6*7=42", "42"), ("total:5", "5"), ("3x", "3 x"), ("6/2=<<6/2=3>>3 trucks", "3"), ("15m²", "15 m²"), ("42…", "42"), ("42。", "42"), ("x_5", None), ("√16", "√16"), ("there are 5! ways", "5!"),
        ("there are 5!", "5"), ("5 apples, 6.", "6"), (".5 of it", ".5"), ("no number", None), ("the 3 of H2O", "3"),
    ],
)  # fmt: skip
def test_the_last_number_is_a_whole_token(text, answer):
    assert extract_answer(text, "openai/gsm8k") == answer


def test_last_boxed_position_and_marks():
    assert last_boxed("ab\\boxed{c}") == "c" and last_boxes("ab\\boxed{c}") == (2, ["c"])
    assert last_boxed("none") is None
    assert is_marked("#### 4") and is_marked(r"\boxed{4}")
    assert not is_marked("Answer: 4") and not is_marked("####")


def test_clean_text():
    assert clean_text("a\x00b\ud800c") == "ab?c"
    assert clean_text(12) == "12"


@pytest.mark.timeout(60)  # each of these took minutes if any search were quadratic
@pytest.mark.parametrize(
    "unit",
    [
        "\\boxed{", "{", "}", "$", "answer is ", "A:\n", ". ", "1,", "#### ", "\\boxed{1}", " ", "-", "*", "\\", "1;",
        " is the not", ", as ", "=1", "1 000 ", "answer is the answer ",
    ],
)  # fmt: skip
def test_long_inputs_are_linear(unit):
    text = unit * (400_000 // len(unit))
    result = extract_answer(text, "openai/gsm8k")
    assert result is None or isinstance(result, str)
