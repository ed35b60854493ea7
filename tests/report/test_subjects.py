"""Groups of runs: which runs are one, their mean and its interval."""

import json

import pytest
from report_pages import Page, page_of
from report_runs import write_run

from frpo_verl.report import collect
from frpo_verl.report.subjects import alone, group


def test_a_group_is_its_mean_with_students_interval(tmp_path):
    folders = [write_run(tmp_path / f"{m}-seed{i}", m, i, steps=12) for m in ("frpo", "grpo") for i in range(3)]
    runs = [collect.load_run(folder) for folder in folders]
    subjects = group(runs, named=False)
    assert [(s.name, len(s.runs)) for s in subjects] == [("frpo", 3), ("grpo", 3)]
    found = subjects[0].validation("(unknown)", "mean@8")
    values = [run.validations[12]["(unknown)"]["metrics"]["mean@8"]["value"] for run in runs[:3]]
    mean = sum(values) / 3
    half = 4.302653 * (sum((v - mean) ** 2 for v in values) / 2 / 3) ** 0.5  # t of two degrees of freedom
    assert (found.values[-1], found.low[-1], found.high[-1]) == pytest.approx(
        (mean, mean - half, mean + half), rel=1e-6
    )
    text = Page(page_of(*folders, arguments=["--group"])).text
    assert f"{100 * mean:.1f} [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}] %" in text
    assert json.loads((tmp_path / "page.json").read_text())["groups"]["frpo"] == [
        "frpo-seed0", "frpo-seed1", "frpo-seed2",
    ]  # fmt: skip


def test_what_is_one_group(tmp_path):
    def named(*names):
        runs = []
        for name in names:
            runs.append(collect.TrainingRun(name, tmp_path))
        return runs

    assert [s.name for s in group(named("a-seed1", "a-seed2", "b_3", "b_4", "7"), named=False)] == ["a", "b", "7"]
    assert [len(s.runs) for s in group(named("x1", "x2", "x1"), named=True)] == [2, 1]
    assert [s.name for s in alone(named("x", "x", "x"))] == ["x", "x (2)", "x (3)"]


def test_runs_of_a_group_of_different_length_are_pooled_where_all_have_a_value(tmp_path):
    steps = (6, 9)
    for n in steps:
        (tmp_path / f"r{n}").mkdir()
        lines = [json.dumps({"step": s, "data": {"critic/score/mean": s / n}}) for s in range(1, n + 1)]
        (tmp_path / f"r{n}" / "metrics.jsonl").write_text("\n".join(lines))
    (subject,) = group([collect.load_run(tmp_path / f"r{n}") for n in steps], named=False)
    found = subject.curve("critic/score/mean")
    assert found.steps == [1, 2, 3, 4, 5, 6] and found.values[-1] == pytest.approx((1 + 6 / 9) / 2)
    assert subject.curve("actor/entropy") is None and subject.last_step == 6
