"""The report: reading what verl writes (also cut off and resumed), the numbers of the table, the files."""

import json
import math
import os

import pytest
from report_runs import write_metrics
from small_runs import N_PROBLEMS, N_SAMPLES, line, make_run, write_dump

from frpo_verl.evaluation import pass_at_k
from frpo_verl.report import cli, collect, facts, plot
from frpo_verl.report.curves import Curve, smooth
from frpo_verl.report.subjects import subjects_of


def test_cut_off_line_and_resumed_steps(tmp_path):
    """The last value of a step wins, name by name; half a line, foreign lines and non-numbers are passed over."""
    (tmp_path / "metrics.1.jsonl").write_text(
        line(1, critic__score__mean=0.1, actor__entropy=1.0)
        + line(2, critic__score__mean=0.2, actor__entropy=0.9)
        + line(3, critic__score__mean=0.3)
        + '{"step": 4, "data": {"critic/sco'
    )
    (tmp_path / "metrics.2.jsonl").write_text(line(3, critic__score__mean=0.33) + "[1]\n" + '{"step": 9}\n')
    (tmp_path / "metrics.10.jsonl").write_text(line(3, critic__score__mean=0.35, actor__entropy=0.8))
    (tmp_path / "metrics.jsonl").write_text(
        line(2, critic__rewards__mean=7.0)
        + line(4, critic__score__mean=float("nan"), actor__entropy=0.7, text="x", flag=True)
        + line(5, critic__score__mean=0.5)
    )
    (tmp_path / "metrics.old.jsonl").write_text(line(1, critic__score__mean=-5.0))
    run = collect.load_run(tmp_path)
    assert list(run.series["critic/score/mean"]) == [(1, 0.1), (2, 0.2), (3, 0.35), (5, 0.5)]
    assert list(run.series["actor/entropy"]) == [(1, 1.0), (2, 0.9), (3, 0.8), (4, 0.7)]
    assert run.last_step == 5 and "text" not in str(run.steps)


def test_a_run_that_was_started_over_is_not_mixed_with_the_one_before(tmp_path):
    old = "".join(line(step, critic__score__mean=0.9) for step in range(1, 101))
    (tmp_path / "metrics.1.jsonl").write_text(old)
    (tmp_path / "metrics.jsonl").write_text("".join(line(step, critic__score__mean=0.1) for step in range(1, 11)))
    for step, chance in ((0, 0.2), (10, 0.3), (100, 0.9)):
        (tmp_path / "validation").mkdir(exist_ok=True)
        write_dump(tmp_path / "validation" / f"{step}.jsonl", step, chance, 0)
    run = collect.load_run(tmp_path)
    assert list(run.series["critic/score/mean"]) == [(step, 0.1) for step in range(1, 11)] and sorted(
        run.validations
    ) == [
        0,
        10,
    ]
    assert run.last_step == 10 and run.notes == ["metrics.jsonl starts over: 100 steps of earlier starts are left out"]


def test_table_before_and_after(tmp_path):
    run = collect.load_run(make_run(tmp_path / "mine"))
    assert run.name == "mine" and run.last_step == 40 and not run.notes
    rows = {row["label"]: row for row in facts.results(run)}
    for name, index in (("before", 0), ("after", -1)):
        step = (0, 40)[index]
        right = write_dump(tmp_path / "again.jsonl", step, (0.2, 0.6)[index])
        for k in (1, N_SAMPLES):
            want = sum(pass_at_k(N_SAMPLES, c, k) for c in right.values()) / N_PROBLEMS
            assert rows[f"held-out pass@{k}"][name] == pytest.approx(want, abs=1e-12)
        assert rows["held-out reward"][name] == pytest.approx(rows["held-out pass@1"][name], abs=1e-12)
    entropy = run.series["actor/entropy"].values
    assert rows["entropy"]["before"] == entropy[0]
    assert rows["entropy"]["after"] == pytest.approx(sum(entropy[-5:]) / 5, abs=1e-12)
    assert rows["response length"] == {
        "quantity": "response_length", "label": "response length", "before": 11.5, "after": 11.5,
    }  # fmt: skip
    assert subjects_of([run])[0].label("(unknown)") == "arithmetic"


