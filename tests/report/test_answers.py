"""RUN/answers/STEP.jsonl: which answers are kept, their tokens' texts, writing and reading."""

import json
import math

import pytest

from frpo_verl.report.answers import Answer, choose, read_answers, token_texts, write_answers
from frpo_verl.report.samples import shaded, token_answers


@pytest.mark.parametrize(
    "scores, number, rows",
    [
        ([0.0, 1.0, 0.5, 1.0], 2, [1, 0]),
        ([0.0, 1.0, 0.5, 1.0], 3, [1, 3, 0]),
        ([0.0, 1.0, 0.5, 1.0], 9, [1, 3, 2, 0]),
        ([1.0, 1.0, 1.0], 2, [0, 1]),
        ([math.nan, 0.0, math.inf], 4, [1]),
        ([], 4, []),
        ([1.0], 0, []),
    ],
)
def test_the_best_and_the_worst_are_chosen(scores, number, rows):
    found = choose(scores, number)
    assert sorted(found) == sorted(rows) and len(set(found)) == len(found)
    assert found[: (number + 1) // 2] == rows[: (number + 1) // 2]


def test_of_equal_answers_those_to_other_prompts_come_first():
    scores, groups = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.5], list("aaaabbb")
    assert choose(scores, 4, groups) == [0, 4, 2, 5]
    assert choose(scores, 6, groups) == [0, 4, 1, 2, 5, 3]


def test_a_character_of_several_tokens_stands_at_the_last_of_them():
    text = "aé漢🙂b"
    raw = text.encode()

    def decode(ids):
        return bytes(ids).decode(errors="replace")

    texts = token_texts(decode, list(raw))
    assert len(texts) == len(raw) and "".join(texts) == text
    assert texts[:3] == ["a", "", "é"]
    assert "".join(token_texts(decode, list(raw[:-2]))) == "aé漢\ufffd"


def test_spaces_between_words_stay_where_a_tokenizer_drops_the_first_one():
    """SentencePiece (Llama 2, Mistral, Gemma): a word alone is decoded without the space in front of it."""
    pieces = ["▁What", "▁is", "▁3", "+", "4", "\n", "▁the", "n"]

    def decode(ids):
        return "".join(pieces[i] for i in ids).replace("▁", " ").removeprefix(" ")

    assert token_texts(decode, range(8)) == ["What", " is", " 3", "+", "4", "\n", " the", "n"]


def test_what_is_written_is_read(tmp_path):
    answer = Answer(7, "u", 1.0, ["a", "\u2028", "<b>"], [0.5, -0.25, math.nan], "a prompt")
    for step in (1, 5, 7):
        write_answers(tmp_path, step, [answer])
    found, notes = read_answers(tmp_path)
    assert sorted(found) == [1, 7] and not notes
    (read,) = found[7]
    assert (read.tokens, read.score, read.prompt, read.uid) == (answer.tokens, 1.0, "a prompt", "u")
    assert read.log_ratio[:2] == [0.5, -0.25] and math.isnan(read.log_ratio[2])
    assert json.loads((tmp_path / "7.jsonl").read_text())["log_ratio"][2] is None
    assert read_answers(tmp_path / "nowhere") == ({}, [])


def test_tokens_and_ratios_of_different_number_are_refused():
    with pytest.raises(ValueError, match="2 tokens, but 1 log-ratios"):
        Answer(1, "u", 0.0, ["a", "b"], [0.1])


def test_long_answers_are_cut():
    ratios = [0.0] * 500
    ratios[450], ratios[3] = -2.0, 1.0
    found = shaded(Answer(1, "u", 1.0, ["x"] * 500, ratios))
    assert len(found["tokens"]) == 400 and found["left_out"] == 100 and found["total"] == -1.0


def test_best_and_worst_of_the_first_and_the_last_step():
    answers = {s: [Answer(s, f"u{i}", float(i), [], []) for i in (5, 4, 3, 2, 1)] for s in (1, 9)}
    found = token_answers(answers, 2)
    assert [(a["step"], a["score"]) for a in found] == [(1, 5.0), (1, 1.0), (9, 5.0), (9, 1.0)]
    assert [a["score"] for a in token_answers({1: answers[1][:1]}, 4)] == [5.0]
