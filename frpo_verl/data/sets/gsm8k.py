"""GSM8K (openai/gsm8k): 7,473 training and 1,319 test problems with integer answers, as parquet for verl.

    python -m frpo_verl data gsm8k --local_save_dir ~/data/gsm8k
    python -m frpo_verl data gsm8k --local_dataset_path RAW_FOLDER --local_save_dir ~/data/gsm8k

The ground truth is what follows `####`, commas removed. Differs from verl's script of the same name in the
prompt suffix (`--prompt_suffix` changes it) and in dropping repeated training problems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..common import run
from ..examples import DataSet, Example, clean_answer, parse_row, read_first


def parse(row: Mapping[str, Any]) -> Example:
    example = parse_row(row)
    worked = read_first(row, ("answer", "solution")) or ""
    if "####" in worked:
        answer = clean_answer(worked.rpartition("####")[2].strip().partition("\n")[0].replace(",", ""))
    else:  # some copies carry the bare number
        answer = example.answer.replace(",", "") if re.fullmatch(r"-?[\d,]*\.?\d+", example.answer or "") else None
    return replace(example, answer=answer, solution=worked)


DATASET = DataSet(
    name="gsm8k",
    data_source="openai/gsm8k",
    hub="openai/gsm8k",
    hub_config="main",
    splits={"train": "train", "test": "test"},
    parse=parse,
)


def main(argv: list[str] | None = None) -> int:
    """Write the set's parquet files; returns the exit code."""
    return run(DATASET, argv, __doc__)
