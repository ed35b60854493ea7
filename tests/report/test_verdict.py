"""The verdict compares like with like: the same data source, and problems that the runs have in common."""

import json

from frpo_verl.report import verdict
from frpo_verl.report.collect import load_run
from frpo_verl.report.subjects import Subject


def subject(folder, shares, prefix=""):
    """A run with validations at steps 0 and 10; shares: source -> share of right answers at the end, 0 before."""
    (folder / "validation").mkdir(parents=True)
    for step in (0, 10):
        with open(folder / "validation" / f"{step}.jsonl", "w") as file:
            for source, share in shares.items():
                for i in range(200):
                    row = {"input": f"{prefix}{source} {i // 4}", "gts": "1", "output": "x", "step": step}
                    row |= {"acc": bool(step) and i % 10 < 10 * share, "data_source": source}
                    file.write(json.dumps({k: v for k, v in row.items() if v != "(none)"}) + "\n")
    return Subject(folder.name, [load_run(folder)])


def test_two_runs_are_compared_on_a_source_that_both_have(tmp_path):
    e = subject(tmp_path / "E", {"gsm8k": 0.5})
    f = subject(tmp_path / "F", {"aime24": 0.3, "gsm8k": 0.9})
    found = verdict.decide([e, f], [])
    assert found.headline == "F is ahead on the held-out problems." and found.kind == verdict.GOOD
    first, second = found.sentences[:2]
    assert first.startswith("Last validation, mean@4 on gsm8k: F 90.0") and "; E 50.0" in first
    assert second.startswith("Over the same 50 problems F is from +") and second.endswith("points above.")


def test_runs_without_a_common_source_are_not_ranked(tmp_path):
    c, d = subject(tmp_path / "C", {"gsm8k": 0.9}), subject(tmp_path / "D", {"aime24": 0.3})
    found = verdict.decide([c, d], [])
    assert (
        found.headline == "Not comparable: they were validated on different data sets." and found.kind == verdict.OPEN
    )
    assert found.sentences[0].startswith("C: mean@4 on gsm8k 90.0") and found.sentences[1].startswith(
        "D: mean@4 on aime24 30.0"
    )
    assert len(found.rows) == 2


def test_runs_without_a_common_problem_are_not_told_apart(tmp_path):
    """Dumps that do not say their source, of two different sets."""
    c, d = subject(tmp_path / "C", {"(none)": 0.9}, "p"), subject(tmp_path / "D", {"(none)": 0.3}, "q")
    found = verdict.decide([c, d], [])
    assert found.kind == verdict.OPEN and "They have no held-out problem in common." in found.sentences
