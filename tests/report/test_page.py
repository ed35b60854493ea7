"""The page: what is on it, what a hostile or broken run does to it, and how it is rewritten while a run goes on."""

import json
import re
from pathlib import Path

import pytest
from report_pages import SCRIPT, Page, hostile, page_of
from report_runs import write_metrics, write_run

from frpo_verl.evaluation.figures import number
from frpo_verl.report import cli, collect, write_report
from frpo_verl.report.answers import Answer, write_answers

STEP = {1: {"critic/score/mean": 0.5}}
SECTIONS = [
    "What was run", "Verdict", "Warnings", "Reward and validation", "Distance from the reference", "Entropy",
    "Share of the regulariser", "Clip fractions", "Groups without variance", "Answer length and truncation",
    "Time and memory", "A few answers",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("one") / "frpo")


@pytest.fixture(scope="module")
def html(run):
    return page_of(run)


def test_the_sections_stand_in_their_order(html):
    page = Page(html)
    assert page.of("h2") == SECTIONS
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"][1:] for tag, attrs in page.tags if tag == "a"]
    assert len(targets) == len(SECTIONS) + 1 and set(targets) <= set(ids)


def test_it_asks_for_nothing_and_runs_nothing(html):
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "iframe", "object", "embed", "base")]
    addresses = [attrs.get(n, "") for _, attrs in page.tags for n in ("src", "href", "xlink:href", "srcset", "action")]
    assert all(a == "" or a[0] == "#" or a == "data:," for a in addresses)
    named = set(re.findall(r"https?://[^\s\"']+", html))
    assert named <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"url\((?!#)", html) and "@import" not in html
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "script-src" not in policy


def test_what_was_run_and_the_verdict(html, run):
    text = Page(html).text
    for words in ("frpo (kl_coef=0.01, placement=future)", "Qwen/Qwen3-1.7B", "synthetic", "40 of 500", "data.seed=0"):
        assert words in text, words
    loaded = collect.load_run(run)
    first, last = (loaded.validations[s]["(unknown)"]["metrics"]["mean@8"] for s in (0, 40))
    for m in (first, last):
        assert f"{100 * m['value']:.1f} [{100 * m['low']:.1f}, {100 * m['high']:.1f}] %" in text
    assert f"The policy got better: {100 * (last['value'] - first['value']):+.1f} points" in text
    shares = loaded.shares
    assert sum(shares[40]["(unknown)"].values()) / 12 == pytest.approx(last["value"])


def test_every_chart_has_a_name_and_its_numbers_as_a_table(html, run):
    page = Page(html)
    images = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    hidden = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("aria-hidden") == "true"]
    assert len(images) + len(hidden) == sum(tag == "svg" for tag, _ in page.tags)
    assert len(images) == html.count("<figure>") >= 20
    kl = collect.load_run(run).series["frpo/kl_to_ref/k1"].values
    name = next(a["aria-label"] for a in images if a["aria-label"].startswith("KL to the reference, nats"))
    assert any(a["aria-label"].startswith("Coefficient of the KL, beta") for a in images)
    assert f"from {number(kl[0])} at 1 to {number(kl[-1])} at 40" in name
    rows = page.of("td")
    assert number(max(kl)) in rows and number(min(kl)) in rows


def test_tokens_are_shaded_by_their_log_ratio(tmp_path):
    folder = tmp_path / "shaded"
    answer = Answer(3, "u", 1.0, ["near", "up", "down\n", "far", "lost"], [0.049, 0.25, -0.05, 1.0, float("nan")])
    write_answers(folder / "answers", 3, [answer])
    html = page_of(write_metrics(folder, STEP))
    for piece in ("<span>near</span>", '<span class="sp2">up</span>', '<span class="sn1">down↵\n</span>'):
        assert piece in html, piece
    assert '<span class="sp3">far</span><span>lost</span>' in html
    assert "whole log-ratio 1.249 nats" in html


