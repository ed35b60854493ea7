"""The quickstart's tokenizer: bytes in, the same bytes out, for transformers and for verl."""

import pytest

from frpo_verl.quickstart.tokenizer import SPECIAL
from frpo_verl.quickstart.warm_start import template_parts


def test_a_byte_is_a_token_and_nothing_is_lost(tokenizer):
    assert len(tokenizer) == 256 + len(SPECIAL)
    for text in ("47+8+5+9=", "55\n60\n#### 69", "\n", "\n\n", " a  b\t'll 's\r\n", "Zoë’s π ≈ 3.14159…", "日本", "🙂"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) == len(text.encode()), text
        assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for token in SPECIAL:
        assert tokenizer.encode(token, add_special_tokens=False) == [tokenizer.convert_tokens_to_ids(token)]
    assert tokenizer.decode(tokenizer.encode("<|user|>7<|im_end|>"), skip_special_tokens=True) == "7"


def test_chat_template(tokenizer):
    turns = [{"role": "user", "content": "1+2="}, {"role": "assistant", "content": "#### 3"}]
    question = "<|user|>1+2=<|im_end|>\n<|assistant|>"
    assert tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True) == question
    assert tokenizer.apply_chat_template(turns, tokenize=False) == question + "#### 3<|im_end|>\n"
    assert template_parts(tokenizer) == ("<|user|>", "<|im_end|>\n<|assistant|>", "<|im_end|>")


def test_verl_reads_the_tokenizer(tokenizer):
    """Prompts and tool turns as verl's agent loop puts them together for model_type qwen3."""
    verl_tokenizer = pytest.importorskip("verl.utils.tokenizer")
    continuous = pytest.importorskip("verl.utils.tokenizer.continuous_token")
    loaded = verl_tokenizer.hf_tokenizer(tokenizer.name_or_path)
    builder = continuous.QwenContinuousTokenBuilder(loaded)
    ids = builder.build_initial_tokens([{"role": "user", "content": "1+2="}])
    assert loaded.decode(ids) == "<|user|>1+2=<|im_end|>\n<|assistant|>"
