"""Files and folders appear whole or not at all: written under temporary names, then renamed. JSON lines are read one by one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["json_lines", "read_json", "write_atomically", "write_together"]

#: text (UTF-8), bytes, or a function that writes a file, or makes a folder, at the path it is given
Content: TypeAlias = str | bytes | Callable[[Path], object]


def write_atomically(path: str | Path, content: Content) -> Path:
    """Write a file under a temporary name beside its place and rename it there.

    Args:
        path: where the file shall stand; missing folders are made.
        content: text, bytes, or a function that writes a file, or makes a folder, at the path it is given.

    Returns:
        the path. What was there before stays until the new file is complete; a failure leaves no temporary file.
    """
    return write_together({path: content})[0]


def write_together(contents: Mapping[str | Path, Content]) -> list[Path]:
    """`write_atomically` for several files, in their order: all are complete before the first is renamed into place."""
    renames: dict[Path, Path] = {}
    try:
        for path, content in ((Path(path), content) for path, content in contents.items()):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(
                f".{path.stem}.{os.getpid()}{path.suffix}"
            )  # the suffix tells writers the format
            renames[temporary] = path
            if callable(content):
                content(temporary)
            else:
                temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        for temporary, path in renames.items():
            if temporary.is_dir() and path.is_dir():  # no folder is renamed onto another
                os.replace(path, _aside(temporary))
            os.replace(temporary, path)
    finally:
        for temporary in renames:
            for left in (temporary, _aside(temporary)):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return list(renames.values())


def _aside(temporary: Path) -> Path:
    return temporary.with_name(f"{temporary.name}.old")


def read_json(path: Path) -> Any:
    """What a file of JSON holds; None where it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def json_lines(path: Path, fault: type[Exception]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, object) of each line that is not empty; raises `fault`, naming file and line, for one that is no object."""
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise fault(f"{path}, line {number}: not JSON ({str(error)[:80]})") from None
            if not isinstance(row, dict):
                raise fault(f"{path}, line {number}: expected an object, found {type(row).__name__}")
            yield number, row
