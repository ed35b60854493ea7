"""Each set as it is in circulation, and what must become of its rows."""

import itertools
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from data_files import card_of, made, main, rlhf_dataset, write_jsonl

from frpo_verl.data.writing import PROMPT_SUFFIX, SCHEMA
from frpo_verl.rewards.math import compute_score

DATA = Path(os.environ.get("FRPO_VERL_DATA", Path(__file__).parents[3] / "shared" / "data"))
DAPO_PROMPT = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)

# script, split, a row as it is in circulation; what must become of it: source, question, ground truth, id
SAMPLES = [
    ("gsm8k", "train", {"question": "How much?", "answer": "1,000 <<1*1>>\n#### 1,234"}, ("openai/gsm8k", "How much?", "1234", "gsm8k/train/0")),
    ("gsm8k", "test", {"question": "How much?", "answer": "#### -5"}, ("openai/gsm8k", "How much?", "-5", "gsm8k/test/0")),
    ("math_dataset", "train", {"problem": "P", "level": "Level 5", "type": "Algebra", "solution": r"so \boxed{1}, no \boxed{\frac{1}{2}}."},
     ("DigitalLearningGmbH/MATH-lighteval", "P", r"\frac{1}{2}", "math/train/0")),
    ("math500", "test", {"problem": "P", "solution": r"\boxed{3}", "answer": r"\left( 3, \frac{\pi}{2} \right)", "subject": "Precalculus", "level": 2, "unique_id": "test/precalculus/807.json"},
     ("HuggingFaceH4/MATH-500", "P", r"\left( 3, \frac{\pi}{2} \right)", "test/precalculus/807.json")),
    ("dapo_math_17k", "train", {"data_source": "math_dapo", "prompt": [{"role": "user", "content": DAPO_PROMPT.format("Find $x$.\n\nNow.")}], "ability": "MATH", "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"}, "extra_info": {"index": "9a9b6eb4"}},
     ("math_dapo", "Find $x$.\n\nNow.", "34", "9a9b6eb4")),
    ("dapo_math_17k", "train", {"prompt": "Find $x$.", "solution": "34", "reward_model": {"ground_truth": "34", "style": "rule"}},
     ("math_dapo", "Find $x$.", "34", "dapo_math_17k/train/0")),
    ("numina_math_cot", "train", {"source": "olympiads", "problem": "P", "solution": r"\boxed{2} and \boxed{\text{(A)}}", "messages": []},
     ("numina_olympiads", "P", r"\text{(A)}", "numina_math_cot/train/0")),
    ("aime24", "test", {"id": 60, "problem": "P", "solution": "s", "answer": "025", "url": "u"}, ("aime24", "P", "25", "60")),
    ("aime24", "test", {"ID": "2024-I-1", "Problem": "P", "Solution": "s", "Answer": 204}, ("aime24", "P", "204", "2024-I-1")),
    ("aime25", "test", {"problem": "P", "answer": "000", "id": "0"}, ("aime25", "P", "0", "0")),
    ("aime25", "test", {"question": "P", "answer": "$70$"}, ("aime25", "P", "70", "aime25/test/0")),
    ("amc23", "test", {"id": 0, "problem": "P", "answer": 27.0, "url": "u", "question": "P"}, ("amc23", "P", "27", "0")),
    ("olympiad_bench", "test", {"id": 1606, "question": "P", "context": None, "final_answer": ["$2$", "$\\sqrt{3}$"], "solution": ["long"], "subject": "Math", "subfield": "Algebra", "language": "English", "modality": "Text-only", "question_type": "Open-ended", "error": None, "answer_type": "Numerical", "image_1": None},
     ("olympiad_bench", "P", "2, \\sqrt{3}", "1606")),
    ("olympiad_bench", "test", {"id": 1, "question": "Q", "context": "C", "final_answer": "['2']"}, ("olympiad_bench", "C\n\nQ", "2", "1")),
    ("numina_math_cot", "train", {"problem": "P", "answer": "7", "response": "so 7"}, ("AI-MO/NuminaMath-CoT", "P", "7", "numina_math_cot/train/0")),
    ("limr", "train", {"prompt": "P", "answer": "\\frac{1}{2}"}, ("limr", "P", "\\frac{1}{2}", "limr/train/0")),
    ("limr", "train", {"prompt": "P", "answer": 12}, ("limr", "P", "12", "limr/train/0")),
    ("open_rs", "train", {"problem": "P", "solution": "long, $\\boxed{4}$", "answer": "$4$", "level": "Hard"},
     ("open_rs", "P", "4", "open_rs/train/0")),
    ("open_rs", "train", {"problem": "P", "solution": "long, $\\boxed{4}$", "answer": None, "level": "Easy"},
     ("open_rs", "P", "4", "open_rs/train/0")),
    ("minerva_math", "test", {"question": "P", "answer": "6.75e18"}, ("minerva_math", "P", "6.75e18", "minerva_math/test/0")),
    ("minerva_math", "test", {"problem": "P", "solution": r"thus $\boxed{\{1, 2\}}$", "type": "x", "idx": 7},
     ("minerva_math", "P", r"\{1, 2\}", "7")),
]  # fmt: skip