def test_without_answers_and_dumps_one_line_each_says_so(tmp_path):
    text = Page(page_of(write_metrics(tmp_path / "bare", STEP))).text
    for words in (
        "no log-ratios of tokens", "no answers: no validation dumps", "no validation dumps: set trainer.validation_data_dir",
        "no configuration", "no timing_s/step", "no KL in the metrics", "Not decided",
    ):  # fmt: skip
        assert text.count(words) == 1, words


@pytest.mark.slow
def test_what_a_model_or_a_configuration_wrote_is_text(tmp_path):
    folder = hostile(tmp_path / "run")
    for arguments in (["--name", SCRIPT, "--title", SCRIPT], ["--name", SCRIPT, "--name", "b"]):
        folders = [folder] if "--title" in arguments else [folder, folder]
        html = page_of(*folders, arguments=arguments)
        page = Page(html)
        assert not [tag for tag, _ in page.tags if tag == "script"]
        assert "<script" not in html and page.text.count(SCRIPT) > 15
        json.loads((tmp_path / "page.json").read_text())


def test_broken_logs_show_what_is_there(tmp_path):
    folder = write_run(tmp_path / "broken", steps=12)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[5]["data"]["actor/grad_norm"] = None  # how verl writes nan
    cut = "\n".join(map(json.dumps, rows[:-1])) + "\n[[1]]\n" + "[" * 100_000 + "\n" + lines[-1][:40]
    (folder / "metrics.jsonl").write_bytes(cut.encode() + b"\xff\x00")
    (folder / "validation" / "12.jsonl").write_text('{"input": "x", "output": 3}\n')
    (folder / "validation" / "6.jsonl").write_bytes(b"\x00\xfe")
    (folder / "hydra" / ".hydra" / "config.yaml").write_text("a: [1\nb: }")
    (folder / "answers" / "1.jsonl").write_text('{"tokens": ["a"], "log_ratio": []}\nno\n')
    (folder / "environment.json").write_text("[]")
    page = Page(page_of(folder))
    for words in (
        "metrics.jsonl: 3 lines passed over", "12.jsonl: no grade", "6.jsonl", "not YAML",
        "answers/1.jsonl: 2 lines could not be read", "Numbers that are not finite", "actor/grad_norm",
    ):  # fmt: skip
        assert words in page.text, words
    assert page.of("h2") == SECTIONS


