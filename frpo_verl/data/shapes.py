"""What a column of a source holds, as text: scalars, chats, lists, and JSON or Python literals of them in a column of text."""

from __future__ import annotations

import ast
import json
import math
import numbers
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..rewards.spelling import DELIMITERS

ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user"}
ROLES |= dict.fromkeys(("assistant", "gpt", "model"), "assistant")
VALUE_FIELDS = (
    "value",
    "text",
    "content",
    "answer",
    "final_answer",
    "ground_truth",
)  # of an object that stands for a text
SHOWN = 80  # characters of a value in an error


class Unreadable(ValueError):
    """A value that is no text in any known shape; the message names the field, where it is known."""


def parsed(value: Any) -> Any:
    """The object, list of objects or list of texts that a text is the JSON or the Python literal of; else the value itself."""
    if not isinstance(value, str) or (value[:1] + value[-1:]) not in ("{}", "[]"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():  # of escapes that Python does not know, such as in "\pi"
                warnings.simplefilter("ignore")
                found = read(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        parts = [found] if isinstance(found, Mapping) else found if isinstance(found, list) else []
        if parts and parts != [{}] and all(isinstance(part, (Mapping, str)) for part in parts):
            return found
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """A column that holds an object, as it is or as text; None is an empty one."""
    value = parsed(value.strip() if isinstance(value, str) else value)
    if value in (None, "", "{}"):
        return {}
    if not isinstance(value, Mapping):
        raise Unreadable("no object")
    return value


def messages_of(value: Any) -> list[tuple[str, str]]:
    """A chat as (role, content) pairs, contents stripped: `role`/`content` or `from`/`value`, contents as text or parts of text."""
    messages = [value] if isinstance(value, Mapping) else value
    if not isinstance(messages, (list, tuple)) or not all(isinstance(m, Mapping) for m in messages):
        raise Unreadable("no chat")
    out = []
    for message in messages:
        role = ROLES.get(str(message.get("role") or message.get("from")).lower())
        content = message.get("content") if message.get("content") is not None else message.get("value")
        parts = content if isinstance(content, (list, tuple)) else []
        if parts and all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts):
            content = "".join(str(part.get("text") or "") for part in parts)
        if role is None or not isinstance(content, (str, type(None))):
            raise Unreadable(f"a message that is no text, or not by one of {', '.join(ROLES)}")
        out.append((role, (content or "").strip()))
    return out


def is_chat(value: Any) -> bool:
    """Whether a value has the shape of a chat: messages with a role."""
    messages = [value] if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else []
    return bool(messages) and all(isinstance(m, Mapping) and ("role" in m or "from" in m) for m in messages)


def text(value: Any, role: str = "user") -> str | None:
    """A value as text: 27.0 -> "27", texts stripped, a list joined by ", ", of a chat the last message of `role`; None stays None.

    Raises Unreadable for everything else: the text of an object is never a text.
    """
    value = parsed(value.strip()) if isinstance(value, str) else value
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
    if isinstance(value, numbers.Number):
        return str(value)
    if is_chat(value):
        return next((content for who, content in reversed(messages_of(value)) if who == role), None)
    if isinstance(value, Mapping):
        name = next((name for name in VALUE_FIELDS if value.get(name) is not None), None)
        if name is not None:
            return text(value[name], role)
    elif isinstance(value, (list, tuple)):
        parts = [strip_math_delimiters(part) for part in (text(item) for item in value) if part]
        return ", ".join(parts) if parts else None
    raise Unreadable("no text, number, chat, or list of texts")


def label(value: Any) -> str | None:
    """A value that only describes a row: as text, or None where it has none."""
    try:
        return text(value)
    except Unreadable:
        return None


def read(name: str, value: Any, reader: Callable[[Any], Any] = text) -> Any:
    """`reader(value)`; raises Unreadable with the field's name and the beginning of the value."""
    try:
        return reader(value)
    except Unreadable as error:
        content = " ".join(repr(value).split())
        shown = content if len(content) <= SHOWN else f"{content[:SHOWN]} ..."
        raise Unreadable(f"{name}={shown}: {error}") from None


def read_first(row: Mapping[str, Any], names: Iterable[str], reader: Callable[[Any], Any] = text) -> Any:
    """The first of `names` that `row` has with a value, read; None where all are None, nan, or an empty text or list."""
    for name in names:
        value = row.get(name)
        if value is not None and value == value and value not in ("", []):
            return read(name, value, reader)
    return None


def strip_math_delimiters(answer: str) -> str:
    r"""Remove one pair of `$..$`, `$$..$$`, `\(..\)` or `\[..\]` around the whole answer."""
    answer = answer.strip()
    for left, right in DELIMITERS:
        if len(answer) >= len(left) + len(right) and answer.startswith(left) and answer.endswith(right):
            inner = answer[len(left) : len(answer) - len(right)]
            several = any(mark in inner for mark in (left[-1:] if left[0] == "$" else left, right[-2:]))
            return answer if several else inner.strip()
    return answer
