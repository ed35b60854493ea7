"""The README's first picture: drawn from its records, whose runs are of today's task, model and steps."""

import json
import statistics
from pathlib import Path

import coverage
import evidence_figure as figure
import numpy as np
from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parents[2] / "docs/results"
RECORD = json.loads((RESULTS / "coverage.json").read_text())


def test_the_record_is_of_todays_recipe():
    again = "python benchmarks/coverage.py --published none, copy its coverage.json and draw the figure again"
    assert RECORD["recipe"] == coverage.recipe(), f"task, model or steps have changed since the picture: {again}"


def test_the_picture_shows_the_record():
    left, right = Figure().subplots(1, 2)
    figure.draw(left, right, RESULTS)
    drawn = {line.get_label(): line[0].get_xydata().tolist() for line in right.containers}
    assert set(drawn) == set(figure.SHOWN)
    for method, points in drawn.items():
        cells = {}
        for run in RECORD["runs"]:
            if (run["method"], run["by_std"], run["unsolvable"]) == (method, False, 0):
                cells.setdefault(run["beta"], []).append([run["end"][c] for c in ("pass@1", "pass@16")])
        means = [[statistics.mean(x) for x in zip(*ends, strict=True)] for ends in cells.values() if len(ends) >= 3]
        np.testing.assert_allclose(sorted(points), sorted(means))
