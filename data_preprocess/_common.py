"""What the scripts of this folder share: read a source, make verl's rows of it, write parquet and a card.

A script describes its data set in a `DataSet` and calls `run`. A script that makes its own rows (generated
problems, preference pairs) builds them with `make_row` or by hand and calls `write_rows`.

Every file written here has the same columns and types (`SCHEMA`), because verl concatenates all files of
`data.train_files` and of `data.val_files`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import re
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

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

QUESTION_FIELDS = ("problem", "question", "Problem", "Question", "prompt", "query", "source_prompt")
ANSWER_FIELDS = ("answer", "final_answer", "Answer", "expected_answer", "ground_truth")
SOLUTION_FIELDS = ("solution", "Solution")
ID_FIELDS = ("unique_id", "id", "ID", "problem_id", "question_id", "uuid", "idx")
SUBJECT_FIELDS = ("subject", "type", "subfield", "source")
LEVEL_FIELDS = ("level", "difficulty")
NO_ANSWER = {"", "nan", "n/a", "notfound", "not found", "proof"}
EXTENSIONS = (".jsonl", ".json", ".parquet", ".arrow")
LIST_KEYS = ("data", "rows", "examples", "instances")
NOT_DATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


class InputError(Exception):
    """Bad input: `run` prints it on one line and returns exit code 2."""


class Skip(Exception):
    """Raised by a parser: this row is not used; the message is the reason that is counted."""


@dataclass(frozen=True)
class Example:
    """One problem of a source. `answer` None means: no usable answer."""

    question: str
    answer: str | None
    id: str | None = None
    subject: str | None = None
    level: str | None = None
    solution: str | None = None
    data_source: str | None = None  # where it differs from the data set's
    notes: tuple[str, ...] = ()  # things to count without dropping the row


@dataclass(frozen=True)
class DataSet:
    """A data set: where it is on the hub, what its splits are called, how a row is read."""

    name: str
    data_source: str
    hub: str
    splits: Mapping[str, str]  # the name we write -> the name on the hub
    parse: Callable[[Mapping[str, Any]], Example] | None = None  # default: parse_row
    hub_config: str | None = None
    train_splits: tuple[str, ...] = ("train",)  # duplicates are dropped there; --repeat leaves them alone
    keep_solution: bool = True
    progress: bool = False


# ---- reading a row


def first_field(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The first of `names` that `row` has with a value other than None or an empty string; else None."""
    for name in names:
        value = row.get(name)
        if value is not None and value != "":
            return value
    return None


