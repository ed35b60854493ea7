"""The quickstart's picture in the README, with the record of the runs that it shows.

    make quickstart
    python benchmarks/quickstart_figure.py       # docs/figures/quickstart.png and docs/results/quickstart.json

The record holds, for each of the two runs, every setting that is not verl's default, versions and commit, the table and the
curves; a test compares the settings with those of today's recipe.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import records
from main_ppo_seeds import CURVE

from frpo_verl.quickstart.__main__ import plan
from frpo_verl.report.collect import load_run, metric_files, read_metrics
from frpo_verl.report.facts import as_json
from frpo_verl.twin import differences
from frpo_verl.verl_plugin.upstream import compose_config


def settings(config: Any) -> dict[str, str]:
    """What a configuration says otherwise than verl's default one, as it was written."""
    return {key: after for key, (_, after) in differences(compose_config(), config).items()}


def record(run: Path) -> dict[str, Any]:
    """A finished run's settings, environment, table and curves."""
    from omegaconf import OmegaConf

    shown, metrics = as_json(load_run(run)), read_metrics(metric_files(run))
    curve = [
        {"step": step} | {name: row[key] for name, key in CURVE.items() if key in row} for step, row in metrics.items()
    ]
    return {
        "settings": settings(OmegaConf.load(run / "hydra/.hydra/config.yaml")), "environment": shown["environment"],
        "table": shown["table"], "curve": [row for row in curve if len(row) > 1],
    }  # fmt: skip


def main() -> None:
    parser = records.parser(__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="the quickstart's --run")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    runs = {name: record(run) for name, (run, _) in plan(args.run, []).items()}
    records.write(args.docs / "results/quickstart.json", runs)
    shutil.copyfile(args.run / "report.png", args.docs / "figures/quickstart.png")


if __name__ == "__main__":
    main()
