"""The metrics that docs/diagnostics.md documents, under the names that reach verl's loggers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "diagnostics.md"


def documented() -> list[str]:
    """The names in the first column of the page's tables; `q1..q4` stands for four of them."""
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    return [name for row in rows for name in _expanded(row)]


def _expanded(row: str) -> list[str]:
    stem, _, quarters = row.partition("q1..q4")
    return [f"{stem}q{i}{quarters}" for i in (1, 2, 3, 4)] if "q1..q4" in row else [row]


def assert_documented(logged: Iterable[str]) -> None:
    """Every logged name that speaks of us stands in docs/diagnostics.md, under that very name."""
    ours = {name for name in logged if re.search(r"(^|/)(frpo|f_grpo|rpg_kl)(/|$)", name)}
    missing = sorted(ours - set(documented()))
    assert not missing, f"logged and not in docs/diagnostics.md: {', '.join(missing)}"