def text(value: Any) -> str | None:
    """A scalar as text: 27.0 -> "27", strings stripped; the last user message of a chat; None stays None."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(m, Mapping) and "content" in m for m in value):
        user = [m["content"] for m in value if m.get("role", "user") == "user"]
        return text(user[-1]) if user else None
    if isinstance(value, (list, tuple)):
        parts = [strip_math_delimiters(p) for p in map(text, value) if p]
        return ", ".join(parts) if parts else None
    return str(value).strip()


def last_boxed(solution: str) -> str | None:
    r"""The content of the last `\boxed{...}` or `\fbox{...}` with balanced braces (`\{`, `\}` do not count).

    `\boxed 5` is read up to the next space, `$` or brace. None if there is no box or its braces do not
    balance.
    """
    found = None
    for match in re.finditer(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*", solution):
        found = match
    if found is None:
        return None
    rest = solution[found.end() :]
    if not rest.startswith("{"):
        bare = re.match(r"[^\s${}]+", rest)
        return bare.group(0).rstrip(".,") if bare else None
    depth = 0
    i = 0
    while i < len(rest):
        c = rest[i]
        if c == "\\":
            i += 2
            continue
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return rest[1:i].strip()
        i += 1
    return None


def strip_math_delimiters(answer: str) -> str:
    r"""Remove one pair of `$..$`, `$$..$$`, `\(..\)` or `\[..\]` around the whole answer."""
    answer = answer.strip()
    for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if len(answer) >= len(left) + len(right) and answer.startswith(left) and answer.endswith(right):
            inner = answer[len(left) : len(answer) - len(right)]
            several = any(mark in inner for mark in (left[-1:] if left[0] == "$" else left, right[-2:]))
            return answer if several else inner.strip()
    return answer


def clean_answer(answer: Any) -> str | None:
    """The answer as text, or None where it is empty or one of the words data sets use for "there is none"."""
    answer = text(answer)
    if answer is None:
        return None
    answer = strip_math_delimiters(answer)
    return None if answer.lower() in NO_ANSWER else answer


def parse_row(row: Mapping[str, Any]) -> Example:
    r"""Read a row under the field names in circulation (the `*_FIELDS` above).

    The answer is `answer`, `final_answer` (a list is joined by ", "), ... or `reward_model.ground_truth`,
    else the last box of `solution`. An answer field that holds a worked solution with a box counts as a
    solution.
    """
    nested = row.get("reward_model") or {}
    extra = row.get("extra_info") or {}
    raw_answer = first_field(row, ANSWER_FIELDS)
    if raw_answer is None:
        raw_answer = nested.get("ground_truth")
    solution = text(first_field(row, SOLUTION_FIELDS))
    answer = clean_answer(raw_answer)
    if answer is not None and re.search(r"\\(?:boxed|fbox)(?![a-zA-Z])", answer):
        solution = solution or answer
        answer = clean_answer(last_boxed(answer))
    if raw_answer is None and solution:
        answer = clean_answer(last_boxed(solution))
    row_id = first_field(row, ID_FIELDS)
    return Example(
        question=text(first_field(row, QUESTION_FIELDS)) or "",
        answer=answer,
        id=text(row_id if row_id is not None else extra.get("index")),
        subject=text(first_field(row, SUBJECT_FIELDS)),
        level=text(first_field(row, LEVEL_FIELDS)),
        solution=solution if solution is not None else text(raw_answer),
    )


def parse_integer_row(row: Mapping[str, Any]) -> Example:
    """parse_row for sets of integer answers: "025", "27.0" and "1,024" become "25", "27" and "1024"."""
    example = parse_row(row)
    match = re.fullmatch(r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+)(?:\.0+)?", example.answer or "")
    if match is None:
        return example
    return replace(example, answer=str(int(match[1] + match[2].replace(",", ""))))


# ---- reading a source


def read_json_lines(path: Path) -> Iterator[dict]:
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number}: expected an object, found {type(row).__name__}")
                yield row


def read_json(path: Path) -> Iterator[dict]:
    """A list of objects, an object with such a list under one of the usual keys, or (misnamed) JSON lines."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except json.JSONDecodeError:
        yield from read_json_lines(path)
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


READERS = {".jsonl": read_json_lines, ".json": read_json, ".parquet": read_parquet, ".arrow": read_arrow}


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
    return path.suffix in EXTENSIONS and path.is_file() and path.name not in NOT_DATA and not hidden and not ours


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
class Source:
    """Rows of one split, and what the card says of where they came from."""

    description: dict[str, Any]
    rows: Iterable[Mapping[str, Any]]
    total: int | None = None