@pytest.mark.parametrize("name,split,row,expected", SAMPLES, ids=[f"{s[0]}{i}" for i, s in enumerate(SAMPLES)])
def test_row_of_each_set_in_circulation(tmp_path, name, split, row, expected):
    ((found,), _) = made(tmp_path, name, [row], split=split)
    data_source, question, ground_truth, own = expected
    assert found["data_source"] == data_source and found["ability"] == "math"
    assert found["prompt"] == [{"role": "user", "content": f"{question} {PROMPT_SUFFIX}"}]
    assert found["reward_model"] == {"style": "rule", "ground_truth": ground_truth}
    extra = {key: found["extra_info"][key] for key in ("split", "index", "id", "question", "repeat")}
    assert extra == {"split": split, "index": 0, "id": own, "question": question, "repeat": 0}
    assert compute_score(data_source, rf"So the answer is $\boxed{{{ground_truth}}}$.", ground_truth)["score"] == 1.0


@pytest.mark.parametrize("name", ["aime24", "aime25", "amc23"])
def test_the_published_forms_of_benchmarks_lose_the_instructions_of_their_publishers(tmp_path, name):
    prompt = [{"role": "user", "content": DAPO_PROMPT.format("Find $x$.")}]
    row = {"prompt": prompt, "reward_model": {"ground_truth": "034"}}
    ((found,), _) = made(tmp_path, name, [row], split="test")
    assert found["prompt"] == [{"role": "user", "content": f"Find $x$. {PROMPT_SUFFIX}"}]
    assert found["reward_model"]["ground_truth"] == "34"


@pytest.mark.parametrize("worked", ["two lines\n#### 7\nThat is it.", "#### 7\n\n#hashtag", "####\n7\n", "#### 7 \n "])
def test_the_ground_truth_of_gsm8k_is_one_line(tmp_path, worked):
    ((found,), _) = made(tmp_path, "gsm8k", [{"question": "q", "answer": worked}])
    assert found["reward_model"]["ground_truth"] == "7"


def test_dapo_is_deduplicated_and_unwrapped(tmp_path):
    def row(problem, answer, index):
        prompt = [{"role": "user", "content": DAPO_PROMPT.format(problem)}]
        return {"prompt": prompt, "reward_model": {"ground_truth": answer}, "extra_info": {"index": index}}

    rows = [row(f"P{i % 5}", str(i % 5), str(i)) for i in range(500)] + [row("P4", "5", "x")]
    kept, card = made(tmp_path, "dapo_math_17k", rows)
    assert [(r["extra_info"]["question"], r["extra_info"]["id"]) for r in kept] == [(f"P{i}", str(i)) for i in range(4)]
    assert card["dropped"] == {"conflicting_duplicate": 2, "duplicate": 495}


def test_english_dapo_drops_and_counts_other_languages(tmp_path):
    english = [
        "Find $x$.", "Let \u03b1 and \u2115 be as in Caf\u00e9 Poincar\u00e9 \u2014 find \u2220A.",
        "2\u00b2 + \U0001d465 = ?",
    ]  # fmt: skip
    other = ["\u6c42 $x$ \u7684\u503c\u3002", "Find \u0438 now."]
    problems = [*english, *other]
    rows = [{"prompt": p, "reward_model": {"ground_truth": "1"}} for p in problems]
    for flags, kept, dropped in (([], problems, {}), (["--english"], english, {"not_english": 2})):
        found, card = made(tmp_path, "dapo_math_17k", rows, *flags)
        assert [r["extra_info"]["question"] for r in found] == kept
        assert card["dropped"] == dropped and card["options"]["english"] == bool(flags)


