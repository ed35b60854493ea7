"""A folder of runs: one page with a line a run, linked to the page of each."""

import os
import re
from urllib.parse import unquote

import pytest
from report_pages import SCRIPT, Page
from report_runs import write_metrics, write_run

from frpo_verl.report import cli
from frpo_verl.report.collect import load_run
from frpo_verl.report.index import find_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs in folders of different depth, one with nothing in it yet, and a folder that is none."""
    home = tmp_path_factory.mktemp("home") / "runs"
    write_run(home / "frpo_qwen" / "method x", "frpo", steps=12)
    write_run(home / "grpo", "grpo", 1, steps=10)
    write_metrics(home / "unstarted", {})
    (home / "notes").mkdir()
    (home / "notes" / "readme.txt").write_text("x")
    assert cli.main([str(home)]) == 0
    return home


def test_runs_are_found_below_a_folder(runs):
    assert [run.relative_to(runs).as_posix() for run in find_runs(runs)] == ["frpo_qwen/method x", "grpo", "unstarted"]
    assert find_runs(runs / "grpo") == []  # a run itself
    assert find_runs(runs / "notes") == []
    write_run(runs / "grpo" / "inner", steps=2)  # of the run that it lies in
    assert [run.name for run in find_runs(runs)] == ["method x", "grpo", "unstarted"]


def test_a_line_a_run_linked_to_its_page(runs):
    html = (runs / "report.html").read_text()
    page = Page(html)
    links = [unquote(attrs["href"]) for tag, attrs in page.tags if tag == "a" and attrs["href"][0] != "#"]
    assert links == ["frpo_qwen/method x/report.html", "grpo/report.html"]
    assert all((runs / link).read_text().startswith("<!doctype html>") for link in links)
    found = load_run(runs / "grpo").validations[10]["(unknown)"]["metrics"]["pass@1"]
    values = f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}] %"
    line = next(row for row in html.split("<tr>") if "grpo/report.html" in row)
    for words in (values, ">grpo<", "synthetic", "10 of 500"):
        assert words in line, words
    assert "frpo (kl_coef=0.01, placement=future)" in html
    assert "no step in it yet" in page.text and "notes" not in page.text
    assert not [tag for tag, _ in page.tags if tag == "script"]


def test_warnings_are_counted_and_named(tmp_path):
    rows = {step: {"critic/score/mean": 0.5, "frpo/regularizer_share": 3.0} for step in range(1, 9)}
    write_metrics(tmp_path / "runs" / "bad", rows)
    assert cli.main([str(tmp_path / "runs"), "--title", "mine", "--out", str(tmp_path / "all.html")]) == 0
    html = (tmp_path / "all.html").read_text()
    assert "The regulariser is larger than the reward" in html and "<h1><bdi>mine</bdi></h1>" in html
    assert 'href="runs/bad/report.html"' in html


def test_what_a_folder_is_called_is_text(tmp_path):
    name = SCRIPT.replace("/", "-")
    write_run(tmp_path / "runs" / name, steps=2)
    assert cli.main([str(tmp_path / "runs")]) == 0
    page = Page((tmp_path / "runs" / "report.html").read_text())
    assert not [tag for tag, _ in page.tags if tag == "script"] and name in page.text


def test_watching_writes_the_pages_that_changed(tmp_path, monkeypatch, capsys):
    home, seen = tmp_path / "runs", []
    rows = {step: {"critic/score/mean": 0.5} for step in (1, 2, 3)}

    def stamps():
        return {p.parent.name: p.stat().st_mtime_ns for p in home.rglob("report.html")}

    def sleep(seconds):
        seen.append(stamps())
        if len(seen) == 1:
            write_metrics(home / "a", rows)
            write_metrics(home / "b", rows)
        elif len(seen) == 3:
            write_metrics(home / "a", rows | {4: rows[3]})
            os.utime(home / "a" / "metrics.jsonl", ns=(1, 2**60))
        elif len(seen) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", sleep)
    write_metrics(home / "c" / "x", {2: rows[2]})
    assert cli.main([str(home), "--watch"]) == 0
    first, second, third, fourth = seen
    assert set(first) == {"runs", "x"} and set(second) == {"runs", "a", "b", "x"}
    assert all(third[name] == second[name] for name in "abx") and third["runs"] > second["runs"]
    assert fourth["a"] > third["a"] and fourth["b"] == third["b"]
    html = (home / "report.html").read_text()
    assert 'data-seconds="30"' in html and "location.reload" in html
    assert re.search(r"a 4, b 3, c/x 2", capsys.readouterr().out)


@pytest.mark.parametrize("argv", [["--name", "x"], ["--group"]])
def test_what_does_nothing_for_a_folder_of_runs_is_refused(runs, argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(runs), *argv])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"{argv[0]}" in error and "a folder of runs" in error