def open_local(dataset: DataSet, path: str, wanted: list[str], explicit: bool) -> dict[str, Source]:
    root = Path(path).expanduser()
    if not root.exists():
        raise InputError(f"--local_dataset_path {path}: no such file or folder")
    if root.is_file():
        if root.suffix not in EXTENSIONS:
            raise InputError(f"--local_dataset_path {path}: unknown kind of file; allowed: {', '.join(EXTENSIONS)}")
        if len(wanted) > 1:
            named = [s for s in wanted if re.search(rf"(?:^|[-_.]){re.escape(s)}(?:$|[-_.])", root.stem)]
            if len(named) != 1:
                raise InputError(f"--local_dataset_path {path}: is it {' or '.join(wanted)}? Say so with --split")
            wanted = named
        files = {wanted[0]: [root]}
    else:
        files = {split: find_files(root, dataset, split) for split in wanted}
        missing = [split for split in wanted if not files[split]]
        if len(missing) == len(wanted) or (missing and explicit):
            stem = dataset.name if len(dataset.splits) == 1 else missing[0]
            raise InputError(f"--local_dataset_path {path}: no {stem}.jsonl, .json, .parquet or .arrow there")
        for split in missing:
            print(f"{dataset.name}: no file for split '{split}' under {path}, left out", file=sys.stderr)
    return {
        split: Source(
            {"kind": "local", "files": [{"name": p.name, "sha256": sha256(p)} for p in found]},
            (row for p in found for row in read_file(p)),
        )
        for split, found in files.items()
        if found
    }


def open_hub(dataset: DataSet, wanted: list[str]) -> dict[str, Source]:
    import datasets

    sources = {}
    for split in wanted:
        try:
            data = datasets.load_dataset(dataset.hub, dataset.hub_config, split=dataset.splits[split])
        except Exception as error:  # the hub client raises many kinds: offline, gated, renamed, disk full
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"cannot load {dataset.hub} from the hub ({type(error).__name__}: {reason}); "
                "give a copy on disk with --local_dataset_path"
            ) from None
        description = {
            "kind": "hub",
            "repository": dataset.hub,
            "config": dataset.hub_config,
            "split": dataset.splits[split],
            "files": sorted(data.info.download_checksums or {}),  # these name the commit
        }
        sources[split] = Source(description, data, len(data))
    return sources


# ---- making rows


def make_row(
    *,
    data_source: str,
    question: str,
    ground_truth: str,
    split: str,
    index: int,
    id: str | None = None,
    answer: str | None = None,
    subject: str | None = None,
    level: str | None = None,
    repeat: int = 0,
    prompt_suffix: str = PROMPT_SUFFIX,
    system_prompt: str | None = None,
    ability: str = "math",
) -> dict[str, Any]:
    """One row as verl's RLHFDataset reads it; the user message is `question`, a space and `prompt_suffix`."""
    content = f"{question} {prompt_suffix}" if prompt_suffix else question
    messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return {
        "data_source": data_source,
        "prompt": [*messages, {"role": "user", "content": content}],
        "ability": ability,
        "reward_model": {"style": "rule", "ground_truth": ground_truth},
        "extra_info": {
            "split": split,
            "index": index,
            "id": id,
            "question": question,
            "answer": answer,
            "subject": subject,
            "level": level,
            "repeat": repeat,
        },
    }


def question_key(question: str) -> bytes:
    """Two problems are the same if they agree after Unicode NFKC and up to white space."""
    folded = " ".join(unicodedata.normalize("NFKC", question).split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclass
class Selection:
    """The problems of a split that will be written, and the count of every row that will not."""

    examples: list[tuple[int, Example]] = field(default_factory=list)
    rows_in: int = 0
    dropped: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)


