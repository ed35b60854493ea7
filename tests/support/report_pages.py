"""A report's page as a browser reads it, and a run in which every text from outside is a script."""

import json
import random
from html.parser import HTMLParser

from report_runs import write_dump, write_run

from frpo_verl.report import cli

SCRIPT = "<script>alert(1)</script>"


class Page(HTMLParser):
    """A page as a browser reads it: its elements, and its text by the element that it stands in."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "input", "path", "use", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [text for at, text in self.texts if at == tag]

    @property
    def text(self):
        return " ".join(" ".join(t for at, t in self.texts if at not in ("style", "script")).split())


def page_of(*folders, arguments=()):
    out = folders[0].parent / "page.html"
    assert cli.main([*map(str, folders), "--out", str(out), *arguments]) == 0
    return out.read_text(encoding="utf-8")


def hostile(folder):
    """A run in which every text that comes from outside is a script."""
    folder = write_run(folder, steps=8)
    (folder / "validation").rename(folder / "gone")
    for step in (0, 8):
        extra = {"input": SCRIPT, "output": f"</pre>{SCRIPT}", "gts": SCRIPT, "pred": SCRIPT, "data_source": SCRIPT}
        write_dump(folder / "validation" / f"{step}.jsonl", step, 0.3, random.Random(0), 4, 4, **extra)
    place = folder / "hydra" / ".hydra"
    config = json.loads((place / "config.yaml").read_text())
    config["algorithm"][SCRIPT] = SCRIPT
    config["actor_rollout_ref"]["model"]["path"] = SCRIPT
    (place / "config.yaml").write_text(json.dumps(config))
    hydra = {"hydra": {"runtime": {"choices": {"recipe": SCRIPT}}, "overrides": {"task": [SCRIPT]}}}
    (place / "hydra.yaml").write_text(json.dumps(hydra))
    (folder / "environment.json").write_text(
        json.dumps({"versions": {SCRIPT: SCRIPT}, "commit": SCRIPT, "device": SCRIPT})
    )
    row = {
        "step": 8, "uid": SCRIPT, "score": 1, "tokens": [SCRIPT, "\ud800"], "log_ratio": [2.0, 0.0], "prompt": SCRIPT,
    }  # fmt: skip
    (folder / "answers" / "8.jsonl").write_text(json.dumps(row) + "\n")
    with open(folder / "metrics.jsonl", "a") as file:
        data = {
            f"val-aux/{SCRIPT}/reward/mean@4": 0.5, f"val-aux/{SCRIPT}/verify_error/mean@4": 0.5,
            f"timing_s/{SCRIPT[:8]}": 5.0,
        }  # fmt: skip
        file.write(json.dumps({"step": 8, "data": data | {"critic/score/mean": None, SCRIPT: None}}) + "\n")
    return folder
