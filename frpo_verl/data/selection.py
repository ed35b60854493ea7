"""Which problems of a source become rows."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .examples import TRAIN_SPLITS, DataSet, Example, InputError, Skip, parse_row
from .shapes import Unreadable
from .sources import RowSource
from .writing import make_row

T = TypeVar("T")


def question_key(question: str) -> bytes:
    """Two problems are the same if they agree after Unicode NFKC and up to white space."""
    folded = " ".join(unicodedata.normalize("NFKC", question).split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def same_answer(first: str, second: str) -> bool:
    """Whether two ground truths are one to the verifier: 34 and 34.0, 1/2 and 0.5."""
    from ..rewards.compare import compare

    return first == second or bool(compare(first, second)) or bool(compare(second, first))


def refuse_surrogates(where: str, fields: Mapping[str, Any]) -> None:
    """Raise InputError, with the row and the field, for half a surrogate pair: it is in JSON, but in no file of UTF-8."""
    for name, value in fields.items():
        try:
            value.encode() if isinstance(value, str) else None
        except UnicodeEncodeError as error:
            raise InputError(
                f"{where}: {name} has half a surrogate pair ({value[error.start]!a}) at character {error.start}: no UTF-8; "
                "replace it in the source"
            ) from None


@dataclass
class Selection:
    """The problems of a split that will be written, and the count of every row that will not."""

    examples: list[tuple[int, Example]] = field(default_factory=list)
    rows_in: int = 0
    dropped: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)


def watched(source: RowSource, title: str) -> Iterable[Mapping[str, Any]]:
    """The rows of a source, with a bar on a terminal."""
    if not sys.stderr.isatty():
        return source.rows
    from tqdm import tqdm

    return tqdm(source.rows, total=source.total, desc=title, unit=" rows", mininterval=0.5)


def draw(items: list[T], number: int | None, seed: int | None, dropped: Counter) -> list[T]:
    """At most `number` of the items in their order: the first ones, or with a seed a random draw; the rest is `not_selected`."""
    if number is None or number >= len(items):
        return items
    dropped["not_selected"] += len(items) - number
    places = range(number) if seed is None else sorted(random.Random(seed).sample(range(len(items)), number))
    return [items[i] for i in places]


def select(source: RowSource, dataset: DataSet, split: str, max_rows: int | None, seed: int | None) -> Selection:
    """Parse, filter and deduplicate the rows of a split; each row is either kept or counted under one reason.

    Reasons: `empty_problem`, `no_answer`, `not_selected` (--max_rows), and what the data set's parser raises as Skip. Training
    splits also drop `duplicate` (same problem, same answer: the first stays) and `conflicting_duplicate` (same problem,
    different answers: all go). Evaluation splits keep them, so that the benchmark stays the published one, and note
    `duplicate_kept`.
    """
    result = Selection()
    usable = _usable(source, dataset, split, result)
    chosen = _distinct(usable, result) if split in TRAIN_SPLITS else _noted(list(usable), result)
    result.examples = draw(chosen, max_rows, seed, result.dropped)
    for _, example in result.examples:
        result.notes.update(example.notes)
    if result.rows_in != len(result.examples) + sum(result.dropped.values()):
        raise AssertionError(f"{dataset.name} {split}: rows were lost without a reason")
    return result


def _usable(source: RowSource, dataset: DataSet, split: str, result: Selection) -> Iterator[tuple[int, Example]]:
    parse = dataset.parse or parse_row
    for index, row in enumerate(watched(source, f"{dataset.name} {split}")):
        result.rows_in += 1
        where = f"split '{split}', row {index}"
        try:
            example = parse(row)
            refuse_surrogates(where, vars(example))
            if not example.question.strip():
                raise Skip("empty_problem")
            if example.answer is None:
                raise Skip("no_answer")
        except Skip as reason:
            result.dropped[str(reason)] += 1
        except Unreadable as error:
            raise InputError(f"{where}: {error}; take the row out, or write the column as text") from None
        else:
            yield index, example if dataset.keep_solution else replace(example, solution=None)


def _distinct(usable: Iterable[tuple[int, Example]], result: Selection) -> list[tuple[int, Example]]:
    """One of each problem; none where its answers differ."""
    kept: dict[bytes, tuple[int, Example] | None] = {}  # None: its answers differ
    for index, example in usable:
        key = question_key(example.question)
        first = kept.setdefault(key, (index, example))
        if first is None:
            result.dropped["conflicting_duplicate"] += 1
        elif first[0] != index and same_answer(first[1].answer or "", example.answer or ""):
            result.dropped["duplicate"] += 1
        elif first[0] != index:
            kept[key] = None
            result.dropped["conflicting_duplicate"] += 2
    return [pair for pair in kept.values() if pair is not None]


def _noted(usable: list[tuple[int, Example]], result: Selection) -> list[tuple[int, Example]]:
    again = len(usable) - len({question_key(example.question) for _, example in usable})
    result.notes.update({"duplicate_kept": again} if again else {})
    return usable


def rows_of(selection: Selection, dataset: DataSet, split: str, options: argparse.Namespace) -> Iterator[dict]:
    """The rows of a split: `options` are --prompt_suffix, --system_prompt and, for evaluation, --repeat."""
    repeat = 1 if split in TRAIN_SPLITS else getattr(options, "repeat", 1)
    for index, e in selection.examples:
        for copy in range(repeat):
            yield make_row(
                data_source=e.data_source or dataset.data_source,
                question=e.question,
                ground_truth=e.answer or "",
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
