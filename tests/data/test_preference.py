"""data_preprocess/preference.py and the agent loop that replays what it writes."""

import logging
import random
from fractions import Fraction
from itertools import islice
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import card_of, main, refused, rlhf_dataset, rows_of, write_jsonl

from frpo_verl.data import preference
from frpo_verl.quickstart.three_ways import marked, stream
from frpo_verl.quickstart.tokenizer import write_tokenizer
from frpo_verl.rewards import math as math_reward


def made_pairs(count, seed=0):
    """Sums with the right answer written out (chosen) and one with a wrong digit (rejected)."""
    rng = random.Random(seed)
    distinct = list({p.question: p for p in islice(stream(seed), 4 * count)}.values())[:count]
    return [
        {"prompt": p.question, "chosen": marked(p.written("C")), "rejected": marked(p.with_slips("C", rng, 1.0))}
        for p in distinct
    ]


def run(tmp_path, rows, *argv, out="out"):
    source = write_jsonl(tmp_path / "in" / "pairs.jsonl", rows)
    code = main("preference", "--local_dataset_path", source, "--local_save_dir", tmp_path / out, *argv)
    return code, tmp_path / out / "train.parquet"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


@pytest.fixture
def math_file(tmp_path):
    """30 rows as three_ways.py writes them."""
    assert main("three_ways", "--train_size", 30, "--test_size", 2, "--local_save_dir", tmp_path / "math") == 0
    return tmp_path / "math" / "train.parquet"


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


SAYS = {"chosen": "good", "rejected": "bad"}
CHATS = [  # a row, the prompt that must become of it
    ({"prompt": " P ", **SAYS}, [user("P")]),
    ({"question": "P", "system": "S", **SAYS}, [system("S"), user("P")]),
    ({"prompt": [system("S"), user("P")], **SAYS}, [system("S"), user("P")]),
    ({"prompt": [user("P")], "chosen": [assistant(" good\n")], "rejected": [assistant("bad")]}, [user("P")]),
    ({"prompt": [user("P")], "chosen": assistant("good"), "rejected": assistant("bad")}, [user("P")]),
    # no prompt, or one that repeats (a part of) the chats
    ({"chosen": [user("P"), assistant("good")], "rejected": [user("P"), assistant("bad")]}, [user("P")]),
    ({"prompt": "P", "chosen": [user("P"), assistant("good")], "rejected": [user("P"), assistant("bad")]}, [user("P")]),
    ({"prompt": [system("S"), user("P")], "chosen": [user("P"), assistant("good")], "rejected": "bad"},
     [system("S"), user("P")]),
    (
        {"prompt": "P", "chosen": [user("P"), assistant("A"), user("Q"), assistant("good")],
         "rejected": [user("P"), assistant("A"), user("Q"), assistant("bad")]},
        [user("P"), assistant("A"), user("Q")],
    ),
    # other spellings of a chat
    (
        {"chosen": [{"from": "human", "value": "P"}, {"from": "gpt", "value": "good"}],
         "rejected": [user([{"type": "text", "text": "P"}]), assistant("bad")]},
        [user("P")],
    ),
    (
        {"chosen": "\n\nHuman: P\n\nAssistant: A\n\nHuman: Q\nQ\n\nAssistant: good",
         "rejected": "\n\nHuman: P\n\nAssistant: A\n\nHuman: Q\nQ\n\nAssistant: bad"},
        [user("P"), assistant("A"), user("Q\nQ")],
    ),
    ({"prompt": "\n\nHuman: P\n\nAssistant:", **SAYS}, [user("P")]),
    ({"prompt": "Human: P", **SAYS}, [user("Human: P")]),  # not a transcript
]  # fmt: skip


@pytest.mark.parametrize("row, prompt", CHATS)
def test_forms_in_circulation(tmp_path, row, prompt):
    code, file = run(tmp_path, [row])
    (made,) = rows_of(file)
    assert code == 0 and made["prompt"] == prompt
    assert (made["extra_info"]["chosen"], made["extra_info"]["rejected"]) == ("good", "bad")
    assert (made["agent_name"], made["data_source"]) == ("recorded_response", "preference")
    assert made["reward_model"] == {"style": "rule", "ground_truth": ""}
    assert made["extra_info"]["question"] == prompt[-1]["content"] and made["extra_info"]["split"] == "train"


