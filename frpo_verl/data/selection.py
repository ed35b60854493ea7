"""Which problems of a source become rows."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ..rewards.compare import compare
from .examples import TRAIN_SPLITS, DataSet, Example, InputError, Skip
from .shapes import Unreadable
from .sources import RowSource
from .writing import make_row

T = TypeVar("T")


def question_key(question: str) -> bytes:
    """Two problems are the same if they agree after Unicode NFKC and up to white space."""
    folded = " ".join(unicodedata.normalize("NFKC", question).split())
    return hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).digest()


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

    def why(self) -> str:
        """What became of the rows, the most frequent first."""
        return ", ".join(f"{n} {reason}" for reason, n in self.dropped.most_common()) or "the source is empty"


def parsed_rows(
    source: RowSource, title: str, parse: Callable[[Mapping[str, Any], int], T], result: Selection
) -> Iterator[tuple[int, T]]:
    """(number, what `parse` makes of it) of each row, with a bar on a terminal; what it raises as Skip is counted."""
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    rows = tqdm(source.rows, total=source.total, desc=title, unit=" rows", mininterval=0.5, disable=quiet)
    for index, row in enumerate(rows):
        result.rows_in += 1
        try:
            parsed = parse(row, index)
        except Skip as reason:
            result.dropped[str(reason)] += 1
        else:
            yield index, parsed


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

    def parse(row: Mapping[str, Any], index: int) -> Example:
        where = f"split '{split}', row {index}"
        try:
            example = dataset.parse(row)
        except Unreadable as error:
            raise InputError(f"{where}: {error}; take the row out, or write the column as text") from None
        refuse_surrogates(where, vars(example))
        if not example.question.strip():
            raise Skip("empty_problem")
        if example.answer is None:
            raise Skip("no_answer")
        return example if dataset.keep_solution else replace(example, solution=None)

    usable = parsed_rows(source, f"{dataset.name} {split}", parse, result)
    if split in TRAIN_SPLITS:
        chosen = _distinct(usable, result)
    else:
        chosen = list(usable)
        again = len(chosen) - len({question_key(example.question) for _, example in chosen})
        result.notes.update({"duplicate_kept": again} if again else {})
    result.examples = draw(chosen, max_rows, seed, result.dropped)
    for _, example in result.examples:
        result.notes.update(example.notes)
    return result


def _distinct(usable: Iterable[tuple[int, Example]], result: Selection) -> list[tuple[int, Example]]:
    """One of each problem; none where the verifier does not take its answers for one (34 and 34.0 are)."""
    kept: dict[bytes, tuple[int, Example] | None] = {}  # None: its answers differ
    for index, example in usable:
        key = question_key(example.question)
        if key not in kept:
            kept[key] = index, example
            continue
        first = kept[key]
        if first is None:
            result.dropped["conflicting_duplicate"] += 1
            continue
        a, b = first[1].answer or "", example.answer or ""
        if a == b or compare(a, b) or compare(b, a):
            result.dropped["duplicate"] += 1
        else:
            kept[key] = None
            result.dropped["conflicting_duplicate"] += 2
    return [pair for pair in kept.values() if pair is not None]


def rows_of(selection: Selection, dataset: DataSet, split: str, options: argparse.Namespace) -> Iterator[dict]:
    """The rows of a split: `options` are --prompt_suffix, --system_prompt and, for evaluation, --repeat."""
    repeat = 1 if split in TRAIN_SPLITS else getattr(options, "repeat", 1)
    for index, e in selection.examples:
        for copy in range(repeat):
            yield make_row(
                data_source=e.data_source or dataset.data_source, question=e.question, ground_truth=e.answer or "",
                split=split, index=index, id=e.id or f"{dataset.name}/{split}/{index}", answer=e.solution,
                subject=e.subject, level=e.level, repeat=copy,
                prompt_suffix=options.prompt_suffix, system_prompt=options.system_prompt,
            )  # fmt: skip