def test_a_run_of_which_no_value_is_finite_is_said_to_be_that(tmp_path, capsys):
    """It is no run without a step, and its charts do not say that nothing was logged."""
    nan = {"critic__score__mean": float("nan"), "frpo__kl_to_ref__k1": None, "actor__entropy": float("inf")}
    (tmp_path / "metrics.jsonl").write_text("".join(line(step, **nan) for step in (1, 2, 3)))
    assert cli.main([str(tmp_path)]) == 0
    out, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for name in ("critic/score/mean", "frpo/kl_to_ref/k1", "actor/entropy"):
        assert f"{name}: all 3 values are nan or inf" in " ".join(out.split())
        assert page.count(f"{name}: all 3 values are nan or inf") == 2  # in its chart's place, and among the notes
    assert ": 3 steps" in out and "Numbers that are not finite" in page
    assert "no critic/score/mean in the metrics" not in page and "no frpo/kl_to_ref/k3 in the metrics" in page


@pytest.mark.parametrize("also, start", [({}, 0.1), ({"val-aux__gsm8k__reward__mean@4": 0.2}, 0.2)])
def test_held_out_reward_from_acc_where_there_is_no_reward(tmp_path, also, start):
    first = {"val-core__gsm8k__acc__mean@4": 0.1, "val-core__gsm8k__acc__best@4__mean": 0.9}
    (tmp_path / "metrics.jsonl").write_text(line(0, **first, **also))
    assert {source: [*found] for source, found in collect.load_run(tmp_path).held_out.items()} == {
        "gsm8k": [(0, start)]
    }


def test_one_run_writes_picture_and_json(tmp_path, capsys):
    folder = make_run(tmp_path / "run")
    assert cli.main([str(folder)]) == 0
    out = capsys.readouterr().out
    for text in ("held-out reward", "held-out pass@8", "entropy", "KL to reference", "response length", "report.png"):
        assert text in out, text
    assert out.splitlines()[-1].split() == ["page:", str(folder / "report.html")]
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((folder / "report.json").read_text())["runs"][0]
    assert content["name"] == "run" and content["last_step"] == 40
    assert content["metric_names"]["kl_to_ref"] == "frpo/kl_to_ref/k1"
    assert len(content["series"]["entropy"]) == 40 and sorted(content["validations"]) == ["0", "20", "40"]
    left = {p.name for p in folder.iterdir()}
    assert left == {"metrics.jsonl", "validation", "report.html", "report.png", "report.json"}


def test_several_runs_in_one_picture(tmp_path, capsys):
    folders = [make_run(tmp_path / name, seed=i, gain=0.1 * i) for i, name in enumerate(("grpo", "frpo", "other"))]
    new = tmp_path / "new"
    assert cli.main([*map(str, folders), "--out", str(new / "both"), "--name", "A", "--name", "B", "--name", "C"]) == 0
    assert (new / "both.png").read_bytes().startswith(b"\x89PNG")
    assert (new / "both.html").read_text().startswith("<!doctype html>")
    content = json.loads((new / "both.json").read_text())
    assert [run["name"] for run in content["runs"]] == ["A", "B", "C"]
    assert "→" in capsys.readouterr().out
    assert not (folders[0] / "report.png").exists()


def test_picture_shows_the_numbers(tmp_path):
    run = collect.load_run(make_run(tmp_path / "run", steps=8))
    reward, passes, entropy, kl = plot.draw(subjects_of([run])).axes
    assert list(reward.lines[0].get_ydata()) == run.series["critic/score/mean"].values
    assert list(reward.lines[1].get_xdata()) == [0, 4, 8]
    metrics = run.validations[8]["(unknown)"]["metrics"]
    assert list(passes.lines[1].get_xdata()) == [1, 2, 4, 8]
    assert list(passes.lines[1].get_ydata()) == [metrics[f"pass@{k}"]["value"] for k in (1, 2, 4, 8)]
    assert list(entropy.lines[0].get_xdata()) == list(range(1, 9))
    assert list(kl.lines[0].get_ydata()) == run.series["frpo/kl_to_ref/k1"].values


