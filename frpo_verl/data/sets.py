r"""The published data sets, a row each: where a set is, what its splits are called, and how its rows differ from the usual.

The usual (`examples.parse_row`): the problem in a column `problem`, `question`, `prompt`, ...; the answer in `answer`,
`final_answer`, `reward_model.ground_truth`, ..., else in the last `\boxed{}` of `solution`. A set that differs has a function.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .examples import DataSet, Example, Skip, clean_answer, parse_row, read_first
from .shapes import label

_LETTER = re.compile(r"(?:\\(?:text|textbf|mathrm|mathbf)\{)?\(?\s*[A-H]\s*\)?\}?")
_WHOLE = re.compile(r"([+-]?)(\d+|\d{1,3}(?:,\d{3})+)(?:\.0+)?")


def whole_number(row: Mapping[str, Any]) -> Example:
    """Integer answers written plainly: "025", "27.0" and "1,024" become "25", "27" and "1024"."""
    example = parse_row(row)
    match = _WHOLE.fullmatch(example.answer or "")
    return replace(example, answer=str(int(match[1] + match[2].replace(",", "")))) if match else example


def gsm8k(row: Mapping[str, Any]) -> Example:
    """The ground truth is the line behind the last `####`, or the bare number of copies that carry no solution."""
    example = parse_row(row)
    worked = read_first(row, ("answer", "solution")) or ""
    if "####" in worked:
        answer = worked.rpartition("####")[2].strip().partition("\n")[0]
    else:
        answer = example.answer if re.fullmatch(r"-?[\d,]*\.?\d+", example.answer or "") else ""
    return replace(example, answer=clean_answer((answer or "").replace(",", "")), solution=worked)


def is_english(text: str) -> bool:
    """Whether all letters are Latin or Greek; mathematical alphabets count as what they stand for."""
    letters = {c for c in unicodedata.normalize("NFKC", text) if ord(c) > 127 and c.isalpha()}
    return all(unicodedata.name(c, "").startswith(("LATIN", "GREEK", "MODIFIER")) for c in letters)


def dapo(row: Mapping[str, Any], english: bool = False) -> Example:
    example = parse_row(row)
    if english and not is_english(example.question):
        raise Skip("not_english")
    return replace(example, solution=None)


def numina(row: Mapping[str, Any], sources: list[str] | None = None) -> Example:
    """`data_source` is numina_ and the row's `source`, as in other files made from the set."""
    source = row.get("source")
    if sources and source not in sources:
        raise Skip("other_source")
    example = parse_row(row)
    notes = ("letter_answer",) if _LETTER.fullmatch(example.answer or "") else ()
    return replace(example, data_source=f"numina_{source}" if source else None, notes=notes)


def olympiad_bench(row: Mapping[str, Any]) -> Example:
    """Text-only English open-ended maths, the `context` before the question; the tolerance in `error` is counted only."""
    if row.get("language", "English") not in ("English", "en", "EN"):
        raise Skip("not_english")
    if row.get("subject", "Math") not in ("Math", "Maths", "math", "maths"):
        raise Skip("not_maths")
    if row.get("modality", "Text-only") != "Text-only" or row.get("image_1") or row.get("images"):
        raise Skip("not_text_only")
    if row.get("question_type", "Open-ended") != "Open-ended":
        raise Skip("not_open_ended")
    example = parse_row(row)
    context = read_first(row, ("context",))
    return replace(
        example,
        question=f"{context}\n\n{example.question}" if context and example.question else example.question,
        answer=clean_answer(read_first(row, ("final_answer", "answer"))),
        subject=label(row.get("subfield")) or example.subject,
        notes=("tolerance_ignored",) if label(row.get("error")) else (),
    )


_TRAIN, _TEST = {"train": "train"}, {"test": "test"}
_BOTH = _TRAIN | _TEST
_INTEGERS = "integer answers, leading zeros and .0 removed; for evaluation"

#: what `data NAME` takes -> the set
SETS = {
    "gsm8k": DataSet(
        "gsm8k", "openai/gsm8k", "openai/gsm8k", _BOTH, gsm8k, "main",
        about="GSM8K: 7,473 training and 1,319 test problems. The ground truth is what follows ####, commas removed.",
    ),
    "math_dataset": DataSet(  # no math.py: a script's folder comes first on Python's path, before the module `math`
        "math", "DigitalLearningGmbH/MATH-lighteval", "DigitalLearningGmbH/MATH-lighteval", _BOTH,
        about="MATH (arXiv 2103.03874): 7,500 + 5,000 problems. The test split contains the 500 of MATH500.",
    ),
    "math500": DataSet(
        "math500", "HuggingFaceH4/MATH-500", "HuggingFaceH4/MATH-500", _TEST,
        about="MATH500: 500 problems of MATH's test split, for evaluation.",
    ),
    "dapo_math_17k": DataSet(
        "dapo_math_17k", "math_dapo", "BytedTsinghua-SIA/DAPO-Math-17k", _TRAIN, dapo,
        about="DAPO-Math-17k (arXiv 2503.14476): training problems with integer answers. The published file repeats each problem "
        "about a hundred times, wrapped in instructions of its own: one copy without them is kept.",
        options={"english": {"action": "store_true", "help": "drop problems in other languages; default: keep them"}},
    ),
    "numina_math_cot": DataSet(
        "numina_math_cot", "AI-MO/NuminaMath-CoT", "AI-MO/NuminaMath-CoT", _BOTH, numina, keep_solution=False,
        about="NuminaMath-CoT: about 860,000 training problems with worked solutions, and 100 test problems. Proofs and other "
        "solutions without a box are dropped; a letter as ground truth (multiple choice) is kept and counted.",
        options={"sources": {"nargs": "+", "default": None, "help": "keep only these values of `source`; default: all"}},
    ),
    "limr": DataSet(
        "limr", "limr", "GAIR/LIMR", _TRAIN,
        about="LIMR (arXiv 2502.11886): about 1,400 training problems of MATH; a training set of f-GRPO (arXiv 2602.05946).",
    ),
    "open_rs": DataSet(
        "open_rs", "open_rs", "knoveleng/open-rs", _TRAIN, keep_solution=False,
        about="Open-RS (arXiv 2503.16219): about 7,000 training problems; a training set of f-GRPO (arXiv 2602.05946).",
    ),
    "aime24": DataSet(
        "aime24", "aime24", "HuggingFaceH4/aime_2024", {"test": "train"}, whole_number,
        about=f"AIME 2024: 30 problems; {_INTEGERS}.",
    ),
    "aime25": DataSet("aime25", "aime25", "math-ai/aime25", _TEST, whole_number, about=f"AIME 2025: 30 problems; {_INTEGERS}."),
    "amc23": DataSet("amc23", "amc23", "math-ai/amc23", _TEST, whole_number, about=f"AMC 12 of 2023: 40 problems; {_INTEGERS}."),
    "olympiad_bench": DataSet(
        "olympiad_bench", "olympiad_bench", "Hothan/OlympiadBench", {"test": "train"}, olympiad_bench, "OE_TO_maths_en_COMP",
        about="OlympiadBench (arXiv 2402.14008): its 674 text-only English open-ended maths problems, for evaluation. What else is "
        "in a file of the whole collection is dropped and counted.",
    ),
    "minerva_math": DataSet(
        "minerva_math", "minerva_math", "math-ai/minervamath", _TEST,
        about="Minerva Math (arXiv 2206.14858): 272 undergraduate problems with short answers, for evaluation.",
    ),
}  # fmt: skip
