"""Read graded samples: verl's validation dumps and plain jsonl.

verl writes `trainer.validation_data_dir`/STEP.jsonl with `input`, `output`, `gts`, `score`, `step`, what the
reward function returned (`acc`, `pred`, ...) and, under the V1 trainer, `uid` = PROMPT_SESSION_INDEX. The
data source is not among them (verl 0.9.1): `Sources` finds it again by looking the prompts up in the parquet
files that were validated on.
"""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import json_lines

CORRECT_KEYS = ("acc", "correct", "is_correct", "score")
ID_KEYS = ("id", "problem_id", "task_id", "unique_id")
UNKNOWN = "(unknown)"


class DumpError(ValueError):
    """A file that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Record:
    """One graded sample. `pred` None: not recorded; "": no answer found. `graded` False: counted as wrong.

    `output` is a digest of the response, None where it is not recorded.
    """

    problem: str
    correct: bool
    data_source: str = UNKNOWN
    pred: str | None = None
    step: int | None = None
    graded: bool = True
    output: str | None = None


class Sources:
    """Looks a dumped prompt up in the parquet files of `data.val_files`: its data source and id."""

    def __init__(self, files: Iterable[str | Path]):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._by_answer: dict[str, list[tuple[str, str, str]]] = {}
        self.problems: dict[str, set[str]] = {}
        for file in files:
            try:
                table = pq.read_table(file, columns=["data_source", "prompt", "reward_model", "extra_info"])
            except (OSError, KeyError, pa.ArrowException) as error:
                raise DumpError(f"--data {file}: {' '.join(str(error).split())[:200]}") from None
            for i, row in enumerate(table.to_pylist()):
                try:
                    content = _squeeze(row["prompt"][-1]["content"])
                except (TypeError, KeyError, IndexError, AttributeError):
                    raise DumpError(f"--data {file}, row {i}: its prompt is not a list of messages") from None
                extra = row["extra_info"] or {}
                own = extra.get("id")
                if not own:
                    index = extra.get("index")
                    own = f"{Path(file).stem}/{i}" if index is None else f"{extra.get('split')}/{index}"
                answer = _ground_truth((row["reward_model"] or {}).get("ground_truth"))
                self._by_answer.setdefault(answer, []).append((content, row["data_source"], own))
                self.problems.setdefault(row["data_source"], set()).add(own)

    def find(self, prompt: str, ground_truth: Any) -> tuple[str, str] | None:
        """(data source, id) of the longest user message found in `prompt` with this ground truth, or None."""
        prompt = _squeeze(prompt)
        found = [entry for entry in self._by_answer.get(_ground_truth(ground_truth), ()) if entry[0] in prompt]
        return max(found, key=lambda entry: len(entry[0]))[1:] if found else None


def _squeeze(text: str) -> str:
    """What is left of a text behind a template and a tokenizer: they trim, normalise (NFC), and take spaces before a stop."""
    return "".join(unicodedata.normalize("NFC", text).split())


def _ground_truth(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=12).hexdigest()


def split_uid(uid: Any) -> tuple[str, int, int] | None:
    """PROMPT_SESSION_INDEX -> (prompt, session, index), the V1 trainer's key of an output; else None."""
    parts = uid.rsplit("_", 2) if isinstance(uid, str) else []
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        return parts[0], int(parts[1]), int(parts[2])
    return None


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of each non-empty line; raises DumpError."""
    try:
        yield from json_lines(path, DumpError)
    except (OSError, UnicodeDecodeError) as error:
        raise DumpError(f"cannot read {path}: {error}") from None


def is_correct(value: Any, threshold: float | None) -> bool | None:
    """True/False for a grade, None where there is none; raises ValueError for a grade that is neither.

    Without `threshold` a grade must be a bool, 0, 1 or -1 (correct: 1); with it, a number (correct: >=
    threshold).
    """
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):  # verl's older trainer writes numpy values as text
        words = {"True": True, "False": False, "None": None}
        value = words[value] if value in words else float(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, (bool, int, float)):
        raise ValueError(value)
    if threshold is not None:
        return value >= threshold
    if value not in (0, 1, -1):
        raise ValueError(value)
    return value == 1


def read_records(
    path: str | Path, *, correct_key: str | None = None, threshold: float | None = None, sources: Sources | None = None
) -> list[Record]:
    """The samples of one file, in its order.

    A line is a sample. Its grade is `correct_key`, or the first of `acc`, `correct`, `is_correct`, `score`
    that the file has; its problem is `id` (or `problem_id`, ...), or in verl's dumps the pair (`input`,
    `gts`), so that copies of a problem written by --repeat count as one. Of a session with several outputs
    (tool use) only the last counts.

    Raises DumpError, with file and line, where a line has no grade, no problem, or a grade that is not 0/1
    while no `threshold` is given.
    """
    path = Path(path)
    rows: list[tuple[int, str, dict[str, Any]]] = []  # line number, problem, what is needed of the line
    labels: dict[str, tuple[str, str] | None] = {}  # problem -> data source and id, where --data knows it
    last: dict[tuple[str, int], int] = {}  # session -> highest output index
    first: dict[str, str] = {}  # V1 prompt uid -> problem of its first output
    kept = {"data_source", "step", "pred", *CORRECT_KEYS, correct_key}
    for number, row in read_lines(path):
        problem = _problem(f"{path}, line {number}", row, sources, labels)
        content = {key: value for key, value in row.items() if key in kept and value is not None}
        content["output"] = _digest(row["output"]) if "output" in row else None
        content["uid"] = uid = split_uid(row.get("uid"))
        if uid is not None:
            prompt, session, index = uid
            last[prompt, session] = max(index, last.get((prompt, session), -1))
            if index == 0:
                first.setdefault(prompt, problem)
        rows.append((number, problem, content))
    if not rows:
        raise DumpError(f"{path}: no sample in it")
    found_keys = set().union(*(content for _, _, content in rows))
    key = next((k for k in ((correct_key,) if correct_key else CORRECT_KEYS) if k in found_keys), None)
    if key is None:
        raise DumpError(f"{path}: no grade: no line has {correct_key or ' or '.join(CORRECT_KEYS)}")
    no_pred = "" if "pred" in found_keys else None
    records = []
    for number, problem, row in rows:
        if row["uid"] is not None:
            prompt, session, index = row["uid"]
            if index != last[prompt, session]:
                continue
            problem = first.get(prompt, problem)
        try:
            grade = is_correct(row.get(key), threshold)
        except ValueError:
            hint = "a number" if threshold is not None else "0, 1 or -1; --threshold T counts values >= T as correct"
            raise DumpError(f"{path}, line {number}: {key}={row.get(key)!r}; allowed: {hint}") from None
        source, own = labels.get(problem) or (UNKNOWN, problem)
        step = row.get("step")
        records.append(
            Record(
                problem=own,
                correct=bool(grade),
                data_source=str(row.get("data_source") or source),
                pred=str(row["pred"]) if "pred" in row else no_pred,
                step=int(step) if isinstance(step, (int, float)) and math.isfinite(step) else None,
                graded=grade is not None,
                output=row["output"],
            )
        )
    return records


def _problem(
    where: str, row: Mapping[str, Any], sources: Sources | None, labels: dict[str, tuple[str, str] | None]
) -> str:
    """The problem of a line; `labels` learns what `sources` know of it."""
    own = next((row[key] for key in ID_KEYS if row.get(key) is not None), None)
    if own is not None:
        return str(own)
    if "input" not in row:
        raise DumpError(f"{where}: no problem: neither 'input' nor one of {', '.join(ID_KEYS)}")
    problem = _digest(row["input"], row.get("gts"))
    if sources is not None and problem not in labels:
        if not isinstance(row["input"], str):
            raise DumpError(f"{where}: input is no text, so --data cannot find it")
        labels[problem] = sources.find(row["input"], row.get("gts"))
    return problem


def find_dumps(path: str | Path) -> list[Path]:
    """A file itself, or a folder's *.jsonl ordered by step number; raises DumpError where there is none."""
    path = Path(path).expanduser()
    if not path.exists():
        raise DumpError(f"{path}: no such file or folder")
    if path.is_file():
        return [path]

    def place(file: Path) -> tuple[int, int, str]:
        return (0, int(file.stem), "") if file.stem.isdigit() else (1, 0, file.stem)

    files = sorted(path.glob("*.jsonl"), key=place)
    if not files:
        raise DumpError(f"{path}: no .jsonl file in this folder")
    return files
