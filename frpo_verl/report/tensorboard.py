"""The scalars of verl's `tensorboard` logger.

A record of an event file: length (8 bytes), its checksum (4), an event, its checksum (4). What is damaged is left out and
named; reading goes on behind it, at the next place where a length has its checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

PLACES = ("events.out.tfevents.*", "*/events.out.tfevents.*", "*/*/events.out.tfevents.*")
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
    if not files:
        return steps, []
    try:
        from google.protobuf.message import DecodeError
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
        from tensorboard.util import tensor_util
    except ImportError:
        return steps, [f"{len(files)} TensorBoard event files not read: pip install tensorboard"]
    notes = []
    for file in files:
        found, damaged = 0, []
        try:
            content = file.read_bytes()
        except OSError as error:
            notes.append(f"left out {file.name}: {error.strerror or error}")
            continue
        for place, record in records(content, masked_crc32c):
            try:
                event = Event.FromString(record) if record is not None else None
            except DecodeError:
                event = None
            if event is None:
                damaged.append(place)
                continue
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                if kind == "simple_value":
                    number = value.simple_value
                elif kind == "tensor" and not value.tensor.tensor_shape.dim:
                    number = float(tensor_util.make_ndarray(value.tensor))
                else:
                    continue
                steps.setdefault(int(event.step), {})[value.tag] = float(number)
                found += 1
        if not found:
            notes.append(f"{file.name}: no number could be read from it")
        elif damaged:
            many = "a damaged record" if len(damaged) == 1 else f"{len(damaged)} damaged records, the first"
            notes.append(f"{file.name}: {many} at byte {damaged[0]} left out, what follows is read")
    return dict(sorted(steps.items())), notes
