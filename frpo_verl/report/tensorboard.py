"""The scalars of verl's `tensorboard` logger.

A record of an event file: length (8 bytes), its checksum (4), an event, its checksum (4). What is damaged is left out and
named; reading goes on behind it, at the next place where a length has its checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

EVENTS = "events.out.tfevents.*"
PLACES = (EVENTS, f"*/{EVENTS}", f"*/*/{EVENTS}")
SEARCHED = 1 << 20  # bytes behind a damaged length in which the next record is looked for


def event_files(folder: Path) -> list[Path]:
    """Event files in the folder or up to two folders below it, the oldest first."""
    found = {file for place in PLACES for file in folder.glob(place) if file.is_file()}
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def records(data: bytes, checksum: Callable[[bytes], int]) -> Iterator[tuple[int, bytes | None]]:
    """(place, event) of each record; (place, None) for a damaged stretch. A record that is cut off at the end is left out."""

    def length_at(place: int) -> int | None:
        (length, check) = struct.unpack_from("<QI", data, place)
        return length if checksum(data[place : place + 8]) == check else None

    place = 0
    while place + 16 <= len(data):
        length = length_at(place)
        if length is None:
            yield place, None
            ahead = range(place + 1, min(place + SEARCHED, len(data) - 15))
            place = next((there for there in ahead if length_at(there) is not None), len(data))
            continue
        start, end = place + 12, place + 12 + length
        if end + 4 > len(data):
            return
        event = data[start:end]
        yield place, event if checksum(event) == struct.unpack_from("<I", data, end)[0] else None
        place = end + 4


def read_events(files: list[Path]) -> tuple[dict[int, dict[str, float]], list[str]]:
    """(step -> its numbers, notes); a later file or record of a step wins. Needs the package `tensorboard`."""
    steps: dict[int, dict[str, float]] = {}
    notes = []
    for file in files:
        try:
            found, damaged = _read_file(file, steps)
        except ImportError:
            return {}, [f"{len(files)} TensorBoard event files not read: pip install tensorboard"]
        except OSError as error:
            notes.append(f"left out {file.name}: {error.strerror or error}")
            continue
        if not found:
            notes.append(f"{file.name}: no number could be read from it")
        elif damaged:
            many = "a damaged record" if len(damaged) == 1 else f"{len(damaged)} damaged records, the first"
            notes.append(f"{file.name}: {many} at byte {damaged[0]} left out, what follows is read")
    return dict(sorted(steps.items())), notes


def _read_file(file: Path, steps: dict[int, dict[str, float]]) -> tuple[int, list[int]]:
    """Add a file's numbers to `steps`; (how many, the places of damaged records)."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.util import tensor_util

    found, damaged = 0, []
    for place, record in records(file.read_bytes(), masked_crc32c):
        try:
            event = None if record is None else Event.FromString(record)
        except DecodeError:
            event = None
        if event is None:
            damaged.append(place)
            continue
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "tensor" and not value.tensor.tensor_shape.dim:
                number = float(tensor_util.make_ndarray(value.tensor))
            elif kind == "simple_value":
                number = float(value.simple_value)
            else:
                continue
            steps.setdefault(int(event.step), {})[value.tag] = number
            found += 1
    return found, damaged
