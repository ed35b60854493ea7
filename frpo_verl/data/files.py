"""Parquet files and their cards, written to temporary names and renamed when all of them are whole.

Every file has the same columns and types (`SCHEMA`), because verl concatenates all files of `data.train_files` and of
`data.val_files`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .examples import InputError

EXTRA_INFO = [
    ("split", pa.string()),
    ("index", pa.int64()),  # row number in the source, from 0
    ("id", pa.string()),  # the source's own id, or NAME/SPLIT/INDEX
    ("question", pa.string()),  # without suffix
    ("answer", pa.string()),  # the source's worked solution, or its answer as it stood
    ("subject", pa.string()),
    ("level", pa.string()),
    ("repeat", pa.int64()),  # 0 .. N-1 under --repeat N
]
SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct(EXTRA_INFO)),
    ]
)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def temporary_beside(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o644)
    return Path(name)


def refuse_to_overwrite(targets: Iterable[Path], sources: Iterable[str | Path | None] = ()) -> None:
    """Raise InputError where a target is a file that is read, or one that these scripts have not written (no card beside it)."""
    read = {Path(source).expanduser().resolve() for source in sources if source is not None}
    for path in targets:
        if path.resolve() in read:
            raise InputError(f"{path} is read and would be overwritten: choose another --local_save_dir")
        if path.exists() and not path.with_suffix(".card.json").exists():
            raise InputError(
                f"{path} is there and was not written by these scripts (no {path.stem}.card.json beside it): choose "
                "another --local_save_dir, or move it away"
            )


def write_rows(
    rows: Iterable[Mapping[str, Any]], path: str | Path, card: Mapping[str, Any], schema: pa.Schema = SCHEMA
) -> dict:
    """Write row dicts to `path` (parquet) and `card`, with `rows_out` and `sha256` added, to `NAME.card.json`
    beside it.

    Both are written to temporary names and renamed at the end: an error or an interruption leaves what was
    there before. `schema` may extend SCHEMA by columns; keep the shared ones as they are, for verl
    concatenates files. Returns the card. Raises InputError if there is no row or a row does not fit the
    schema.
    """
    return write_files([(rows, Path(path), card)], schema)[0]


def write_files(
    files: list[tuple[Iterable[Mapping[str, Any]], Path, Mapping[str, Any]]], schema: pa.Schema = SCHEMA
) -> list[dict]:
    """`write_rows` for several files: all are written out before the first is renamed into place."""
    renames: list[tuple[Path, Path]] = []
    cards = []
    try:
        for rows, path, card in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = temporary_beside(path)
            renames.append((data, path))
            count = write_parquet(rows, data, path, schema)
            card = {**card, "file": path.name, "rows_out": count, "sha256": sha256(data)}
            card_path = path.with_suffix(".card.json")
            temporary = temporary_beside(card_path)
            renames.append((temporary, card_path))
            temporary.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            cards.append(card)
        for temporary, path in renames:
            os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or files[0][1]}: {error.strerror or error}") from None
    finally:
        for temporary, _ in renames:
            temporary.unlink(missing_ok=True)
    return cards


def write_parquet(rows: Iterable[Mapping[str, Any]], target: Path, name: Path, schema: pa.Schema) -> int:
    count = 0
    batch: list[Mapping[str, Any]] = []
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for row in rows:
            batch.append(row)
            if len(batch) == 8192:
                count += write_batch(writer, batch, schema, name)
                batch = []
        if batch:
            count += write_batch(writer, batch, schema, name)
    if not count:
        raise InputError(f"nothing to write to {name}: no row was left")
    return count


def write_batch(writer: pq.ParquetWriter, batch: list[Mapping[str, Any]], schema: pa.Schema, name: Path) -> int:
    unknown = {key for row in batch for key in row} - set(schema.names)
    if unknown:
        raise InputError(f"{name}: column {sorted(unknown)[0]!r} is not in the schema ({', '.join(schema.names)})")
    try:
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))
    except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
        raise InputError(f"{name}: a row does not fit the schema: {' '.join(str(error).split())}") from None
    return len(batch)
