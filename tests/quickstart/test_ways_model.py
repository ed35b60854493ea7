"""The model that writes sums in three ways: the figures its warm-up stops by, and the folder it leaves behind."""

import json
import math
from dataclasses import replace

import pytest
import torch

from frpo_verl.quickstart import three_ways, warm_start, ways_model
from frpo_verl.quickstart.ways_model import STAMP

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

#: learns nothing, but passes every step of the way in a second
SMALL = ways_model.Settings(
    hidden_size=32, n_layers=1, n_heads=1, n_kv_heads=1, head_dim=32, intermediate_size=32, target=1e-90, max_steps=60,
    habit_steps=10, batch_size=8, check_every=20, validation_size=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, problems in three_ways.make_splits(64, 32).items():
        rows = [{"extra_info": {"question": p.question}} for p in problems]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def test_the_default_model_is_small(tokenizer):
    model = ways_model.make_model(ways_model.Settings(), tokenizer)
    assert 0.1e6 <= sum(p.numel() for p in model.parameters()) <= 0.3e6


def test_success_by_way_is_the_probability_of_the_answer(tokenizer):
    """Against one unpadded forward pass a problem, token by token."""
    model = ways_model.make_model(replace(SMALL, seed=3), tokenizer).double()
    problems = three_ways.sample_distinct("exact", 4, seed=0)
    found = ways_model.success_by_way(model, tokenizer, problems)
    assert list(found) == ["A", "B", "C"]
    for way, (share, right) in found.items():
        shares, rights = [], []
        for problem in problems:
            turns = [{"role": "user", "content": problem.question}]
            prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            head = tokenizer.encode(prompt, add_special_tokens=False)
            answer = tokenizer.encode(problem.written(way) + "<|im_end|>", add_special_tokens=False)
            with torch.no_grad():
                log_probs = model(torch.tensor([head + answer])).logits[0].log_softmax(-1)
            terms = [log_probs[len(head) - 1 + i, token].item() for i, token in enumerate(answer)]
            shares.append(math.exp(terms[0]))
            rights.append(math.exp(sum(terms[1:])))
        assert share == pytest.approx(sum(shares) / 4, rel=1e-9) and right == pytest.approx(sum(rights) / 4, rel=1e-9)


def test_a_marked_model_learns_the_mark(tokenizer):
    """The answers that it is shown end with their sum, right or wrong, behind GSM8K's mark."""
    seen = []

    class Shown(warm_start.Learner):
        def step(self, problems, answers, share=None):
            seen.extend(answers)
            super().step(problems, answers, share)

    settings = replace(SMALL, marked=True, max_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways_model, "Learner", Shown)
        ways_model.warm_up(ways_model.make_model(settings, tokenizer), tokenizer, settings, set(), (4, 2), False)
    assert len(seen) == 11 * 8
    for text in seen:
        answer, _, total = text.partition("\n#### ")
        assert three_ways.read_sum(answer, 4) == int(total[::-1])


def test_build_then_reuse(data, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "deep" / "model"
    stamp = ways_model.build(out, data, SMALL, progress=False)
    assert [p.name for p in out.parent.iterdir()] == ["model"]  # and no folder of the work
    assert not stamp["reused"] and set(stamp["ways"]) == {"A", "B", "C"} and stamp["steps"] == 30
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.float32 and AutoTokenizer.from_pretrained(out).eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == AutoTokenizer.from_pretrained(out).eos_token_id

    monkeypatch.setattr(ways_model, "warm_up", lambda *a, **k: pytest.fail("trained again"))
    assert ways_model.build(out, data, SMALL, progress=False) == {**stamp, "reused": True}
    for change in (replace(SMALL, seed=1), replace(SMALL, target=1e-80)):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            ways_model.build(out, data, change, progress=False)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        ways_model.build(out, data, SMALL, force=True, progress=False)
    assert json.loads((out / STAMP).read_text()) == {k: v for k, v in stamp.items() if k != "reused"}  # left as it was


@pytest.mark.parametrize("broken", [STAMP, "model.safetensors"])
def test_a_folder_that_is_not_whole_is_made_again(tmp_path, broken, monkeypatch):
    out = tmp_path / "model"
    stamp = ways_model.build(out, None, SMALL, progress=False)  # the default problems
    (out / broken).write_text('{"hash": ') if broken == STAMP else (out / broken).unlink()
    again = ways_model.build(out, None, SMALL, progress=False)
    assert not again["reused"] and again["ways"] == stamp["ways"] and (out / broken).stat().st_size > 10
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_the_default_problems_are_those_of_the_data_set(tmp_path, monkeypatch):
    from frpo_verl.data import cli

    assert cli.main(["three_ways", "--local_save_dir", str(tmp_path)]) == 0
    seen = []
    monkeypatch.setattr(ways_model, "settings_hash", lambda *args: seen.append(args) or pytest.fail("seen"))
    for data in (None, tmp_path):
        with pytest.raises(pytest.fail.Exception):
            ways_model.build(tmp_path / "model", data, SMALL)
    assert seen[0] == seen[1]


def test_other_held_out_problems_another_model(data):
    train, test = (ways_model.read_problems(data / f"{name}.parquet") for name in ("train", "test"))
    others = replace(SMALL, habits=three_ways.Habits(success=(0.5, 0.5, 0.5)))
    digest = ways_model.settings_hash(SMALL, train, test)
    assert digest == ways_model.settings_hash(SMALL, train[::-1], test[::-1])
    assert digest not in (
        ways_model.settings_hash(SMALL, train, test[1:]),
        ways_model.settings_hash(others, train, test),
    )
    with pytest.raises(ValueError, match="problems of 2 shapes"):
        ways_model.settings_hash(SMALL, train + three_ways.sample_distinct("x", 1, 0, digits=5), test)


def test_no_test_and_no_validation_problem_is_trained_on(data, tokenizer, monkeypatch):
    test = {p.key for p in ways_model.read_problems(data / "test.parquet")}
    batches = []
    encode = warm_start.encode_batch

    def spy(tokenizer, questions, answers):
        batches.append([three_ways.from_question(q).key for q in questions])
        return encode(tokenizer, questions, answers)

    monkeypatch.setattr(warm_start, "encode_batch", spy)
    settings = replace(SMALL, max_steps=40, target=1e-99, batch_size=64, validation_size=48, check_every=40)
    model = ways_model.make_model(settings, tokenizer)
    ways_model.warm_up(model, tokenizer, settings, test, (4, 2), progress=False)
    trained = {key for batch in batches if len(batch) == 64 for key in batch}
    validated = {key for batch in batches if len(batch) == 48 for key in batch}
    assert len(trained) > 500 and len(validated) == 48
    assert not trained & test and not trained & validated and not validated & test


def test_a_warm_up_that_does_not_learn_says_so(data, tmp_path):
    with pytest.raises(RuntimeError, match="max_steps=2, wanted 0.2: raise max_steps"):
        ways_model.build(tmp_path / "model", data, replace(SMALL, target=0.2, max_steps=2), progress=False)
    assert not list(tmp_path.iterdir())


def test_without_data_the_command_says_how_to_write_it(tmp_path):
    with pytest.raises(SystemExit, match="error: .*no such file; write it with `python -m frpo_verl data three_ways`"):
        ways_model.main(["--out", str(tmp_path / "m"), "--data", str(tmp_path)])
    assert not (tmp_path / "m").exists()


def test_what_the_command_takes(tmp_path, monkeypatch):
    seen = []
    stamp = {"parameters": 1, "steps": 1, "seconds": 0.0, "validation_pass_at_1": 0.0, "reused": False}
    monkeypatch.setattr(ways_model, "build", lambda *args, **kwargs: seen.append((args, kwargs)) or stamp)
    assert ways_model.main("--out m --data d --marked --device cuda --force".split()) == 0
    ((_, _, settings), options) = seen[0]
    assert settings == ways_model.Settings(marked=True) and options == {"force": True, "device": "cuda"}
