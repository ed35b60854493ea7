"""verl's rows, and the parquet files and cards that they are written to.

Every file has the same columns and types (`SCHEMA`), because verl concatenates all files of `data.train_files` and of
`data.val_files`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import Content, write_together
from .examples import InputError

Rows: TypeAlias = Iterable[Mapping[str, Any]]
File: TypeAlias = tuple[Rows, Path, Mapping[str, Any]]  # what becomes of one: its rows, its place, its card
PROMPT_SUFFIX = r"Let's think step by step and output the final answer within \boxed{}."  # arXiv 2601.10201
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


def make_row(
    *,
    data_source: str,
    question: str,
    ground_truth: str,
    prompt_suffix: str = PROMPT_SUFFIX,
    system_prompt: str | None = None,
    **extra: str | int | None,
) -> dict[str, Any]:
    """One row as verl's RLHFDataset reads it; the user message is `question`, a space and `prompt_suffix`.

    Args:
        extra: other fields of extra_info, `split` and `index` at least.
    """
    content = f"{question} {prompt_suffix}" if prompt_suffix else question
    messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return {
        "data_source": data_source,
        "prompt": [*messages, {"role": "user", "content": content}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": {name: None for name, _ in EXTRA_INFO} | {"question": question, "repeat": 0} | extra,
    }


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


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


def write_files(files: Sequence[File], schema: pa.Schema = SCHEMA) -> list[dict[str, Any]]:
    """Write row dicts to parquet files and, beside each, its card with `file`, `rows_out` and `sha256` added; returns the cards.

    All are written out before the first is renamed into place. `schema` may extend SCHEMA by columns; keep the shared ones as they
    are, for verl concatenates files. Raises InputError, and leaves what was there before, if there is no row or a row does not fit.
    """
    cards: list[dict[str, Any]] = []
    contents: dict[str | Path, Content] = {}
    for rows, path, facts in files:
        card = {**facts, "file": path.name}
        cards.append(card)
        contents[path] = partial(_write_parquet, rows, path, schema, card)
        contents[path.with_suffix(".card.json")] = partial(_write_card, card)  # which its file completes
    try:
        write_together(contents)
    except OSError as error:
        raise InputError(f"cannot write {error.filename or files[0][1]}: {error.strerror or error}") from None
    return cards


def _write_parquet(rows: Rows, path: Path, schema: pa.Schema, card: dict[str, Any], temporary: Path) -> None:
    """Write rows, 8192 at a time, and complete their card. `path` stands for the file in errors."""
    count, left = 0, iter(rows)
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        while batch := list(islice(left, 8192)):
            unknown = {key for row in batch for key in row} - set(schema.names)
            if unknown:
                raise InputError(f"{path}: column {min(unknown)!r} is not in the schema ({', '.join(schema.names)})")
            try:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            except (pa.ArrowException, TypeError, UnicodeEncodeError) as error:
                raise InputError(f"{path}: a row does not fit the schema: {' '.join(str(error).split())}") from None
            count += len(batch)
    if not count:
        raise InputError(f"nothing to write to {path}: no row was left")
    card |= {"rows_out": count, "sha256": sha256(temporary)}


def _write_card(card: Mapping[str, Any], temporary: Path) -> None:
    temporary.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
