"""What becomes of a row: the answer of a worked solution, answers as text, whole numbers."""

import json

import pytest

from frpo_verl.data import examples, sets
from frpo_verl.data.shapes import Unreadable


@pytest.mark.parametrize(
    "solution,expected",
    [
        (r"\boxed{1}", "1"), (r"\boxed{1} then \boxed{ \frac{a}{b} } end", r"\frac{a}{b}"), (r"\fbox{x}", "x"),
        (r"\boxed {7}", "7"), (r"$\boxed 5$.", "5"), (r"\boxed{\{1,2\}}", r"\{1,2\}"), (r"\boxed{a\\}", "a\\\\"),
        (r"\boxed{\boxed{3}}", "3"), (r"\boxed{1} and \boxed{\frac{1}{2}", None), (r"\boxedminipage{1}", None),
        ("no box", None), (r"\boxed", None), (r"\boxed{}", None),
        (r"\boxed{7}. Output the final answer within \boxed{}.", "7"),
        (r"$\boxed{7}$ \boxed{\text{your answer}}", "7"), (r"so $\boxed\frac{1}{2}$", r"\frac{1}{2}"),
        (r"so $\boxed\pi$", r"\pi"),
    ],
)  # fmt: skip
def test_the_last_box_that_holds_something(solution, expected):
    assert examples.boxed_answer(solution) == expected


@pytest.mark.parametrize(
    "solution,expected",
    [
        (r"So the roots are $x=\boxed{1}$ and $x=\boxed{2}$.", "1, 2"),
        (r"in all $\boxed{15\frac{39}{40}},$ or $\boxed{\frac{639}{40}}$ inches.", r"\frac{639}{40}"),
        (r"First \boxed{1}. Then we see that the sum is $\boxed{7}$.", "7"), (r"\boxed{1,2}", "1,2"),
        (r"$\boxed 5$.", "5"), ("no box", None),
    ],
)  # fmt: skip
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
        (r"\(a\) or \(b\)", r"\(a\) or \(b\)"), ("$", None), ("", None), ("$$", None), ("  ", None),
        ("NaN", None),
        (float("nan"), None), ("proof", None), (None, None), ([], None), (["$1$", "2"], "1, 2"), (27.0, "27"),
        (0.5, "0.5"), (0, "0"), (-3, "-3"), (1e300, str(int(1e300))), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_clean_answer(value, expected):
    assert examples.clean_answer(value) == expected


@pytest.mark.parametrize(
    "given,expected", [("1,024", "1024"), ("-07", "-7"), ("27.0", "27"), ("27.5", "27.5"), ("1,02", "1,02"), ("x", "x")]
)
def test_integer_answers(given, expected):
    assert sets.whole_number({"problem": "P", "answer": given}).answer == expected


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2+3?"}]
SHAREGPT = [{"from": "human", "value": "What is 2+3?"}, {"from": "gpt", "value": r"It is \boxed{5}."}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2+3?"}]}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": CHAT, "answer": "5"}, {"prompt": json.dumps(CHAT), "answer": "5"},
        {"prompt": str(CHAT), "answer": "5"}, {"prompt": SHAREGPT, "answer": "5"}, {"conversations": SHAREGPT},
        {"conversations": json.dumps(SHAREGPT)},
        {"messages": [*CHAT, {"role": "assistant", "content": r"\boxed{5}"}]}, {"prompt": PARTS, "answer": "5"},
        {"prompt": PARTS[0], "answer": "5"}, {"problem": "What is 2+3?", "answer": {"value": "5"}},
        {"problem": "What is 2+3?", "answer": '{"value": 5}'},
        {"problem": "What is 2+3?", "answer": {"value": "5", "type": "integer"}},
        {"problem": "What is 2+3?", "answer": "['5']"}, {"problem": {"text": "What is 2+3?"}, "answer": 5},
        {"problem": "", "question": "What is 2+3?", "answer": [], "final_answer": "5"},
        {"prompt": CHAT, "reward_model": {"ground_truth": "5", "style": "rule"}},
        {"prompt": CHAT, "reward_model": '{"ground_truth": "5", "style": "rule"}'},
        {"prompt": CHAT, "reward_model": "{'ground_truth': '5', 'style': 'rule'}", "extra_info": '{"index": 7}'},
    ],
)  # fmt: skip
def test_nested_shapes_are_read(row):
    example = examples.parse_row(row)
    assert (example.question, example.answer) == ("What is 2+3?", "5")
    assert example.id == ("7" if "extra_info" in row else None)


@pytest.mark.parametrize(
    "row, field",
    [
        ({"problem": {"a": 1, "b": 2}, "answer": "5"}, "problem"),
        ({"problem": '{"a": 1, "b": 2}', "answer": "5"}, "problem"),
        ({"prompt": [{"text": "x"}, {"speaker": "me"}], "answer": "5"}, "prompt"),
        ({"prompt": [{"role": "user", "content": [{"type": "image", "image": "x"}]}], "answer": "5"}, "prompt"),
        ({"prompt": [{"role": "user", "content": {"a": 1}}], "answer": "5"}, "prompt"),
        ({"problem": "p", "answer": {"low": 1, "high": 2}}, "answer"),
        ({"problem": "p", "answer": [{"low": 1}]}, "answer"),
        ({"problem": "p", "answer": b"5"}, "answer"),
        ({"problem": "p", "reward_model": "rule"}, "reward_model"),
        ({"problem": "p", "reward_model": {"ground_truth": {"low": 1, "high": 2}}}, "reward_model.ground_truth"),
    ],
)
def test_other_shapes_are_refused_by_their_field(row, field):
    """The text of a dict is never a problem, nor a ground truth."""
    with pytest.raises(Unreadable, match=f"^{field}="):
        examples.parse_row(row)


def test_what_only_describes_a_row_stops_nothing():
    row = {"problem": "p", "answer": 5, "id": {"a": 1}, "subject": [{"b": 2}], "level": b"x", "extra_info": [1]}
    row |= {"solution": {"steps": []}, "reward_model": "rule"}
    assert examples.parse_row(row) == examples.Example("p", "5", solution="5")


@pytest.mark.parametrize(
    "answer",
    ["not_found", "Not-Found", "unknown", "Unknown.", "None", "null", "?", "??", "...", "see solution",
     "See the solution.", "N/A", "no answer", r"$?$", r"\text{None}", r"\boxed{?}", "your answer", r"\boxed{answer}", "$Answer", r"see above: \boxed{}"],
)  # fmt: skip
def test_words_for_no_answer_are_no_ground_truth(answer):
    assert examples.parse_row({"problem": "p", "answer": answer}).answer is None


@pytest.mark.parametrize("answer", ["0", "-", "no solution", r"\emptyset", r"\text{undefined}", "none of these"])
def test_answers_that_only_look_like_none(answer):
    assert examples.parse_row({"problem": "p", "answer": answer}).answer == (None if answer == "-" else answer)


@pytest.mark.parametrize(
    "question",
    [
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
        "$Answer (without quotes) where $Answer is the answer to the problem.\n\nFind $x$.\n\nNow.\n\n"
        'Remember to put your answer on its own line after "Answer:".',
        r"Find $x$.  Now. Let's think step by step and output the final answer within \boxed{}.".replace("  ", "\n\n"),
        'Find $x$.\n\nNow. Let\'s think step by step and output the final answer after "####".',
        "Find $x$.\n\nNow.",
    ],
)
def test_instructions_that_a_set_wraps_its_problems_in_are_taken_off(question):
    assert examples.parse_row({"prompt": question, "answer": "1"}).question == "Find $x$.\n\nNow."
