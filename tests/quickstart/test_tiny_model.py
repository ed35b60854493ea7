"""The quickstart's model: the figures its warm-up stops by, and the folder it leaves behind."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from frpo_verl.quickstart import arithmetic, tiny_model, warm_start
from frpo_verl.quickstart.model_folder import STAMP
from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

#: learns nothing, but passes every step of the way in a second
SMALL = tiny_model.Settings(
    hidden_size=32,
    n_layers=1,
    n_heads=1,
    n_kv_heads=1,
    head_dim=32,
    intermediate_size=32,
    target=1e-12,
    max_steps=60,
    batch_size=8,
    check_every=20,
    validation_size=16,
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, problems in arithmetic.make_splits(64, 32).items():
        rows = [{"extra_info": {"question": p.question, "level": str(p.level)}} for p in problems]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


# ---- figures


def test_the_default_model_is_small(tokenizer):
    model = tiny_model.make_model(tiny_model.Settings(), tokenizer)
    assert 0.3e6 <= sum(p.numel() for p in model.parameters()) <= 1e6


def test_exact_pass_at_1_is_the_probability_of_the_answer(tokenizer):
    """Against one unpadded forward pass a problem, token by token."""
    model = tiny_model.make_model(replace(SMALL, seed=3), tokenizer).double()
    problems = arithmetic.sample_distinct("exact", 6, [1, 4], seed=0)
    assert len({len(p.question + p.solution) for p in problems}) > 1
    total = 0.0
    for problem in problems:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.question}], tokenize=False, add_generation_prompt=True
        )
        head = tokenizer.encode(prompt, add_special_tokens=False)
        answer = tokenizer.encode(problem.solution + "<|im_end|>", add_special_tokens=False)
        with torch.no_grad():
            log_probs = model(torch.tensor([head + answer])).logits[0].log_softmax(-1)
        total += math.exp(sum(log_probs[len(head) - 1 + i, token].item() for i, token in enumerate(answer)))
    assert tiny_model.exact_pass_at_1(model, tokenizer, problems) == pytest.approx(total / len(problems), rel=1e-9)


def test_sampled_pass_at_1_counts_final_answers(tokenizer):
    """With a stand-in for the model that answers two problems of three rightly, one of them by a wrong partial sum."""
    problems = [arithmetic.Problem(t, 1) for t in ((10, 1, 2, 3), (20, 1, 1, 1), (30, 3, 3, 3))]
    texts = ["11\n13\n#### 16<|im_end|>", "99\n22\n#### 23<|im_end|>", "33\n36\n#### 3<|im_end|>"]

    def generate(input_ids, attention_mask, **options):
        assert options["max_new_tokens"] == 24
        rows = [tokenizer.encode(t, add_special_tokens=False) for t in texts for _ in range(2)]
        width = max(map(len, rows))
        answers = [row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(answers)], 1)

    got = tiny_model.sampled_pass_at_1(SimpleNamespace(generate=generate, device="cpu"), tokenizer, problems, samples=2)
    assert got == pytest.approx(2 / 3)


def test_slips():
    rng = random.Random(0)
    problem = arithmetic.Problem((47, 8, 5, 9), 3)
    assert {tiny_model.with_slip(problem, rng, 0.0) for _ in range(20)} == {problem.solution}
    texts = [tiny_model.with_slip(problem, rng, 0.5) for _ in range(2000)]
    wrong = [text for text in texts if text != problem.solution]
    assert 0.45 < len(wrong) / 2000 < 0.55
    firsts = set()
    for text in wrong:
        sums = [int(line.removeprefix("#### ")) for line in text.split("\n")]
        steps = [b - a for a, b in zip([47, *sums[:-1]], sums, strict=True)]
        slipped = [i for i, (step, term) in enumerate(zip(steps, (8, 5, 9), strict=True)) if step != term]
        assert len(slipped) == 1  # every other line still adds its term
        firsts.add(slipped[0])
    assert firsts == {0, 1, 2}


# ---- the folder


@pytest.mark.slow
def test_build_then_reuse(data, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "deep" / "model"
    stamp = tiny_model.build(out, data, SMALL, progress=False)
    assert not stamp["reused"] and stamp["levels"] == [1, 2, 3]
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.float32 and AutoTokenizer.from_pretrained(out).eos_token == "<|im_end|>"
    assert model.generation_config.eos_token_id == AutoTokenizer.from_pretrained(out).eos_token_id

    monkeypatch.setattr(tiny_model, "warm_up", lambda *a, **k: pytest.fail("trained again"))
    assert tiny_model.build(out, data, SMALL, progress=False) == {**stamp, "reused": True}
    for change in (replace(SMALL, seed=1), replace(SMALL, target=1e-11)):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            tiny_model.build(out, data, change, progress=False)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        tiny_model.build(out, data, SMALL, force=True, progress=False)


@pytest.mark.slow
def test_same_seed_same_weights(data, tmp_path):
    from safetensors.torch import load_file

    def weights(name, **change):
        tiny_model.build(tmp_path / name, data, replace(SMALL, **change), progress=False)
        return load_file(tmp_path / name / "model.safetensors")

    before = torch.get_rng_state()
    a, b, c = weights("a"), weights("b"), weights("c", seed=1)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["lm_head.weight"], c["lm_head.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_other_held_out_problems_another_model(data):
    train, test = (tiny_model.read_problems(data / f"{name}.parquet") for name in ("train", "test"))
    digest = tiny_model.settings_hash(SMALL, train, test)
    assert digest == tiny_model.settings_hash(SMALL, train[::-1], test[::-1])
    assert digest != tiny_model.settings_hash(SMALL, train, test[1:])
    assert digest != tiny_model.settings_hash(SMALL, train + arithmetic.sample_distinct("x", 1, [5], 0), test)


def test_no_test_and_no_validation_problem_is_trained_on(data, tokenizer, monkeypatch):
    test = {p.key for p in tiny_model.read_problems(data / "test.parquet")}
    batches = []
    encode = warm_start.encode_batch

    def spy(tokenizer, questions, answers):
        batches.append([arithmetic.from_question(q).key for q in questions])
        return encode(tokenizer, questions, answers)

    monkeypatch.setattr(warm_start, "encode_batch", spy)
    settings = replace(SMALL, max_steps=40, target=1e-30, batch_size=64, validation_size=48, check_every=40)
    model = tiny_model.make_model(settings, tokenizer)
    tiny_model.warm_up(model, tokenizer, settings, [1], test, progress=False)
    trained = {key for batch in batches if len(batch) == 64 for key in batch}
    validated = {key for batch in batches if len(batch) == 48 for key in batch}
    assert len(trained) > 500 and len(validated) == 48
    assert not trained & test and not trained & validated and not validated & test


def test_a_warm_up_that_does_not_learn_says_so(data, tmp_path):
    with pytest.raises(RuntimeError, match="max_steps=2, wanted 0.2: raise max_steps"):
        tiny_model.build(tmp_path / "model", data, replace(SMALL, target=0.2, max_steps=2), progress=False)
    assert not list(tmp_path.iterdir())


def test_command_line(data, tmp_path, monkeypatch, capsys):
    def fail(*args, **options):
        raise FileNotFoundError("x: no such file")

    monkeypatch.setattr(tiny_model, "build", fail)
    with pytest.raises(SystemExit, match="error: x: no such file"):
        tiny_model.main(["--out", str(tmp_path / "m"), "--data", str(data)])
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="target=2.0: give a pass@1 between 0 and 1"):
        tiny_model.main(["--out", str(tmp_path / "m"), "--data", str(data), "--target", "2"])
    with pytest.raises(SystemExit, match="no such file; write it with `python -m frpo_verl data arithmetic`"):
        tiny_model.main(["--out", str(tmp_path / "m"), "--data", str(tmp_path)])
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_the_default_warm_start_leaves_room_to_learn(tmp_path):
    """The quickstart's own model on held-out problems at temperature 1: right between 0.1 and 0.4 of the time."""
    for name, problems in arithmetic.make_splits().items():
        rows = [{"extra_info": {"question": p.question, "level": str(p.level)}} for p in problems]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    stamp = tiny_model.build(tmp_path / "model", tmp_path, progress=False)
    assert json.loads((Path(tmp_path) / "model" / STAMP).read_text())["steps"] == stamp["steps"]
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = load_tokenizer(tmp_path / "model")
    test = tiny_model.read_problems(tmp_path / "test.parquet")
    pass_at_1 = tiny_model.sampled_pass_at_1(model, tokenizer, test, samples=8)
    assert 0.1 <= pass_at_1 <= 0.4
    assert tiny_model.exact_pass_at_1(model, tokenizer, test) <= pass_at_1 + 0.05
