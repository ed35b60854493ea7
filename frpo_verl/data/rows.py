"""verl's rows, and which problems of a source become one."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .examples import DataSet, Example, InputError, Skip, parse_row
from .shapes import Unreadable
from .sources import Source

PROMPT_SUFFIX = r"Let's think step by step and output the final answer within \boxed{}."  # arXiv 2601.10201


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
        where = f"split '{split}', row {index}"
        try:
            example = parse(row)
        except Skip as reason:
            result.dropped[str(reason)] += 1
            continue
        except Unreadable as error:
            raise InputError(f"{where}: {error}; take the row out, or write the column as text") from None
        refuse_surrogates(where, vars(example))
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
            elif not same_answer(first[1].answer, example.answer):
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
