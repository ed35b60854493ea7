"""The server of the `hf` rollout, without Ray: batches, limits, log-probs, weights, and how it fails."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from frpo_verl.verl_plugin.rollout_hf import server as module
from frpo_verl.verl_plugin.rollout_hf.server import HFServer

EOS, PAD, VOCABULARY = 1, 0, 20


def make_model(seed=0):
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=64, tie_word_embeddings=True,
        eos_token_id=EOS, pad_token_id=PAD, initializer_range=0.3,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(path)
    return path


def make_server(folder, **config):
    settings = SimpleNamespace(
        **{
            "dtype": "float32", "seed": 3, "response_length": 8, "prompt_length": 8, "max_model_len": None,
            "max_num_seqs": 64, "ignore_eos": False, **config,
        }
    )  # fmt: skip
    tokenizer = SimpleNamespace(eos_token_id=EOS, pad_token_id=PAD)
    model = SimpleNamespace(local_path=str(folder), trust_remote_code=False, tokenizer=tokenizer)
    return HFServer(settings, model, replica_rank=0)


def ask(server, prompts, **sampling):
    params = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "logprobs": True, **sampling}

    async def run():
        return await asyncio.gather(*[server.generate(p, dict(params), f"r{i}") for i, p in enumerate(prompts)])

    return asyncio.run(run())


PROMPTS = [[3, 4, 5], [6, 7], [3, 4, 5], [8, 9, 10, 11, 12], [6, 7]]


def fresh(folder, **config):
    server = make_server(folder, **config)
    server.global_steps = 0
    return server


def are_of(model, prompt, out, temperature=1.0):
    """The log-probs of an answer are those of this model."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + out.token_ids])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(logits / temperature, -1).gather(-1, torch.tensor(out.token_ids)[:, None])
    torch.testing.assert_close(torch.tensor(out.log_probs), expected.squeeze(-1), rtol=0, atol=1e-4)