BROKEN = {
    "empty_prompt": [{"prompt": "", **SAYS}, SAYS, {"prompt": [user(" ")], **SAYS}],
    "empty_answer": [
        {"prompt": "P", "chosen": " ", "rejected": "bad"},
        {"prompt": "P", "chosen": "good"},
        {"prompt": "P", "chosen": [user("P")], "rejected": "bad"},
        {"prompt": "P", "chosen": [user("P"), assistant(None)], "rejected": "bad"},
    ],
    "identical": [{"prompt": "P", "chosen": "same", "rejected": " same\n"}],
    "duplicate": [{"prompt": "P0 ", "chosen": "good 0", "rejected": "bad"}],
    "different_prompts": [
        {"chosen": [user("P"), assistant("good")], "rejected": [user("Q"), assistant("bad")]},
        {"prompt": "Q", "chosen": [user("P"), assistant("good")], "rejected": "bad"},
    ],
    "prompt_does_not_end_with_user": [{"prompt": [user("P"), assistant("A")], **SAYS}],
    "unreadable": [
        {"prompt": "P", "chosen": 3, "rejected": "bad"},
        {"prompt": "P", "chosen": ["good"], "rejected": "bad"},
        {"prompt": [{"role": "tool", "content": "P"}], **SAYS},
        {"prompt": [user([{"type": "image"}])], **SAYS},
    ],
    "overlong": [
        {"prompt": "P", "chosen": "123456789", "rejected": "bad"},
        {"prompt": "P", "chosen": "x", "rejected": "1234567é"},
    ],
}


def test_every_broken_pair_is_counted_under_its_reason(tmp_path, capsys, tokenizer_folder):
    good = [{"prompt": f"P{i}", "chosen": f"good {i}", "rejected": "bad"} for i in range(3)]
    good.append({"prompt": "P", "chosen": "12345678", "rejected": "bad"})  # 8 bytes and the end marker: 9 tokens
    broken = [row for rows in BROKEN.values() for row in rows]
    code, file = run(tmp_path, good + broken, "--tokenizer", tokenizer_folder, "--max_tokens", 9)
    card, counts = card_of(file), {reason: len(rows) for reason, rows in BROKEN.items()}
    assert code == 0 and [r["extra_info"]["index"] for r in rows_of(file)] == [0, 1, 2, 3]
    assert card["dropped"] == counts and card["rows_in"] == 4 + sum(counts.values())
    assert (card["pairs"], card["rows_out"], card["share_of_pairs"], card["mix"]) == (4, 4, 1.0, None)
    printed = capsys.readouterr().out
    assert all(f"{count} {reason}" in printed for reason, count in counts.items()) and "4 pairs" in printed
    # without --max_tokens nothing is too long
    assert run(tmp_path, good + BROKEN["overlong"])[0] == 0 and card_of(file)["dropped"] == {}


def test_options(tmp_path):
    rows = made_pairs(6)
    _, file = run(tmp_path, rows, "--prompt-suffix", "Think.", "--system_prompt", "S", "--max_rows", 2)
    assert [r["prompt"] for r in rows_of(file)] == [[system("S"), user(f"{row['prompt']} Think.")] for row in rows[:2]]
    assert card_of(file)["dropped"] == {"not_selected": 4}
    _, file = run(tmp_path, [{"prompt": "P", "system": "own", **SAYS}], "--system_prompt", "S")
    assert rows_of(file)[0]["prompt"] == [system("own"), user("P")]
    _, file = run(tmp_path, rows, "--max_rows", 3, "--seed", 1)
    drawn = sorted(random.Random(1).sample(range(6), 3))
    assert [r["extra_info"]["index"] for r in rows_of(file)] == drawn != [0, 1, 2]


