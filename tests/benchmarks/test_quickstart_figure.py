"""The picture of the quickstart in the README is of today's recipe, and the README's figures are those of its record."""

import json
from pathlib import Path

import pytest
import quickstart_figure as figure
from verl_config import compose_ppo

from frpo_verl.quickstart.__main__ import RUNS, plan

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "docs/results/quickstart.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_the_picture_shows_todays_recipe(name):
    run, overrides = plan(Path("runs/quickstart"), [])[name]
    steps = RECORD[name]["curve"][-1]["step"]
    words = [f"run_dir={run}", f"trainer.total_training_steps={steps}", *overrides]
    today = figure.settings(compose_ppo("+recipe=quickstart_cpu", *words))
    again = "make quickstart FRESH=1 && python benchmarks/quickstart_figure.py"
    assert today == RECORD[name]["settings"], f"the recipe has changed since the picture: {again}"


def test_the_readme_says_what_the_record_says():
    text = (ROOT / "README.md").read_text()
    (before, after), (_, without) = (
        next((row["before"], row["after"]) for row in RECORD[name]["table"] if row["label"] == "held-out pass@1")
        for name in RUNS
    )
    for value in (before, after, without):
        assert f"{value:.3f}".removeprefix("0") in text
