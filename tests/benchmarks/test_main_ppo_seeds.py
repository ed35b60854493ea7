"""benchmarks/main_ppo_seeds.py: the published runs are whole, and the page shows their means."""

import json
import statistics
from pathlib import Path

import main_ppo_seeds

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"


def test_the_page_shows_the_means_of_five_whole_runs():
    task = main_ppo_seeds.TASKS["coverage"]
    runs = json.loads((RESULTS / "coverage_main_ppo.json").read_text())
    rows = [
        line for line in (RESULTS / "coverage.md").read_text().splitlines() if line.count("|") == 7 and " / " in line
    ]
    assert len(rows) == 1 + len(task.betas)  # with the head
    for method, row in zip(task.betas, rows[1:], strict=True):
        found = [r for r in runs if r["method"] == method]
        assert sorted(r["seed"] for r in found) == [1, 2, 3, 4, 5] and {r["steps"] for r in found} == {40}
        ends = [r["validations"]["40"]["pass@1"] for r in found]
        for values in (ends, [r["pass@16"] for r in found]):
            assert f" {statistics.mean(values):.3f}±" in row