def select(source: Source, dataset: DataSet, split: str, max_rows: int | None, seed: int | None) -> Selection:
    """Parse, filter and deduplicate the rows of a split; each row is either kept or counted under one reason.

    Reasons: `empty_problem`, `no_answer`, `not_selected` (--max_rows), and what the data set's parser raises
    as Skip. Training splits also drop `duplicate` (same problem, same answer: the first stays) and
    `conflicting_duplicate` (same problem, different answers: all go). Evaluation splits keep them, so that
    the benchmark stays the published one, and note `duplicate_kept`.
    """
    parse = dataset.parse or parse_row
    training = split in dataset.train_splits
    result = Selection()
    kept: dict[bytes, int] = {}  # question -> position in examples
    conflicting: dict[bytes, int] = {}  # question -> rows dropped for it so far, the first included
    examples: list[tuple[int, Example] | None] = []
    rows: Iterable[Mapping[str, Any]] = source.rows
    if dataset.progress and sys.stderr.isatty():
        from tqdm import tqdm

        rows = tqdm(rows, total=source.total, desc=f"{dataset.name} {split}", unit=" rows", mininterval=0.5)
    for index, row in enumerate(rows):
        result.rows_in += 1
        try:
            example = parse(row)
        except Skip as reason:
            result.dropped[str(reason)] += 1
            continue
        if not example.question.strip():
            result.dropped["empty_problem"] += 1
            continue
        if example.answer is None:
            result.dropped["no_answer"] += 1
            continue
        key = question_key(example.question)
        if training and key in conflicting:
            conflicting[key] += 1
            continue
        if key in kept:
            first = examples[kept[key]]
            if not training:
                result.notes["duplicate_kept"] += 1
            elif first[1].answer != example.answer:
                examples[kept[key]] = None
                conflicting[key] = 2
                continue
            else:
                result.dropped["duplicate"] += 1
                continue
        kept.setdefault(key, len(examples))
        examples.append((index, example if dataset.keep_solution else replace(example, solution=None)))
    if conflicting:
        result.dropped["conflicting_duplicate"] += sum(conflicting.values())
    remaining = [e for e in examples if e is not None]
    if max_rows is not None and max_rows < len(remaining):
        result.dropped["not_selected"] += len(remaining) - max_rows
        if seed is None:
            remaining = remaining[:max_rows]
        else:
            chosen = sorted(random.Random(seed).sample(range(len(remaining)), max_rows))
            remaining = [remaining[i] for i in chosen]
    for _, example in remaining:
        result.notes.update(example.notes)
    result.examples = remaining
    if result.rows_in != len(remaining) + sum(result.dropped.values()):
        raise AssertionError(f"{dataset.name} {split}: rows were lost without a reason")
    return result


def rows_of(selection: Selection, dataset: DataSet, split: str, options: argparse.Namespace) -> Iterator[dict]:
    repeat = 1 if split in dataset.train_splits else getattr(options, "repeat", 1)
    for index, e in selection.examples:
        for copy in range(repeat):
            yield make_row(
                data_source=e.data_source or dataset.data_source,
                question=e.question,
                ground_truth=e.answer,
                split=split,
                index=index,
                id=e.id or f"{dataset.name}/{split}/{index}",
                answer=e.solution,
                subject=e.subject,
                level=e.level,
                repeat=copy,
                prompt_suffix=options.prompt_suffix,
                system_prompt=options.system_prompt,
            )


# ---- writing


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


# ---- command line


PATH_OPTIONS = {"local_dataset_path", "local_save_dir", "local_dir", "hdfs_dir", "split"}