def weights_of(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def test_log_probs_are_the_models_own(folder):
    for temperature in (1.0, 0.7):
        for prompt, out in zip(PROMPTS, ask(fresh(folder), PROMPTS, temperature=temperature), strict=True):
            are_of(make_model(), prompt, out, temperature)


def test_answers_do_not_depend_on_the_batch_or_the_order(folder):
    together = ask(fresh(folder), PROMPTS)
    small = ask(fresh(folder, max_num_seqs=1), PROMPTS)
    backwards = ask(fresh(folder), PROMPTS[::-1])
    text = lambda outs: sorted(tuple(o.token_ids) for o in outs)  # noqa: E731
    assert text(together) == text(small) == text(backwards)
    assert together[0].token_ids != together[2].token_ids  # two answers to one prompt are two draws
    other = fresh(folder)
    other.global_steps = 1
    assert text(ask(other, PROMPTS)) != text(together)
    assert text(ask(fresh(folder, seed=4), PROMPTS)) != text(together)


def test_limits_and_end_of_sequence(folder):
    outs = ask(fresh(folder), [[3, 4, 5]] * 40)
    assert all(1 <= len(o.token_ids) <= 8 for o in outs)
    assert all(EOS not in o.token_ids[:-1] for o in outs)
    assert any(o.token_ids[-1] == EOS for o in outs) and any(len(o.token_ids) == 8 for o in outs)
    assert all(len(o.token_ids) <= 3 for o in ask(fresh(folder), PROMPTS, max_tokens=3))
    assert {len(o.token_ids) for o in ask(fresh(folder), PROMPTS, ignore_eos=True)} == {8}
    assert {tuple(o.token_ids) for o in ask(fresh(folder), [[3, 4]] * 4, temperature=0)}.__len__() == 1
    assert ask(fresh(folder), [[3, 4]], logprobs=False)[0].log_probs is None
    with pytest.raises(ValueError, match="leaves no room to answer"):
        ask(fresh(folder, max_model_len=3), [[3, 4, 5]])
    with pytest.raises(ValueError, match="text only, got image_data"):
        asyncio.run(fresh(folder).generate([3], {}, "r", image_data=["x"]))


def test_a_seed_in_the_request_decides_alone(folder):
    first, second = ask(fresh(folder), [[3, 4], [3, 4]], seed=11)
    assert first.token_ids == second.token_ids


def test_weights_arrive_in_buckets_and_tied_ones_count(folder):
    server = fresh(folder)
    other = make_model(seed=5)
    weights = weights_of(other)
    names = list(weights)
    for part, last in ((names[: len(names) // 2], False), (names[len(names) // 2 :], True)):
        asyncio.run(server.load_weights({n: weights[n] for n in part}, last=last))
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(server.model(ids).logits, other(ids).logits)
    with pytest.raises(KeyError, match="no parameter 'nonsense'"):
        asyncio.run(server.load_weights({"nonsense": torch.zeros(1)}, last=True))
    with pytest.raises(KeyError, match="sent no value for"):
        asyncio.run(server.load_weights({names[0]: weights[names[0]]}, last=True))


def test_a_failure_is_loud_and_final(folder, monkeypatch):
    server = fresh(folder)
    monkeypatch.setattr(module, "generate_batch", lambda *a: (_ for _ in ()).throw(ValueError("out of everything")))
    with pytest.raises(RuntimeError, match="out of everything"):
        ask(server, PROMPTS)
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="failed earlier.*out of everything"):
        ask(server, PROMPTS)
    with pytest.raises(RuntimeError, match="failed earlier"):
        asyncio.run(server.load_weights({}, last=True))


def test_weights_wait_for_a_batch_and_a_batch_for_the_weights(folder):
    """Every answer is of one version of the weights, and says which."""
    models = {0: make_model(), 7: make_model(seed=5)}
    weights = weights_of(models[7])
    names = list(weights)

    async def run(server):
        first = asyncio.create_task(server.generate([3, 4, 5], {"logprobs": True}, "a"))
        await asyncio.sleep(3 * module.GATHER_SECONDS)  # its batch is on its way
        await server.load_weights({n: weights[n] for n in names[:2]}, last=False)
        second = asyncio.create_task(server.generate([3, 4, 5], {"logprobs": True}, "b"))
        await asyncio.sleep(5 * module.GATHER_SECONDS)
        assert not second.done()
        await server.load_weights({n: weights[n] for n in names[2:]}, last=True, global_steps=7)
        return await first, await second

    for out, version in zip(asyncio.run(run(fresh(folder, ignore_eos=True))), (0, 7), strict=True):
        assert out.extra_fields["global_steps"] == version and len(out.token_ids) == 8
        are_of(models[version], [3, 4, 5], out)


@pytest.mark.parametrize("reject", [False, True])
def test_between_abort_and_resume_requests_wait_or_are_sent_elsewhere(folder, reject):
    async def run(server):
        await server.abort_all_requests(reject_request=reject)
        task = asyncio.create_task(server.generate([3, 4, 5], {}, "late"))
        await asyncio.sleep(5 * module.GATHER_SECONDS)
        waited = not task.done()
        await server.sleep()
        await server.set_global_steps(9)
        await server.resume_generation()
        return waited, await task, await server.generate([3, 4, 5], {}, "next")

    waited, late, following = asyncio.run(run(fresh(folder)))
    assert waited is not reject and (late.stop_reason == "aborted") is reject and bool(late.token_ids) is not reject
    assert late.extra_fields["global_steps"] == (0 if reject else 9)
    assert following.stop_reason == "completed" and following.token_ids


def test_a_bucket_that_fails_does_not_lock_the_server(folder):
    server = fresh(folder)
    with pytest.raises(KeyError, match="no parameter 'nonsense'"):
        asyncio.run(server.load_weights({"nonsense": torch.zeros(1)}, last=False))
    assert ask(server, PROMPTS[:1])[0].token_ids


def test_a_request_that_waits_at_a_server_that_dies_is_refused(folder, monkeypatch):
    def fail(*_):
        raise ValueError("out of everything")

    monkeypatch.setattr(module, "generate_batch", fail)

    async def run(server):
        first = asyncio.create_task(server.generate([3, 4, 5], {}, "first"))
        await asyncio.sleep(0)  # it is in the queue
        closing = asyncio.create_task(server.abort_all_requests())
        await asyncio.sleep(0)
        late = asyncio.create_task(server.generate([3, 4, 5], {}, "late"))
        await closing  # until the first one has failed
        await server.resume_generation()
        return await asyncio.wait_for(asyncio.gather(first, late, return_exceptions=True), 10)

    first, late = asyncio.run(run(fresh(folder)))
    assert "server failed: ValueError" in str(first) and "failed earlier: ValueError" in str(late)
