"""DAPO-Math-17k (BytedTsinghua-SIA/DAPO-Math-17k, arXiv 2503.14476): training problems with integer answers.

    python data_preprocess/dapo_math_17k.py --local_save_dir ~/data/dapo_math_17k

The published file repeats each problem about a hundred times; one copy of each is kept. Its prompts wrap the
problem in instructions of their own ("Solve the following math problem step by step. ... Answer: ..."): the
wrapping is removed and `--prompt_suffix` put in its place. Problems that appear with different answers are
dropped, and counted.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from _common import DataSet, Example, parse_row, run

WRAPPING = re.compile(
    r"^\s*Solve the following math problem step by step\. The last line of your response[^\n]*\n+"
    r"(?P<problem>.*?)"
    r"\s*Remember to put your answer on its own line after \"Answer:\"\.?\s*$",
    re.DOTALL,
)


def parse(row: Mapping[str, Any]) -> Example:
    example = parse_row(row)
    wrapped = WRAPPING.match(example.question)
    return replace(example, question=wrapped["problem"].strip() if wrapped else example.question, solution=None)


DATASET = DataSet(
    name="dapo_math_17k",
    data_source="math_dapo",
    hub="BytedTsinghua-SIA/DAPO-Math-17k",
    splits={"train": "train"},
    parse=parse,
    progress=True,
)

if __name__ == "__main__":
    raise SystemExit(run(DATASET, doc=__doc__))