class OneLineParser(argparse.ArgumentParser):
    """argparse with errors on one line and options accepted with dashes as with underscores."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")

    def option(self, name: str, **kwargs) -> None:
        """Add `--some_name`, also accepted as `--some-name`."""
        self.add_argument(*dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]), **kwargs)


def positive_int(value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {value!r}")
    return number


def add_output_options(parser: OneLineParser, default_save_dir: str) -> None:
    """The options of every script: where the output goes and how a prompt is put together."""
    parser.option("local_save_dir", default=default_save_dir, help="folder for the parquet files and their cards")
    parser.option("local_dir", default=None, help="old name of --local_save_dir")
    parser.option("hdfs_dir", default=None, help="also copy the folder there")
    parser.option(
        "prompt_suffix",
        default=PROMPT_SUFFIX,
        help="put after each problem ('' for none); default: %(default)s",
    )
    parser.option("system_prompt", default=None, help="a system message before the problem; default: none")
    parser.option("max_rows", type=positive_int, default=None, help="keep at most this many problems of each split")


def make_parser(dataset: DataSet, doc: str | None) -> OneLineParser:
    parser = OneLineParser(description=doc)
    parser.option(
        "local_dataset_path",
        default=None,
        help=f"a jsonl, json, parquet or arrow file, or a folder; default: {dataset.hub} from the hub",
    )
    add_output_options(parser, f"~/data/{dataset.name}")
    parser.option("seed", type=int, default=None, help="with --max_rows: draw them at random; default: the first ones")
    if len(dataset.splits) > 1:
        parser.option("split", choices=list(dataset.splits), default=None, help="only this one; default: all there are")
    if set(dataset.splits) - set(dataset.train_splits):
        parser.option("repeat", type=positive_int, default=1, help="write each evaluation problem this many times")
    return parser


def save_dir_of(options: argparse.Namespace) -> Path:
    if options.local_dir is not None:
        print("--local_dir is the old name of --local_save_dir", file=sys.stderr)
    return Path(options.local_dir if options.local_dir is not None else options.local_save_dir).expanduser()


def copy_to_hdfs(folder: Path, hdfs_dir: str | None) -> None:
    if hdfs_dir is None:
        return
    try:
        from verl.utils.hdfs_io import copy, makedirs
    except ImportError as error:
        raise InputError(f"--hdfs_dir {hdfs_dir}: needs verl, which cannot be imported ({error})") from None
    makedirs(hdfs_dir)
    copy(src=str(folder), dst=hdfs_dir)


def report(card: Mapping[str, Any], path: Path) -> str:
    parts = [f"{card['rows_in']} rows in"]
    parts += [f"{count} {reason}" for reason, count in card["dropped"].items()]
    parts += [f"{count} {reason} (kept)" for reason, count in card["notes"].items()]
    out = f"{card['rows_out']} rows out"
    if card["rows_out"] != card["problems"]:
        out += f" ({card['problems']} problems)"
    return f"{path}: {', '.join([*parts, out])}"


def run(dataset: DataSet, argv: list[str] | None = None, doc: str | None = None) -> int:
    """The whole of a script: options, source, rows, files, a line a split. Returns the exit code."""
    return run_options(dataset, make_parser(dataset, doc).parse_args(argv))


def run_options(dataset: DataSet, options: argparse.Namespace) -> int:
    """`run` for options that are parsed already."""
    try:
        files, folder = prepare(dataset, options)
        for card in write_files(files):
            print(report(card, folder / card["file"]))
        copy_to_hdfs(folder, options.hdfs_dir)
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        return 2
    return 0


def prepare(dataset: DataSet, options: argparse.Namespace) -> tuple[list, Path]:
    """What `write_files` is to write, and the folder; raises InputError before anything is written."""
    if options.seed is not None and options.max_rows is None:
        raise InputError("--seed is only used to draw --max_rows problems: give both or neither")
    explicit = getattr(options, "split", None) is not None
    wanted = [options.split] if explicit else list(dataset.splits)
    if options.local_dataset_path is not None:
        sources = open_local(dataset, options.local_dataset_path, wanted, explicit)
    else:
        sources = open_hub(dataset, wanted)
    folder = save_dir_of(options)
    settings = {name: value for name, value in vars(options).items() if name not in PATH_OPTIONS}
    files = []
    for split, source in sources.items():
        selection = select(source, dataset, split, options.max_rows, options.seed)
        if not selection.examples:
            why = ", ".join(f"{n} {reason}" for reason, n in selection.dropped.most_common()) or "the source is empty"
            raise InputError(f"split '{split}': none of {selection.rows_in} rows can be used ({why})")
        card = {
            "dataset": dataset.name,
            "data_source": dataset.data_source,
            "split": split,
            "source": source.description,
            "options": settings,
            "rows_in": selection.rows_in,
            "dropped": dict(sorted(selection.dropped.items())),
            "notes": dict(sorted(selection.notes.items())),
            "problems": len(selection.examples),
        }
        files.append((rows_of(selection, dataset, split, options), folder / f"{split}.parquet", card))
    return files, folder
