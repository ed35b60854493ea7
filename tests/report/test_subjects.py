"""Groups of runs: which runs are one, their mean and its interval."""

import json

import pytest
from report_pages import Page, page_of
from report_runs import write_metrics, write_run

from frpo_verl.report import collect
from frpo_verl.report.subjects import subjects_of


def test_a_group_is_its_mean_with_students_interval(tmp_path):
    folders = [write_run(tmp_path / f"{m}-seed{i}", m, i, steps=12) for m in ("frpo", "grpo") for i in range(3)]
    runs = [collect.load_run(folder) for folder in folders]
    subjects = subjects_of(runs, grouped=True)
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


@pytest.mark.parametrize(
    "names, how, groups",
    [
        (["a-seed1", "a-seed2", "b_3", "b_4", "7"], {"grouped": True}, {"a": 2, "b": 2, "7": 1}),
        (["x1", "x2", "x1"], {"grouped": True, "named": True}, {"x1": 2, "x2": 1}),
        (["x", "x", "x"], {}, {"x": 1, "x (2)": 1, "x (3)": 1}),
    ],
)
def test_what_is_one_group(tmp_path, names, how, groups):
    subjects = subjects_of([collect.TrainingRun(name, tmp_path) for name in names], **how)
    assert {subject.name: len(subject.runs) for subject in subjects} == groups


def test_runs_of_a_group_of_different_length_are_pooled_where_all_have_a_value(tmp_path):
    folders = [
        write_metrics(tmp_path / f"r{n}", {step: {"critic/score/mean": step / n} for step in range(1, n + 1)})
        for n in (6, 9)
    ]
    (subject,) = subjects_of([collect.load_run(folder) for folder in folders], grouped=True)
    found = subject.curve("critic/score/mean")
    assert found.steps == [1, 2, 3, 4, 5, 6] and found.values[-1] == pytest.approx((1 + 6 / 9) / 2)
    assert not subject.curve("actor/entropy") and subject.last_step == 6