def test_what_the_kl_buys(tmp_path):
    """Reward against the KL of an answer, step by step; the line of the best objective where a run tells it."""
    for name in ("FRPO", "no KL"):
        (tmp_path / name).mkdir()
        rows = [line(i, critic__score__mean=0.1 * i, frpo__kl_to_go__first_token__mean=0.2 * i) for i in range(1, 6)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(rows))
    (tmp_path / "FRPO" / collect.BEST_FILE).write_text('{"kl_coef": 0.5, "best": 0.25}')
    figure = plot.draw(subjects_of([collect.load_run(tmp_path / name) for name in ("FRPO", "no KL")]))
    buys = next(axis for axis in figure.axes if axis.get_xlabel().startswith("KL to the reference"))
    frpo, none, best = buys.lines
    assert frpo.get_ydata() == pytest.approx([x / 2 for x in frpo.get_xdata()]) and len(none.get_xdata()) == 5
    assert best.get_ydata() == pytest.approx([0.25 + 0.5 * x for x in best.get_xdata()])
    assert len(figure.axes) == 6


@pytest.mark.parametrize("data", [{"critic__score__mean": 0.5}, {"actor__entropy": 1.0}, {"actor__kl_loss": 0.1}])
def test_a_panel_without_data_says_so(tmp_path, data):
    (tmp_path / "metrics.jsonl").write_text(line(1, **data))
    assert cli.main([str(tmp_path)]) == 0
    figure = plot.draw(subjects_of([collect.load_run(tmp_path)]))
    texts = [" ".join(text.get_text() for text in axis.texts) for axis in figure.axes]
    assert sum(bool(text) for text in texts) == 3 and "validation_data_dir" in texts[1]


def test_nothing_to_compare_yet(tmp_path, capsys):
    """One point is before; there is no after, and no change of 0."""
    (tmp_path / "metrics.jsonl").write_text(
        line(0, **{"val-core__gsm8k__acc__mean@4": 0.125}) + line(1, critic__score__mean=0.5)
    )
    rows = facts.results(collect.load_run(tmp_path))
    assert [(row["before"], row["after"]) for row in rows] == [(0.125, None), (0.5, None)]
    assert cli.main([str(tmp_path)]) == 0
    assert "0.125" in capsys.readouterr().out
    assert facts.before_after(Curve([1, 2, 3], [1.0, 2.0, 4.0]), last=5) == (1.0, 3.0)


def test_smooth():
    assert smooth([3.0] * 9, 2.0) == pytest.approx([3.0] * 9)
    w = math.exp(-0.5)  # neighbours one sigma away; the window reaches three of them
    w2, w3 = math.exp(-2.0), math.exp(-4.5)
    got = smooth([1.0, 0.0, 0.0, 0.0, 0.0], 1.0)
    assert got[0] == pytest.approx(1 / (1 + w + w2 + w3)) and got[4] == 0.0
    assert smooth([0.0, 1.0, 2.0, 3.0], 1.0)[::-1] == pytest.approx([3 - v for v in smooth([0.0, 1.0, 2.0, 3.0], 1.0)])


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    write_metrics(tmp_path / "unstarted", {})
    for name, hint in (("nowhere", "no such folder"), ("empty", "metrics.jsonl"), ("unstarted", "no step")):
        path = tmp_path / name
        assert cli.main([str(path)]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1 and str(path) in message and hint in message
    with pytest.raises(SystemExit) as stop:
        cli.main([str(make_run(tmp_path / "a")), "--name", "x", "--name", "y"])
    assert stop.value.code == 2 and "--name" in capsys.readouterr().err
    assert cli.main([str(tmp_path / "a"), "--data", str(tmp_path / "no.parquet")]) == 2
    assert "no.parquet" in capsys.readouterr().err


def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run")
    assert cli.main([str(folder)]) == 0
    before = {name: (folder / name).read_bytes() for name in ("report.html", "report.png", "report.json")}
    (folder / "metrics.jsonl").write_text(line(1, critic__score__mean=0.9))

    def refuse(source, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", refuse)
    assert cli.main([str(folder)]) == 2
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