def test_numbers_beyond_all_bounds(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    values = [1e308, -1e308, 9e99, -3e38, 5e-324, "1e999", 10**400, -0.0]
    names = ("critic/score/mean", "actor/entropy", "frpo/kl_to_ref/k1", "timing_s/step", "frpo/regularizer_share")
    lines = [
        json.dumps({"step": s, "data": {n: v for n in names}}).replace('"1e999"', "1e999") for s, v in enumerate(values)
    ]
    lines += ['{"step": 1%s, "data": {"actor/entropy": 1.0}}' % ("0" * 30), '{"step": NaN, "data": {}}']  # noqa: UP031
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    text = Page(page_of(folder)).text
    assert "2 lines passed over" in text and "9.00e+99" in text and "9" * 40 not in text


def test_an_empty_run_beside_another_is_said_in_one_line(tmp_path, run, capsys):
    (tmp_path / "empty").mkdir()
    write_metrics(tmp_path / "unstarted", {})
    out = tmp_path / "page.html"
    folders = [str(tmp_path / "empty"), str(run), str(tmp_path / "unstarted"), "--out", str(out)]
    assert cli.main(folders) == 0
    page = Page(out.read_text())
    notes = [text for text in page.of("bdi") if text.startswith("RUN ")]
    assert len(notes) == 2 and "neither metrics.jsonl nor validation/" in notes[0] and "no step in it yet" in notes[1]
    said = capsys.readouterr().out
    assert notes[0] in said and notes[1] in said
    assert cli.main([folders[0], folders[2]]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_two_methods_differ_where_they_are_marked(tmp_path):
    folders = [write_run(tmp_path / name, name, steps=12) for name in ("frpo", "grpo")]
    html = page_of(*folders)
    page = Page(html)
    differing = html.split("<caption>Settings that differ")[1].split("</table>")[0]
    marked = Page(differing).of("mark")
    assert "grpo" in marked and len(marked) == len(re.findall("<tr>", differing)) - 1
    assert "data.seed" not in differing and "run_dir" not in differing and "validation_data_dir" not in differing
    assert "algorithm.frpo.kl_coef" in differing
    assert "Qwen/Qwen3-1.7B" in html.split("The same in all")[1].split("</table>")[0]
    labels = [a["aria-label"] for tag, a in page.tags if tag == "svg" and "aria-label" in a]
    entropy = next(label for label in labels if label.startswith("Entropy of the policy"))
    assert "frpo from" in entropy and "grpo from" in entropy


def test_watching_writes_again_until_interrupted(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    out, seen = folder / "report.html", []

    def sleep(seconds):
        seen.append((seconds, out.read_text()))
        if len(seen) == 3:
            raise KeyboardInterrupt
        write_metrics(folder, {len(seen): STEP[1]})

    monkeypatch.setattr(cli.time, "sleep", sleep)
    monkeypatch.setattr(cli.webbrowser, "open", lambda address: seen.append(address) or True)
    assert cli.main([str(folder), "--watch", "7"]) == 0
    waits, pages = zip(*seen, strict=True)
    assert all(0 <= wait <= 7 for wait in waits)
    assert "No step in it yet" in pages[0] and "after 1 steps" in pages[1] and "after 2 steps" in pages[2]
    assert 'data-seconds="7"' in pages[2] and "location.reload" in pages[2]
    assert capsys.readouterr().out.count("\n") == 4
    assert 'id="reload"' not in page_of(folder)


def test_watching_a_folder_that_is_not_there_yet_does_not_make_it(tmp_path, monkeypatch, capsys):
    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", stop)
    assert cli.main([str(tmp_path / "later"), "--watch", "5"]) == 0
    assert "no such folder" in capsys.readouterr().out and not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["0", "x", "-3", "nan", "1e9"])
def test_seconds_that_make_no_sense_are_refused(tmp_path, text, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(tmp_path), "--watch", text])
    assert stop.value.code == 2 and "1 to 86400" in capsys.readouterr().err


@pytest.mark.parametrize(
    "runs, out, files",
    [
        (["RUN"], "a.html", ["a.html", "a.png"]),
        (["RUN"], "a.png", ["a.html", "a.png"]),
        (["RUN"], "a", ["a.html", "a.png"]),
        (["RUN"], "a.pdf", ["a.html", "a.pdf"]),
        (["RUN"], None, ["RUN/report.html", "RUN/report.png"]),
        (["R", "S"], None, ["report.html", "report.png"]),
    ],
)
def test_where_the_files_go(runs, out, files):
    assert [*map(str, cli.targets(runs, Path(out) if out else None))] == files


def test_the_page_opens_in_a_browser_on_request(tmp_path, monkeypatch):
    write_metrics(tmp_path, STEP)
    opened = []
    monkeypatch.setattr(cli.webbrowser, "open", lambda address: opened.append(address) or True)
    assert cli.main([str(tmp_path), "--open"]) == 0
    assert opened == [(tmp_path / "report.html").resolve().as_uri()]


def test_a_report_at_the_end_of_a_run_never_stops_it(tmp_path, monkeypatch, caplog):
    write_metrics(tmp_path, STEP)
    assert write_report(tmp_path) == tmp_path / "report.html"
    assert write_report(tmp_path / "nowhere") is None and "no such folder" in caplog.text
    monkeypatch.setattr("frpo_verl.report.page.render", lambda *a, **k: 1 / 0)
    assert write_report(tmp_path) is None and "ZeroDivisionError" in caplog.text
