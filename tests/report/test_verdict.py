"""The verdict compares like with like: the same data source, and problems that the runs have in common."""

import json
import re

import pytest
from report_runs import write_metrics

from frpo_verl.report import verdict
from frpo_verl.report.collect import load_run
from frpo_verl.report.subjects import Subject


def subject(folder, shares, prefix="", kl=None, beta=None):
    """A run with validations at steps 0 and 10; shares: source -> share of right answers at the end, 0 before."""
    (folder / "validation").mkdir(parents=True)
    for step in (0, 10):
        with open(folder / "validation" / f"{step}.jsonl", "w") as file:
            for source, share in shares.items():
                for i in range(200):
                    row = {"input": f"{prefix}{source} {i // 4}", "gts": "1", "output": "x", "step": step}
                    row |= {"acc": bool(step) and i % 10 < 10 * share, "data_source": source}
                    file.write(json.dumps({k: v for k, v in row.items() if v != "(none)"}) + "\n")
    if kl is not None:
        write_metrics(folder, {step: {"frpo/kl_to_go/first_token/mean": kl} for step in range(1, 11)})
        (folder / "hydra" / ".hydra").mkdir(parents=True)
        text = json.dumps({"algorithm": {"adv_estimator": "frpo", "frpo": {"kl_coef": beta}}})
        (folder / "hydra" / ".hydra" / "config.yaml").write_text(text)
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
    assert found.headline == "Not comparable: they were validated on different data sets."
    assert found.kind == verdict.OPEN
    assert [text[:24] for text in found.sentences[:2]] == ["C: mean@4 on gsm8k 90.0 ", "D: mean@4 on aime24 30.0"]
    assert len(found.rows) == 2


def test_runs_without_a_common_problem_are_not_told_apart(tmp_path):
    """Dumps that do not say their source, of two different sets."""
    c, d = subject(tmp_path / "C", {"(none)": 0.9}, "p"), subject(tmp_path / "D", {"(none)": 0.3}, "q")
    found = verdict.decide([c, d], [])
    assert found.kind == verdict.OPEN and "They have no held-out problem in common." in found.sentences


def test_who_is_ahead_at_a_larger_kl_is_said_with_it(tmp_path):
    """90 % at 3.4 nats against 80 % at 2: ahead, and behind in what the coefficient weighs."""
    frpo = subject(tmp_path / "FRPO", {"sums": 0.8}, kl=2.0, beta=0.3)
    free = subject(tmp_path / "no KL", {"sums": 0.9}, kl=3.4, beta=0)
    found = verdict.decide([frpo, free], [])
    assert found.headline == "no KL is ahead by 10.0 points at 1.7 times the KL." and found.kind == verdict.OPEN
    assert found.sentences[2].startswith("KL of an answer to the reference: no KL 3.4")
    first, second = re.search(r"no KL (\S+), FRPO (\S+)\.$", found.sentences[3]).groups()
    assert [float(first), float(second)] == pytest.approx([0.9 - 0.3 * 3.4, 0.8 - 0.3 * 2])
    cheaper = verdict.decide([frpo, subject(tmp_path / "x", {"sums": 0.9}, kl=1.0, beta=0.3)], [])
    assert cheaper.headline == "x is ahead on the held-out problems." and cheaper.kind == verdict.GOOD
