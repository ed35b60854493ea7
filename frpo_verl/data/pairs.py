"""A preference pair, and how a row under any of the forms in circulation becomes one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from .examples import ID_FIELDS, Skip
from .shapes import ROLES, Unreadable, is_chat, label, messages_of, parsed, read_first

PROMPT_FIELDS = ("prompt", "question", "query")
CHOSEN_FIELDS = ("chosen", "chosen_response")
REJECTED_FIELDS = ("rejected", "rejected_response")


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


def messages_in(value: Any, speaker: str) -> list[tuple[str, str]]:
    """The messages of a chat (also as JSON in a text) or a transcript; any other text is said by `speaker`."""
    found = parsed(value.strip()) if isinstance(value, str) else value
    if not isinstance(value, str) or is_chat(found):
        return messages_of(found)
    return transcript(value) or [(speaker, value.strip())]


def read_answer(value: Any) -> tuple[list[tuple[str, str]], str]:
    """(messages before the answer, the answer); the answer is the last assistant message of a chat."""
    messages = messages_in(value, "assistant")
    places = [i for i, (role, _) in enumerate(messages) if role == "assistant"]
    if not places:
        raise Skip("empty_answer")
    return messages[: places[-1]], messages[places[-1]][1]


def read_prompt(value: Any) -> list[tuple[str, str]]:
    messages = messages_in(value, "user")
    waits = str(value).rstrip().endswith("Assistant:") and messages[-1] == ("assistant", "")  # a transcript
    return messages[:-1] if waits else messages


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

    def missing() -> NoReturn:
        raise Skip("empty_answer")

    try:
        before_chosen, chosen = read_first(row, CHOSEN_FIELDS, read_answer) or missing()
        before_rejected, rejected = read_first(row, REJECTED_FIELDS, read_answer) or missing()
        asked = read_first(row, PROMPT_FIELDS, read_prompt) or []
    except Unreadable:
        raise Skip("unreadable") from None
    if not chosen or not rejected:
        raise Skip("empty_answer")
    if before_chosen and before_rejected and before_chosen != before_rejected:
        raise Skip("different_prompts")
    prompt = join_prompt(asked, before_chosen or before_rejected)
    if not prompt or not prompt[-1][1]:
        raise Skip("empty_prompt")
    if prompt[-1][0] != "user":
        raise Skip("prompt_does_not_end_with_user")
    if chosen == rejected:
        raise Skip("identical")
    system = row.get("system")
    if isinstance(system, str) and system.strip() and prompt[0][0] != "system":
        prompt = [("system", system.strip()), *prompt]
    return Pair(index, read_first(row, ID_FIELDS, label), tuple(prompt), chosen, rejected)
