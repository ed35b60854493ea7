"""The labelled answers of tests/support/labelled, and the response that an answer is given in."""

import json
from pathlib import Path

import yaml

LABELLED = Path(__file__).parent / "labelled"


def boxed(text):
    return "Therefore the answer is $\\boxed{" + text + "}$."


def labelled(name):
    """Rows with `gold`, `equal` (by our rules `by_rule`, where that differs), and `answer`, `pred` or a whole `response`."""
    if name != "rules":
        return [json.loads(line) for line in (LABELLED / f"{name}.jsonl").read_text().splitlines()]
    return [
        {"kind": rule, "gold": gold, "answer": answer, "equal": equal}
        for rule, cases in yaml.safe_load((LABELLED / "rules.yaml").read_text()).items()
        for gold, refused, accepted in cases
        for equal, answers in ((False, refused), (True, [gold, *accepted]))
        for answer in answers
    ]
