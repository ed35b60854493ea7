"""Where rows come from: jsonl, json, parquet and arrow files, folders of them, and the hub."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from ..files import json_lines
from .examples import DataSet, InputError
from .writing import sha256

LIST_KEYS = ("data", "rows", "examples", "instances")
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def read_json(path: Path) -> Iterator[dict]:
    """A list of objects, an object with such a list under one of the usual keys, or (misnamed) JSON lines."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except json.JSONDecodeError:
        yield from READERS[".jsonl"](path)
        return
    if isinstance(content, dict):
        lists = [content[key] for key in LIST_KEYS if isinstance(content.get(key), list)]
        content = lists[0] if lists else [content]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InputError(f"{path}: expected a list of objects, or an object with one under {', '.join(LIST_KEYS)}")
    yield from content


def read_arrow(path: Path) -> Iterator[dict]:
    with pa.memory_map(str(path)) as source:
        try:
            batches = iter(pa.ipc.open_stream(source))
        except pa.ArrowInvalid:
            source.seek(0)
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        for batch in batches:
            yield from batch.to_pylist()


def read_parquet(path: Path) -> Iterator[dict]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            yield from batch.to_pylist()


READERS: dict[str, Callable[[Path], Iterator[dict]]] = {
    ".jsonl": lambda path: (row for _, row in json_lines(path, InputError)),
    ".json": read_json,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}


def read_file(path: Path) -> Iterator[dict]:
    """The rows of one jsonl, json, parquet or arrow file; raises InputError on anything it cannot read."""
    try:
        yield from READERS[path.suffix](path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from None


def is_data(path: Path, root: Path) -> bool:
    """A readable file: no metadata, not hidden, and not written by these scripts (parquet beside a card)."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    ours = path.name.endswith(".card.json") or path.suffix == ".parquet" and path.with_suffix(".card.json").exists()
    return path.suffix in READERS and path.is_file() and path.name not in NOT_DATA and not hidden and not ours


def find_files(root: Path, dataset: DataSet, split: str) -> list[Path]:
    """The files below `root` that hold one split; [] if there is none.

    Found are `train.jsonl`, `gsm8k_train.json`, `data/train-00000-of-00003.parquet`, `train/*.arrow` and so
    on; a set of a single split also under its own name (`aime24.jsonl`), its configuration's, or as the only
    data file. If there is a folder named as the configuration (`main/`), only that one is searched. Raises
    InputError where it is ambiguous.
    """
    if dataset.hub_config:
        folders = [p for p in sorted(root.rglob(dataset.hub_config)) if p.is_dir()]
        root = folders[0] if len(folders) == 1 else root
    files = [p for p in sorted(root.rglob("*")) if is_data(p, root)]
    if len(dataset.splits) == 1:
        named = [p for p in files if p.stem in (dataset.name, dataset.hub_config)]
        if named or len(files) == 1:
            return unambiguous(named or files, [p.stem for p in named], root, split)
    for name in dict.fromkeys([split, dataset.splits[split]]):
        pattern = re.compile(rf"(?P<prefix>.*?)(?:^|[-_.]){re.escape(name)}(?:-\d+-of-\d+)?$")
        matches = [(p, pattern.search(p.stem)) for p in files]
        found = [(p, m["prefix"] if m else "") for p, m in matches if m or name in p.relative_to(root).parts[:-1]]
        if found:
            return unambiguous([p for p, _ in found], [prefix for _, prefix in found], root, split)
    return []


def unambiguous(files: list[Path], prefixes: list[str], root: Path, split: str) -> list[Path]:
    """`files`, if they are of one format and one name up to the shard number; else InputError."""
    if len({p.suffix for p in files}) > 1 or len(set(prefixes)) > 1:
        names = ", ".join(str(p.relative_to(root)) for p in files[:4])
        raise InputError(f"{root}: split '{split}' may be any of {names}: give one file as --local_dataset_path")
    return files


@dataclass
class RowSource:
    """Rows of one split, and what the card says of where they came from."""

    description: dict[str, Any]
    rows: Iterable[Mapping[str, Any]]
    total: int | None = None


def open_hub(dataset: DataSet, split: str) -> RowSource:
    import datasets

    place = {"repository": dataset.hub, "config": dataset.hub_config, "split": dataset.splits[split]}
    try:
        data = datasets.load_dataset(dataset.hub, dataset.hub_config, split=dataset.splits[split])
    except Exception as error:  # the hub client raises many kinds: offline, gated, renamed, disk full
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot load {dataset.hub} from the hub ({type(error).__name__}: {reason}); "
            "give a copy on disk with --local_dataset_path"
        ) from None
    files = sorted(data.info.download_checksums or {})  # these name the commit
    return RowSource({"kind": "hub", **place, "files": files}, data, len(data))


def open_source(dataset: DataSet, path: str | None, split: str | None) -> dict[str, RowSource]:
    """The splits of a set, or the one that was asked for, from a copy on disk or (None) from the hub."""
    wanted = list(dataset.splits) if split is None else [split]
    if path is None:
        return {name: open_hub(dataset, name) for name in wanted}
    root = Path(path).expanduser()
    if not root.exists():
        raise InputError(f"--local_dataset_path {path}: no such file or folder")
    if root.is_file():
        if root.suffix not in READERS:
            raise InputError(f"--local_dataset_path {path}: unknown kind of file; allowed: {', '.join(READERS)}")
        if len(wanted) > 1:
            named = [s for s in wanted if re.search(rf"(?:^|[-_.]){re.escape(s)}(?:$|[-_.])", root.stem)]
            if len(named) != 1:
                raise InputError(f"--local_dataset_path {path}: is it {' or '.join(wanted)}? Say so with --split")
            wanted = named
        files = {wanted[0]: [root]}
    else:
        files = {split: find_files(root, dataset, split) for split in wanted}
        missing = [split for split in wanted if not files[split]]
        if len(missing) == len(wanted):
            stem = dataset.name if len(dataset.splits) == 1 else missing[0]
            raise InputError(f"--local_dataset_path {path}: no {stem}.jsonl, .json, .parquet or .arrow there")
        for split in missing:
            print(f"{dataset.name}: no file for split '{split}' under {path}, left out", file=sys.stderr)
    return {
        split: RowSource(
            {"kind": "local", "files": [{"name": p.name, "sha256": sha256(p)} for p in found]},
            (row for p in found for row in read_file(p)),
        )
        for split, found in files.items()
        if found
    }
