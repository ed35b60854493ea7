"""Files of a report: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace_file(path: str | Path, write: Callable[[str], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it: readers see the old file or the new one.

    Args:
        path: the file; its folder is made.
        write: is given the temporary name, which has the ending of ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str, errors: str = "replace") -> Path:
    """Write UTF-8; half a surrogate pair, which no encoding has, is handled by ``errors``."""
    return replace_file(path, lambda name: Path(name).write_text(text, encoding="utf-8", errors=errors))


def write_json(path: str | Path, content: dict) -> Path:
    """Write JSON; a lone surrogate is written as its escape."""
    return write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n", errors="backslashreplace")
