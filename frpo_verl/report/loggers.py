"""The numbers of verl's `tensorboard` and `wandb` loggers, from the files that these leave behind.

A record of TensorBoard's: length (8 bytes), its checksum (4), an event, its checksum (4). Weights & Biases writes offline
(WANDB_MODE=offline) a log as LevelDB does: 7 bytes of header, then blocks of 32 KiB with chunks of a checksum (4), a length (2), a
kind (1: a whole record, 2 to 4: its first, middle and last part) and data. What is damaged is left out and named; reading goes on
behind it, at the next place where a checksum is right.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

EVENTS, OFFLINE = "events.out.tfevents.*", "run-*.wandb"
SEARCHED = 1 << 20  # bytes behind a damaged length in which the next record of TensorBoard's is looked for
HEADER, BLOCK, CHUNK = 7, 32768, 7  # bytes of a .wandb file

#: step -> name of a metric -> its number
Steps: TypeAlias = dict[int, dict[str, float]]
#: (place, record), None for a damaged one
Records: TypeAlias = Iterator[tuple[int, "bytes | None"]]
#: (step, name, value), or the place of a damaged record
Numbers: TypeAlias = Iterator["tuple[int, str, float] | int"]


def _sorted(folder: Path, *places: str) -> list[Path]:
    """The files at these places, the oldest first."""
    found = {file for place in places for file in folder.glob(place) if file.is_file() and not file.parent.is_symlink()}
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def event_files(folder: Path) -> list[Path]:
    """TensorBoard's files in the folder or up to two folders below it."""
    return _sorted(folder, EVENTS, f"*/{EVENTS}", f"*/*/{EVENTS}")


def wandb_files(folder: Path) -> list[Path]:
    """Weights & Biases' files in the folder, or where it puts them below it."""
    return _sorted(folder, OFFLINE, f"*/{OFFLINE}", f"wandb/*/{OFFLINE}")


def event_records(data: bytes, checksum: Callable[[bytes], int]) -> Records:
    """The records of an event file; one that is cut off at the end is left out."""

    def sound(start: int, end: int) -> bool:
        """Whether the checksum behind these bytes is theirs."""
        return checksum(data[start:end]) == struct.unpack_from("<I", data, end)[0]

    place = 0
    while place + 16 <= len(data):
        if not sound(place, place + 8):
            yield place, None
            ahead = range(place + 1, min(place + SEARCHED, len(data) - 15))
            place = next((there for there in ahead if sound(there, there + 8)), len(data))
            continue
        start = place + 12
        end = start + struct.unpack_from("<Q", data, place)[0]
        if end + 4 > len(data):
            return
        yield place, data[start:end] if sound(start, end) else None
        place = end + 4


def _chunk_at(data: bytes, place: int) -> tuple[int, bytes, bool]:
    """(kind, data, whether its checksum is right) of a chunk."""
    check, length, kind = struct.unpack_from("<IHB", data, place)
    chunk = data[place + CHUNK : place + CHUNK + length]
    return kind, chunk, len(chunk) == length and zlib.crc32(bytes([kind]) + chunk) == check


def wandb_records(data: bytes) -> Records:
    """The records of a .wandb file; behind a damaged one it goes on with the next chunk, or the next block."""
    place, parts = HEADER, None
    while place + CHUNK <= len(data):
        left = BLOCK - place % BLOCK
        if left < CHUNK:
            place += left
            continue
        kind, chunk, sound = _chunk_at(data, place)
        after = place + CHUNK + len(chunk)
        if not sound:
            if after >= len(data):
                return  # still being written, or cut off
            yield place, None
            parts = None
            place = after if after + CHUNK <= len(data) and _chunk_at(data, after)[2] else place + left
            continue
        parts = chunk if kind in (1, 2) else None if parts is None else parts + chunk
        if kind in (1, 4) and parts is not None:
            yield place, parts
        place = after


def as_number(value: object) -> float | None:
    """A value as a float, null as nan; None for what is no number."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf


def _event_numbers(file: Path) -> Numbers:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.util import tensor_util

    for place, record in event_records(file.read_bytes(), masked_crc32c):
        try:
            event = None if record is None else Event.FromString(record)
        except DecodeError:
            event = None
        if event is None:
            yield place
            continue
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "tensor" and not value.tensor.tensor_shape.dim:
                yield int(event.step), value.tag, float(tensor_util.make_ndarray(value.tensor))
            elif kind == "simple_value":
                yield int(event.step), value.tag, float(value.simple_value)


def _wandb_numbers(project: str | None, name: str | None, file: Path) -> Numbers:
    from wandb.proto.wandb_internal_pb2 import Record

    for place, content in wandb_records(file.read_bytes()):
        if content is None:
            yield place
            continue
        record = Record.FromString(content)
        if record.HasField("run") and name is not None:
            if (record.run.project, record.run.display_name) != (project, name):
                return
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            try:
                parsed = json.loads(item.value_json)
            except ValueError:
                continue
            value = math.nan if parsed in ("NaN", "Infinity", "-Infinity") else as_number(parsed)
            if not key.startswith("_") and parsed is not None and value is not None:
                yield int(record.history.step.num), key, value


def _gathered(
    files: Sequence[Path], numbers: Callable[[Path], Numbers], what: str, package: str, all_named: bool = True
) -> tuple[Steps, list[str]]:
    """(step -> its numbers, notes); a later file or record of a step wins. ``all_named``: a file without a number is said."""
    steps: Steps = {}
    notes = []
    for file in files:
        found, damaged = 0, []
        try:
            for item in numbers(file):
                if isinstance(item, int):
                    damaged.append(item)
                    continue
                step, key, value = item
                steps.setdefault(step, {})[key] = value
                found += 1
        except ImportError:
            return {}, [f"{len(files)} {what} not read: pip install {package}"]
        except OSError as error:
            notes.append(f"left out {file.name}: {error.strerror or error}")
            continue
        if not found and all_named:
            notes.append(f"{file.name}: no number could be read from it")
        elif damaged:
            many = "a damaged record" if len(damaged) == 1 else f"{len(damaged)} damaged records, the first"
            notes.append(f"{file.name}: {many} at byte {damaged[0]} left out, what follows is read")
    return dict(sorted(steps.items())), notes


def read_events(files: Sequence[Path]) -> tuple[Steps, list[str]]:
    """What TensorBoard's files hold, as `_gathered`; needs the package `tensorboard`."""
    return _gathered(files, _event_numbers, "TensorBoard event files", "tensorboard")


def read_wandb(files: Sequence[Path], project: str | None = None, name: str | None = None) -> tuple[Steps, list[str]]:
    """What Weights & Biases' files hold, those of other runs left out where `project` and `name` are given; needs `wandb`."""
    numbers = partial(_wandb_numbers, project, name)
    return _gathered(files, numbers, "files of Weights & Biases", "wandb", name is None)
