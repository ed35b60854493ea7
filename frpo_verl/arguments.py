"""Numbers on the command line: what argparse's `type` takes, with one line on what is allowed."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any


def positive_int(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def number(kind: Callable[[str], Any], allowed: Callable[[Any], bool], words: str) -> Callable[[str], Any]:
    """A number of a kind (float, Fraction) that is allowed; `words` say which are."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except (ValueError, ZeroDivisionError):
            value = None
        if value is None or not allowed(value):
            raise ArgumentTypeError(f"must be {words}, not {text!r}")
        return value

    return parse
