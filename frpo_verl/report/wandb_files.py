"""The numbers of verl's `wandb` logger, from the files that Weights & Biases writes offline (WANDB_MODE=offline).

A .wandb file is a log as LevelDB writes it: 7 bytes of header, then blocks of 32 KiB with chunks of a checksum (4 bytes), a
length (2), a kind (1: a whole record, 2 to 4: its first, middle and last part) and data. A record is a protobuf of wandb's.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

HEADER, BLOCK, CHUNK = 7, 32768, 7
FILES = "run-*.wandb"
PLACES = (FILES, f"*/{FILES}", f"wandb/*/{FILES}")


def wandb_files(folder: Path) -> list[Path]:
    """Offline files in the folder, or where W&B puts them below it, the oldest first."""
    found = {file for place in PLACES for file in folder.glob(place) if not file.parent.is_symlink()}
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def chunk_at(data: bytes, place: int) -> tuple[int, bytes, bool]:
    """(kind, data, whether its checksum is right) of a chunk."""
    check, length, kind = struct.unpack_from("<IHB", data, place)
    chunk = data[place + CHUNK : place + CHUNK + length]
    return kind, chunk, len(chunk) == length and zlib.crc32(bytes([kind]) + chunk) == check


def records(data: bytes) -> Iterator[bytes | None]:
    """The records of a file; None for a damaged stretch: reading goes on with the next chunk, or the next block."""
    place, parts = HEADER, None
    while place + CHUNK <= len(data):
        left = BLOCK - place % BLOCK
        if left < CHUNK:
            place += left
            continue
        kind, chunk, sound = chunk_at(data, place)
        after = place + CHUNK + len(chunk)
        if not sound:
            if after >= len(data):
                return  # still being written, or cut off
            yield None
            parts = None
            place = after if after + CHUNK <= len(data) and chunk_at(data, after)[2] else place + left
            continue
        place = after
        parts = chunk if kind in (1, 2) else None if parts is None else parts + chunk
        if kind in (1, 4) and parts is not None:
            yield parts


def read_wandb(
    files: list[Path], project: str | None = None, name: str | None = None
) -> tuple[dict[int, dict[str, float]], list[str]]:
    """(step -> its numbers, notes); a later file or record of a step wins. Needs the package `wandb`.

    Args:
        project, name: where given, only files of runs that are called so are read.
    """
    steps: dict[int, dict[str, float]] = {}
    if not files:
        return steps, []
    try:
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError:
        return steps, [f"{len(files)} files of Weights & Biases not read: pip install wandb"]
    notes = []
    for file in files:
        found, damaged = 0, 0
        for content in records(file.read_bytes()):
            if content is None:
                damaged += 1
                continue
            record = Record.FromString(content)
            if record.HasField("run") and name is not None:
                if (record.run.project, record.run.display_name) != (project, name):
                    break
            for item in record.history.item:
                key, value = item.key or "/".join(item.nested_key), _number(item.value_json)
                if not key.startswith("_") and value is not None:
                    steps.setdefault(int(record.history.step.num), {})[key] = value
                    found += 1
        if damaged:
            many = "a damaged record" if damaged == 1 else f"{damaged} damaged records"
            notes.append(f"{file.name}: {many} left out, what follows is read")
        elif not found and name is None:
            notes.append(f"{file.name}: no number could be read from it")
    return dict(sorted(steps.items())), notes


def _number(text: str) -> float | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if value in ("NaN", "Infinity", "-Infinity"):
        return math.nan
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
