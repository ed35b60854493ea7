"""A model whose chat template ends an answer with another token than its tokenizer: said once, before anything starts."""

import json

import pytest
from omegaconf import OmegaConf

from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer
from frpo_verl.verl_plugin.checks import template
from frpo_verl.verl_plugin.run import Run

RUN = Run(OmegaConf.create({"actor_rollout_ref": {"model": {"path": "MODEL"}}}))


@pytest.fixture
def model(tmp_path):
    write_tokenizer(tmp_path)
    return tmp_path


def warned(folder, capsys, eos=None, text=None, generation=None):
    """What a folder whose tokenizer has this end, template and generation_config.json is told."""
    tokenizer = load_tokenizer(folder)
    tokenizer.eos_token = eos or tokenizer.eos_token
    tokenizer.chat_template = tokenizer.chat_template if text is None else text
    config = {"eos_token_id": generation} if generation else {}
    (folder / "generation_config.json").write_text(json.dumps(config))
    template.warn_of_end(RUN, tokenizer)
    return capsys.readouterr().err


def test_an_end_that_no_engine_stops_at_is_said(model, capsys):
    said = warned(model, capsys, eos="<|endoftext|>")
    assert said.startswith(
        "frpo_verl: actor_rollout_ref.model.path=MODEL: its chat template ends an answer with <|im_end|>"
    )
    assert "generation_config.json with <|endoftext|>: answers may run on" in said and said.count("\n") == 1


def test_an_end_that_one_of_both_names_is_none(model, capsys):
    end = load_tokenizer(model).convert_tokens_to_ids("<|im_end|>")
    assert warned(model, capsys) == ""
    assert warned(model, capsys, eos="<|endoftext|>", generation=[0, end]) == ""


@pytest.mark.parametrize(
    "text", ["{{ raise_exception('roles') }}", "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}", ""],
    ids=["a strict template", "no end", "no template"],
)  # fmt: skip
def test_what_cannot_be_seen_is_not_said(model, capsys, text):
    assert warned(model, capsys, eos="<|endoftext|>", text=text) == ""
