"""A preference pair, and how a row under any of the forms in circulation becomes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .examples import ID_FIELDS, Skip, first_field, text

PROMPT_FIELDS = ("prompt", "question", "query")
CHOSEN_FIELDS = ("chosen", "chosen_response")
REJECTED_FIELDS = ("rejected", "rejected_response")
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


class Pair(NamedTuple):
    """One usable pair; `row` is its number in the source, from 0."""

    row: int
    id: str | None
    prompt: tuple[tuple[str, str], ...]  # (role, content), the last one the user's
    chosen: str
    rejected: str


def transcript(value: str) -> list[tuple[str, str]]:
    r"""The messages of a text "\n\nHuman: ...\n\nAssistant: ..."; [] if it is none."""
    parts = re.split(r"(?:\A\s*|\n\n)(Human|Assistant):", value)
    if parts[0] or len(parts) < 5 or parts[1] != "Human":
        return []
    return [(ROLES[r.lower()], c.strip()) for r, c in zip(parts[1::2], parts[2::2], strict=True)]


def messages_of(value: Any) -> list[tuple[str, str]]:
    """A chat as (role, content) pairs, contents stripped; raises Skip where it is not a chat of text."""
    messages = [value] if isinstance(value, Mapping) else value
    if not isinstance(messages, (list, tuple)) or not all(isinstance(m, Mapping) for m in messages):
        raise Skip("unreadable")
    out = []
    for message in messages:
        role = ROLES.get(str(first_field(message, ("role", "from"))).lower())
        content = first_field(message, ("content", "value"))
        parts = content if isinstance(content, (list, tuple)) else []
        if parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
            content = "".join(str(part.get("text") or "") for part in parts)
        if role is None or not isinstance(content, (str, type(None))):
            raise Skip("unreadable")
        out.append((role, (content or "").strip()))
    return out


def read_answer(value: Any) -> tuple[list[tuple[str, str]], str]:
    """(messages before the answer, the answer); the answer is the last assistant message of a chat."""
    if value is None:
        raise Skip("empty_answer")
    if isinstance(value, str) and not transcript(value):
        return [], value.strip()
    messages = transcript(value) if isinstance(value, str) else messages_of(value)
    places = [i for i, (role, _) in enumerate(messages) if role == "assistant"]
    if not places:
        raise Skip("empty_answer")
    return messages[: places[-1]], messages[places[-1]][1]


def read_prompt(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, str):
        return messages_of(value)
    messages = transcript(value) or [("user", value.strip())]
    return messages[:-1] if messages[-1] == ("assistant", "") else messages


def join_prompt(prompt: list, before: list) -> list:
    """One prompt from the field `prompt` and the messages before the answers: the longer, if it holds the other."""
    short, long = sorted((prompt, before), key=len)
    if not short or long[-len(short) :] == short:
        return long
    if long is before and all(m in before for m in prompt):  # `prompt` is the first question of several turns
        return before
    raise Skip("different_prompts")


def read_pair(row: Mapping[str, Any], index: int) -> Pair:
    """The pair of one row; raises Skip with the reason where it is broken."""
    before_chosen, chosen = read_answer(first_field(row, CHOSEN_FIELDS))
    before_rejected, rejected = read_answer(first_field(row, REJECTED_FIELDS))
    if not chosen or not rejected:
        raise Skip("empty_answer")
    if before_chosen and before_rejected and before_chosen != before_rejected:
        raise Skip("different_prompts")
    prompt = join_prompt(read_prompt(first_field(row, PROMPT_FIELDS)), before_chosen or before_rejected)
    if not prompt or not prompt[-1][1]:
        raise Skip("empty_prompt")
    if prompt[-1][0] != "user":
        raise Skip("prompt_does_not_end_with_user")
    if chosen == rejected:
        raise Skip("identical")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and prompt[0][0] != "system":
        prompt = [("system", system.strip()), *prompt]
    return Pair(index, text(first_field(row, ID_FIELDS)), tuple(prompt), chosen, rejected)
