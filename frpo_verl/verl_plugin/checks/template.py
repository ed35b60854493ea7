"""Does the engine stop where the model's chat template ends an answer? Base and converted models often say otherwise."""

from __future__ import annotations

from typing import Any

from ..hooks import say
from ..run import Run

MARK = "\x02"


def end_of_turn(tokenizer: Any) -> int | None:
    """The special token behind an answer in the chat template; None where there is none, or it cannot be seen."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    try:
        _, _, behind = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(MARK)
        ids = tokenizer.encode(behind.strip(), add_special_tokens=False)
    except Exception:  # templates are programs of others: without a template, or strict about turns
        return None
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None


def stops(tokenizer: Any) -> set[int]:
    """Where rollout engines stop: the tokenizer's end and those of generation_config.json."""
    from verl.utils.model import get_generation_config

    config = get_generation_config(tokenizer.name_or_path)
    named = getattr(config, "eos_token_id", None)
    return {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}


def warn_of_end(run: Run, tokenizer: Any) -> None:
    """Say that answers may run on behind their end: reward and KL then count the rest."""
    end = end_of_turn(tokenizer)
    if end is None or end in (known := stops(tokenizer)):
        return
    names = ", ".join(tokenizer.convert_ids_to_tokens(sorted(known))) or "nothing"
    say(
        f"actor_rollout_ref.model.path={run.get('actor_rollout_ref.model.path')}: its chat template ends an answer with "
        f"{tokenizer.convert_ids_to_tokens(end)}, its tokenizer and generation_config.json with {names}: answers may run on, and "
        "reward and KL count it; name the template's end as eos_token in both, or watch frpo/cut_off_frac"
    )
