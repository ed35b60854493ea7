import json
import logging
import os
import time
from itertools import product
from pathlib import Path

import psutil
import pytest
from commands import python
from hostile_answers import HOSTILE, STUBBORN, fuzzed
from labelled_sets import boxed, labelled

from frpo_verl.rewards import math as reward
from frpo_verl.rewards.math import FailureWindow, compute_score, ground_truth_text, soft_overlong

DATA = Path(os.environ.get("FRPO_VERL_DATA", Path(__file__).parents[3] / "shared" / "data"))
KEYS = {"score": float, "acc": float, "pred": str, "verify_timeout": float, "verify_error": float}


@pytest.fixture
def no_pool(monkeypatch):
    def refuse(**kwargs):
        raise AssertionError("a verification process was asked for")

    monkeypatch.setattr("frpo_verl.rewards.pool.get_pool", refuse)


def test_import_is_light():
    script = (
        "import sys, frpo_verl.rewards.math\n"
        "print([m for m in ('torch', 'verl', 'sympy', 'math_verify', 'pebble') if m in sys.modules])"
    )
    out = python(code=script)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("source", "text", "truth", "score", "pred"),
    [
        ("arithmetic", "12 + 30 = 42\n#### 42", "42", 1.0, "42"), ("arithmetic", "42", "42", 0.0, ""),
        ("arithmetic", "#### 41", 42, 0.0, "41"), ("openai/gsm8k", "so she pays $1,080 in all.", "1080", 1.0, "1080"),
        ("openai/gsm8k", "#### 18 dollars", "18", 1.0, "18"), ("math", boxed("0.5"), r"\frac12", 1.0, "1/2"),
        ("math", boxed("1, -2"), ["-2", "1"], 1.0, "1,-2"), ("math", boxed("5"), r"the total is \boxed{5}", 1.0, "5"),
        ("math", "no answer", "5", 0.0, ""), ("math", boxed("5"), "", 0.0, "5"),
        ("math", "Answer: **73**", 73.0, 1.0, "73"),
    ],
)  # fmt: skip
def test_scores_without_a_process(no_pool, source, text, truth, score, pred):
    result = compute_score(source, text, truth)
    assert {key: type(value) for key, value in result.items()} == KEYS
    assert (result["score"], result["acc"], result["pred"]) == (score, score, pred)
    assert result["verify_timeout"] == result["verify_error"] == 0.0


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("\x0crac{1}{2}", "1/2"), ("1/2", "\x0crac{1}{2}"), ("5\text{ cm}", "5"), ("\x08inom{4}{2}", "6"), ("\r" + r"ight. 5", "5"),
        ("2 \times 3", "6"), ("\theta", r"\theta"), (r"x \n" + "eq 3", r"x\ne 3"),
    ],
)  # fmt: skip
def test_damaged_escapes_are_repaired(answer, truth):
    assert compute_score("math", boxed(answer), truth, deadline=60.0)["acc"] == 1.0


def test_things_that_the_question_names_may_be_counted(no_pool):
    asked = {"question": "How many wombats are there?"}
    assert compute_score("math", boxed(r"42 \text{ wombats}"), "42", asked)["score"] == 1.0
    assert compute_score("math", boxed(r"42 \text{ wombats}"), "42", {"question": None})["score"] == 0.0
    assert compute_score("math", boxed(r"42 \text{ quokkas}"), "42", asked)["score"] == 0.0


def test_as_verl_calls_it(no_pool):
    result = compute_score(
        data_source="math", solution_str=boxed("7"), ground_truth="7", extra_info={"index": 0},
        reward_router_address="host:1", reward_model_tokenizer=None,
    )  # fmt: skip
    assert result["score"] == 1.0


def _ground_truths():
    for name in ("gsm8k/train", "gsm8k/test", "eval/math500", "eval/amc23", "eval/aime24"):
        path = DATA / f"{name}.jsonl"
        if path.exists():
            for line in path.read_text().splitlines():
                answer = str(json.loads(line)["answer"])
                yield name, answer.rsplit("####", 1)[-1].strip()


def test_ground_truths_of_the_data_sets_need_no_process(no_pool):
    """Each equals itself and its boxed form, and no number equals the next one."""
    for name, truth in _ground_truths():
        for text, gold in product((boxed(truth), f"#### {truth}"), (truth, f"\\boxed{{{truth}}}")):
            assert compute_score(name, text, gold)["acc"] == 1.0, (name, truth)
        if name != "eval/math500":
            assert compute_score(name, boxed(str(float(truth.replace(",", "")) + 1)), truth)["acc"] == 0.0