def test_hub(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(*place, split):
        asked.append((*place, split))
        return datasets.Dataset.from_list(made_pairs(3))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    argv = ["--hub_config", "c", "--split", "train_prefs", "--local_save_dir", tmp_path]
    assert main("preference", "--hub_name", "some/set", *argv) == 0
    assert asked == [("some/set", "c", "train_prefs")] and len(rows_of(tmp_path / "train.parquet")) == 3
    assert card_of(tmp_path / "train.parquet")["source"]["repository"] == "some/set"


@pytest.mark.parametrize(
    "n_pairs, ratio, expected",
    [(40, "0.25", (10, 30)), (5, "0.25", (5, 15)), (40, "1/3", (15, 30)), (40, "0.9", (40, 4)), (40, "1", (40, 0))],
)
def test_ratio(tmp_path, math_file, n_pairs, ratio, expected):
    code, file = run(tmp_path, made_pairs(n_pairs), "--mix", math_file, "--ratio", ratio)
    rows, card = rows_of(file), card_of(file)
    is_pair = [row["agent_name"] == "recorded_response" for row in rows]
    assert code == 0 and (sum(is_pair), len(rows) - sum(is_pair)) == expected
    assert abs(sum(is_pair) / len(rows) - Fraction(ratio)) <= 0.5 / len(rows)
    for batch in (4, 7, 16):  # every batch holds its share, rounded down or up
        share = batch * sum(is_pair) / len(rows)
        starts = range(max(1, len(rows) - batch + 1))
        assert all(abs(sum(is_pair[i : i + batch]) - share) < 1 for i in starts) or batch > len(rows)
    assert card["mix"]["rows_in"] == 30 and card["mix"]["rows_used"] == expected[1]
    assert card["rows_in"] == card["pairs"] + sum(card["dropped"].values()) == n_pairs
    assert len({row["prompt"][-1]["content"] + row["agent_name"] for row in rows}) == len(rows)  # none twice


def test_mixed_rows_keep_what_they_were(tmp_path, math_file):
    _, file = run(tmp_path, made_pairs(10), "--mix", math_file, "--ratio", "0.25", "--seed", 3)
    before = {row["extra_info"]["index"]: row for row in rows_of(math_file)}
    mixed = [row for row in rows_of(file) if row["agent_name"] == "single_turn_agent"]
    assert len(mixed) == 30
    for row in mixed:
        assert row["extra_info"].pop("chosen") == row["extra_info"].pop("rejected") == ""
        row.pop("agent_name")
        assert row == before[row["extra_info"]["index"]]
    assert [row["extra_info"]["index"] for row in mixed] != sorted(before)  # shuffled


def test_same_seed_same_bytes(tmp_path, math_file):
    pairs = made_pairs(20)
    for seed in (0, 1):
        files = [run(tmp_path, pairs, "--mix", math_file, "--ratio", "0.5", "--seed", seed, out=o)[1] for o in "ab"]
        cards = [f.with_suffix(".card.json").read_bytes() for f in files]
        assert files[0].read_bytes() == files[1].read_bytes() and cards[0] == cards[1]
    other = run(tmp_path, pairs, "--mix", math_file, "--ratio", "0.5", out="default")[1]
    assert other.read_bytes() != files[0].read_bytes()


def test_a_file_of_verls_own_script_can_be_mixed_in(tmp_path):
    rows = [
        {"data_source": "openai/gsm8k", "prompt": [user(f"Q{i}")], "ability": "math",
         "reward_model": {"ground_truth": str(i), "style": "rule"},
         "extra_info": {"answer": "a", "question": "q", "split": "train"}}
        for i in range(4)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "verl.parquet")
    _, file = run(tmp_path, made_pairs(4), "--mix", tmp_path / "verl.parquet", "--ratio", "0.5")
    made = {row["prompt"][0]["content"]: row for row in rows_of(file) if row["agent_name"] == "single_turn_agent"}
    assert {f"Q{i}": (str(i), i) for i in range(4)} == {
        question: (row["reward_model"]["ground_truth"], row["extra_info"]["index"]) for question, row in made.items()
    }


def test_bad_input_is_one_line_and_leaves_what_was_there(tmp_path, capsys, math_file):
    pairs = made_pairs(4)
    _, mixed = run(tmp_path, pairs, "--mix", math_file, "--ratio", "0.5", out="mixed")
    _, file = run(tmp_path, pairs)
    before = file.read_bytes()
    wide, tools, bare = (tmp_path / f"{name}.parquet" for name in ("wide", "tools", "bare"))
    row = rows_of(math_file)[0]
    pq.write_table(pa.Table.from_pylist([{**row, "images": "x"}]), wide)
    row["extra_info"]["need_tools_kwargs"] = True
    pq.write_table(pa.Table.from_pylist([row]), tools)
    pq.write_table(pa.Table.from_pylist([{"question": "Q"}]), bare)
    for rows, argv, message in (
        ([{"prompt": "P", "chosen": "same", "rejected": "same"}], [], "none of 1 rows can be used (1 identical)"),
        ([{"text": "P"}], [], "looked for the fields prompt/question/query"),
        (pairs, ["--tokenizer", tmp_path / "no", "--max_tokens", 9], "--tokenizer"),
        (pairs, ["--mix", tmp_path / "no.parquet", "--ratio", 0.5], "not a parquet file"),
        (pairs, ["--mix", mixed, "--ratio", 0.5], "a recorded pair already"),
        (pairs, ["--mix", wide, "--ratio", 0.5], "column images would be lost"),
        (pairs, ["--mix", tools, "--ratio", 0.5], "column extra_info.need_tools_kwargs would be lost"),
        (pairs, ["--mix", bare, "--ratio", 0.5], "column question would be lost"),
        (pairs, ["--mix", math_file, "--ratio", 0.001], "cannot be had from 4 pairs and 30 rows"),
    ):
        source = write_jsonl(tmp_path / "in" / "pairs.jsonl", rows)
        places = ["--local_dataset_path", source, "--local_save_dir", tmp_path / "out"]
        assert message in refused(capsys, "preference", *places, *argv)
    assert file.read_bytes() == before and {p.name for p in file.parent.iterdir()} == {file.name, "train.card.json"}


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "--local_dataset_path and --hub_name"),
        (["--local_dataset_path", "x", "--hub_name", "y"], "--local_dataset_path and --hub_name"),
        (["--local_dataset_path", "x", "--ratio", "0.5"], "--mix and --ratio need each other"),
        (["--local_dataset_path", "x", "--max_tokens", "5"], "--tokenizer and --max_tokens need each other"),
        (["--local_dataset_path", "x", "--mix", "m.parquet", "--ratio", "0"], "above 0 and up to 1"),
        (["--local_dataset_path", "x", "--mix", "m.parquet", "--ratio", "nan"], "above 0 and up to 1"),
        (["--local_dataset_path", "x", "--seed", "1"], "--seed is only used"),
        (["--local_dataset_path", "x", "--hub_config", "main"], "--hub_config is only used"),
    ],
)
def test_bad_options_are_one_line(capsys, argv, message):
    with pytest.raises(SystemExit) as stop:
        preference.main(argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_an_empty_ground_truth_scores_zero_in_silence(tmp_path, caplog):
    _, file = run(tmp_path, made_pairs(40))
    with caplog.at_level(logging.DEBUG):
        for row in rows_of(file):
            for answer in (row["extra_info"]["chosen"], row["extra_info"]["rejected"], "", r"\boxed{}", r"\boxed{1}"):
                truth = row["reward_model"]["ground_truth"]
                judged = math_reward.compute_score(row["data_source"], answer, truth, row["extra_info"])
                assert (judged["score"], judged["acc"], judged["verify_error"]) == (0.0, 0.0, 0.0)
    assert not caplog.records


def test_round_trip_through_verls_dataset(tmp_path, math_file, monkeypatch):
    pairs = {row["prompt"]: row for row in made_pairs(10)}
    _, file = run(tmp_path, list(pairs.values()), "--mix", math_file, "--ratio", "0.25")
    data = rlhf_dataset([file], tmp_path, monkeypatch, max_prompt_length=100)
    names = []
    for item in (data[i] for i in range(len(data))):
        names.append(item["agent_name"])
        recorded = item["agent_name"] == "recorded_response"
        pair = pairs[item["raw_prompt"][0]["content"]] if recorded else {"chosen": "", "rejected": ""}
        assert [item["extra_info"][key] for key in ("chosen", "rejected")] == [pair["chosen"], pair["rejected"]]
        assert bool(item["reward_model"]["ground_truth"]) != recorded
    assert (names.count("recorded_response"), names.count("single_turn_agent")) == (10, 30)


def test_a_tokenizer_without_end_marker_is_refused(tmp_path, capsys, monkeypatch):
    import transformers

    bare = SimpleNamespace(from_pretrained=lambda name: SimpleNamespace(eos_token_id=None))
    monkeypatch.setattr(transformers, "AutoTokenizer", bare)
    code, file = run(tmp_path, made_pairs(2), "--tokenizer", "some/model", "--max_tokens", 9)
    assert code == 2 and "no end-of-text token" in capsys.readouterr().err and not file.exists()
