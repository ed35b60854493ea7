"""The agent loop that replays recorded answers instead of generating."""

import asyncio
import sys
from types import SimpleNamespace

import pytest
from data_files import made, rlhf_dataset
from verl.experimental.agent_loop import agent_loop as module
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopOutput

import frpo_verl
from frpo_verl.data import preference
from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer
from frpo_verl.verl_plugin.agent_loops import RecordedResponse


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


def agent_loop(folder, response_length=32, log_probs=True):
    """The loop with its tokenizer and settings, without a server; prompts go through the chat template."""
    loop = object.__new__(RecordedResponse)
    loop.tokenizer = load_tokenizer(folder)
    loop.rollout_config = SimpleNamespace(response_length=response_length, calculate_log_probs=log_probs)

    async def ct_build_initial_tokens(messages, **_):
        return loop.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    loop.ct_build_initial_tokens = ct_build_initial_tokens
    return loop


def replay(loop, item, session, **kwargs) -> AgentLoopOutput:
    kwargs = {**item, "session_id": session, "global_steps": 7, **kwargs}
    return asyncio.run(loop.run({"temperature": 1.0}, **kwargs))


@pytest.fixture
def item(tmp_path, monkeypatch):
    """A row of a pair as verl's dataset hands it over."""
    made(tmp_path, "preference", [{"prompt": "1+2=", "chosen": "#### 3", "rejected": "4 or é"}])
    return rlhf_dataset([tmp_path / "o/train.parquet"], tmp_path, monkeypatch, max_prompt_length=100)[0]


def test_even_sessions_replay_chosen_and_odd_ones_rejected(tokenizer_folder, item):
    loop = agent_loop(tokenizer_folder)
    assert isinstance(loop, AgentLoopBase) and item["agent_name"] == "recorded_response"
    end = loop.tokenizer.eos_token_id
    for session in range(5):
        out = replay(loop, item, session)
        text, sign = ("#### 3", 1) if session % 2 == 0 else ("4 or é", -1)
        assert out.response_ids.count(end) == 1 and out.response_ids[-1] == end  # once, at the end
        assert loop.tokenizer.decode(out.response_ids[:-1]) == text
        assert loop.tokenizer.decode(out.prompt_ids) == "<|user|>1+2=<|im_end|>\n<|assistant|>"
        assert out.extra_fields["preference"] == sign and out.extra_fields["global_steps"] == 7
        assert out.response_mask == [1] * len(out.response_ids) and out.num_turns == 2
        assert out.response_logprobs == [0.0] * len(out.response_ids)
    assert replay(agent_loop(tokenizer_folder, log_probs=False), item, 0).response_logprobs is None


def test_an_answer_that_ends_with_the_end_marker_gets_no_second_one(tokenizer_folder, item):
    loop = agent_loop(tokenizer_folder)
    closed = {**item["extra_info"], "chosen": "#### 3<|im_end|>"}
    assert replay(loop, item, 0, extra_info=closed).response_ids == replay(loop, item, 0).response_ids


def test_an_over_long_answer_is_refused_with_the_cure(tokenizer_folder, item):
    """`#### 3` has 6 bytes and the end marker; `4 or é` has one byte more. The script counts as the loop does."""
    assert replay(agent_loop(tokenizer_folder, response_length=7), item, 0).response_ids
    with pytest.raises(ValueError, match=r"8 tokens, more than data.max_response_length=7.*--max_tokens N"):
        replay(agent_loop(tokenizer_folder, response_length=7), item, 1)
    length = preference.length_of(str(tokenizer_folder))
    for text in ("#### 3", "4 or é", "#### 3<|im_end|>", "two\n\n words "):
        loop = agent_loop(tokenizer_folder)
        made = replay(loop, item, 0, extra_info={**item["extra_info"], "chosen": text})
        assert length(text) == len(made.response_ids)


def test_a_row_without_answers_says_what_writes_them(tokenizer_folder, item):
    for extra in (None, {}, {**item["extra_info"], "chosen": ""}):
        with pytest.raises(ValueError, match="frpo_verl data preference"):
            replay(agent_loop(tokenizer_folder), item, 0, extra_info=extra)


def test_the_agent_loop_is_registered_with_verl():
    frpo_verl.register()
    target = module._agent_loop_registry["recorded_response"]["_target_"]
    name, _, cls = target.rpartition(".")
    assert getattr(sys.modules[name], cls) is RecordedResponse