def test_an_unreadable_ground_truth_is_an_error(no_pool):
    assert compute_score("math", boxed("5"), r"\frac{1}{")["verify_error"] == 1.0
    assert compute_score("math", r"#### \frac{1}{", r"\frac{1}{")["acc"] == 1.0


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_fuzzed_answers_asked_twice_get_the_same_verdict():
    """Random edits of the labelled answers: no exception, the same verdict twice, nothing left behind
    (benchmarks/verifier.py does it with 10,000)."""
    pairs = fuzzed([(p["gold"], p["pred"]) for p in labelled("verifier_pairs")], 1000)
    compute_score("math", boxed("(x-1)^2"), "x^2-2x+1", deadline=60.0)
    children = len(psutil.Process().children(recursive=True))
    verdicts = [
        [compute_score("math", boxed(pred), gold, deadline=20.0)["acc"] for gold, pred in pairs] for _ in range(2)
    ]
    assert verdicts[0] == verdicts[1]
    assert len(psutil.Process().children(recursive=True)) <= children + 1  # a second verification process, at most


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_hostile_answers_are_bounded():
    """Each returns soon after the deadline, scores 0, leaves this process small, and the next honest answer is judged
    right."""
    deadline, gold = 1.0, r"\sqrt{2}"
    assert compute_score("math", boxed(r"\frac{2}{\sqrt{2}}"), gold, deadline=60.0)["acc"] == 1.0
    process = psutil.Process()
    before, slow = process.memory_info().rss, {}
    for k, (name, text) in enumerate({**HOSTILE, **STUBBORN}.items()):
        start = time.monotonic()
        result = compute_score("math", boxed(text), gold, deadline=deadline)
        taken = time.monotonic() - start
        if taken > deadline + 20.0:  # the machine may be busy; unbounded they take minutes or for ever
            slow[name] = taken
        assert result["acc"] == 0.0 and {key: type(value) for key, value in result.items()} == KEYS, name
        json.dumps(result).encode("utf-8")
        if k % 8 == 0:
            honest = boxed(rf"\frac{{{k + 2}}}{{\sqrt{{2}}}}-\frac{{{k}}}{{\sqrt 2}}")
            assert compute_score("math", honest, gold, deadline=60.0)["acc"] == 1.0
    assert slow == {}
    assert process.memory_info().rss - before < 100 * 2**20
    assert compute_score("math", boxed(r"2^{1/2}"), gold, deadline=60.0)["acc"] == 1.0


def test_failures_are_marked(no_pool):
    result = compute_score("math", boxed("9^9^9"), r"\sqrt{2}")
    assert (result["score"], result["verify_error"], result["verify_timeout"]) == (0.0, 1.0, 0.0)
    result = compute_score("math", boxed("x+" * 600 + "x"), "x")
    assert (result["score"], result["verify_error"]) == (0.0, 1.0)


def test_what_is_raised_on_the_way_is_a_failed_verification(monkeypatch):
    def broken(*args):
        raise ValueError("broken")

    monkeypatch.setattr(reward.compare, "compare", broken)
    monkeypatch.setattr(reward.compare, "canonical", broken)
    result = compute_score("math", boxed("5"), "5")
    assert (result["score"], result["pred"], result["verify_error"]) == (0.0, "5", 1.0)


def test_failure_window():
    window = FailureWindow(size=100, share=0.05, minimum=50)
    assert [window.add(False) for _ in range(95)] == [None] * 95
    assert [window.add(True) for _ in range(5)] == [None] * 5  # exactly 5 %
    assert window.add(True) == pytest.approx(0.06)
    assert [window.add(True) for _ in range(99)] == [None] * 99  # once per window
    assert window.add(True) == 1.0
    assert [FailureWindow(minimum=64).add(True) for _ in range(63)] == [None] * 63


def test_warning_names_the_share_and_the_knobs(monkeypatch, caplog, no_pool):
    monkeypatch.setattr(reward, "_window", FailureWindow(size=64))
    with caplog.at_level(logging.WARNING, logger="frpo_verl.rewards"):
        for k in range(64):
            compute_score("math", boxed("9^9^9" if k % 10 == 0 else "5"), r"\frac{5}{1}")
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and "11 %" in messages[0] and "deadline" in messages[0]


def test_shaping_is_off_by_default_and_leaves_acc_binary(no_pool):
    assert compute_score("math", "x" * 1000 + boxed("5"), "5")["score"] == 1.0
    assert compute_score("math", boxed("4"), "5", format_bonus=0.1) | {"pred": ""} == {
        "score": 0.1, "acc": 0.0, "pred": "", "verify_timeout": 0.0, "verify_error": 0.0}  # fmt: skip
    assert compute_score("math", "Answer: 4", "5", format_bonus=0.1)["score"] == 0.0
    text = boxed("5").ljust(150)
    result = compute_score("math", text, "5", overlong_max_length=200, overlong_buffer=100)
    assert (result["score"], result["acc"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dead_line": 3}, "did you mean 'deadline'"),
        ({"deadline": 0}, "deadline=0"),
        ({"overlong_max_length": 10}, "overlong_buffer=0"),
        ({"overlong_max_length": 10, "overlong_buffer": -1}, "overlong_buffer=-1"),
        ({"overlong_max_length": 10, "overlong_buffer": 11}, "overlong_buffer=11"),
    ],
)
def test_wrong_settings_are_refused(kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        compute_score("math", boxed("1"), "1", **kwargs)


def test_ground_truth_text():
    assert ground_truth_text("a #### 12") == "12"
    assert ground_truth_text(r"so $\boxed{\frac12}$") == r"\frac12"
    assert ground_truth_text([1, 2]) == "1, 2" and ground_truth_text(7) == "7"


def test_soft_overlong_values():
    # DAPO's figures: 16384 + 4096 tokens
    values = [soft_overlong(length, 20480, 4096) for length in (0, 16384, 17408, 18432, 20480, 30000)]
    assert values == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]