def test_olympiad_bench_keeps_text_only_english_open_ended_maths(tmp_path):
    good = {"final_answer": ["1"], "language": "English", "subject": "Math", "modality": "Text-only"}
    good["question_type"] = "Open-ended"
    others = (
        {}, {"error": "1e-2"}, {"language": "Chinese"}, {"subject": "Physics"}, {"modality": "Multimodal"},
        {"image_1": {"bytes": "x"}}, {"question_type": "Theorem proof"}, {"final_answer": None},
    )  # fmt: skip
    rows = [{**good, "question": f"Q{i}", **other} for i, other in enumerate(others)]
    write_jsonl(tmp_path / "OE_TO_maths_en_COMP.json", rows)
    write_jsonl(tmp_path / "OE_TO_physics_en_COMP.json", rows)
    assert main("olympiad_bench", "--local_dataset_path", tmp_path, "--local_save_dir", tmp_path / "o") == 0
    card = card_of(tmp_path / "o" / "test.parquet")
    assert card["dropped"] == {
        "no_answer": 1, "not_english": 1, "not_maths": 1, "not_open_ended": 1, "not_text_only": 2,
    }  # fmt: skip
    assert card["notes"] == {"tolerance_ignored": 1} and card["rows_out"] == 2


def test_numina_sources_and_letter_answers(tmp_path):
    pairs = itertools.product(("olympiads", "cn_k12"), ("7", "A"))
    rows = [{"source": s, "problem": f"{s}{a}", "solution": rf"\boxed{{{a}}}"} for s, a in pairs]
    found, card = made(tmp_path, "numina_math_cot", rows, "--sources", "cn_k12")
    assert (card["rows_out"], card["dropped"], card["notes"]) == (2, {"other_source": 2}, {"letter_answer": 1})
    assert card["options"]["sources"] == ["cn_k12"]
    assert {r["data_source"] for r in found} == {"numina_cn_k12"}


def test_round_trip_through_verls_dataset_with_all_sets_in_one(tmp_path, monkeypatch):
    files, expected = [], []
    for i, (name, split, row, expected_row) in enumerate(SAMPLES):
        source = write_jsonl(tmp_path / f"in{i}" / f"{split}.jsonl", [row])
        out = tmp_path / f"o{i}"
        assert main(name, "--local_dataset_path", source, "--local_save_dir", out) == 0
        files.append(out / f"{split}.parquet")
        expected.append(expected_row)
    data = rlhf_dataset(files, tmp_path, monkeypatch, max_prompt_length=10_000)
    assert len(data) == len(SAMPLES)
    items = [data[i] for i in range(len(data))]
    for item, (data_source, question, ground_truth, own) in zip(items, expected, strict=True):
        assert item["raw_prompt"] == [{"role": "user", "content": f"{question} {PROMPT_SUFFIX}"}]
        assert (item["data_source"], item["reward_model"]["ground_truth"]) == (data_source, ground_truth)
        assert item["index"] == item["extra_info"]["index"] == 0 and item["extra_info"]["id"] == own
    assert len(rlhf_dataset(files, tmp_path, monkeypatch, max_prompt_length=10)) == 0


ON_DISK = {
    ("gsm8k", "gsm8k", "train"): 7473, ("gsm8k", "gsm8k", "test"): 1319, ("math500", "eval", "test"): 500,
    ("aime24", "eval", "test"): 30, ("amc23", "eval", "test"): 40,
}  # fmt: skip


def test_sets_on_disk_keep_every_row(tmp_path, monkeypatch):
    files = {}
    for (name, folder, split), count in ON_DISK.items():
        if not (DATA / folder).is_dir():
            continue
        if not (tmp_path / name).exists():
            assert main(name, "--local_dataset_path", DATA / folder, "--local_save_dir", tmp_path / name) == 0
        file = tmp_path / name / f"{split}.parquet"
        card = card_of(file)
        assert (card["rows_in"], card["rows_out"], card["dropped"], card["notes"]) == (count, count, {}, {})
        assert pq.read_schema(file).equals(SCHEMA)
        files[file] = count
    if files:
        data = rlhf_dataset(files, tmp_path, monkeypatch, filter_overlong_prompts=False)
        assert len(data) == sum(files.values())
        assert all(data[i]["reward_model"]["ground_truth"] for i in range(0, len(data), 97))
