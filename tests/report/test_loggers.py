"""verl's loggers: every metric arrives under its name, and the report reads TensorBoard's and Weights & Biases' files."""

import importlib.util
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from logged import mlflow_steps, same
from report_runs import metrics, write_run

from frpo_verl.report.collect import load_run

pytestmark = pytest.mark.slow
THERE = [name for name in ("tensorboard", "wandb", "mlflow") if importlib.util.find_spec(name)]
CODE = """
import json, sys
from verl.utils.tracking import Tracking
tracking = Tracking("mine", "metrics", sys.argv[1].split(","), config={"trainer": {}})
for step, data in json.loads(sys.argv[2]).items():
    tracking.log(data, step=int(step))
tracking.finish()
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """(folder of the run, step -> what was logged) of three steps, written by verl's own `Tracking`."""
    home = tmp_path_factory.mktemp("loggers")
    run = write_run(home / "run", steps=2)
    (run / "metrics.jsonl").unlink()
    place = run / "hydra" / ".hydra" / "config.yaml"
    config = json.loads(place.read_text())
    config["trainer"] |= {"project_name": "mine", "experiment_name": "metrics"}
    place.write_text(json.dumps(config))
    rows = {step: metrics(step, 3, random.Random(step), 1.0) for step in (1, 2, 3)}
    rows[3]["val-core/a/reward/mean@4"] = 0.5
    rows[2]["actor/grad_norm"] = math.nan
    variables = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_TRACKING_URI": f"file://{home}/mlruns"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE, ",".join(["file", *THERE]), json.dumps(rows)], cwd=home,
        env={**os.environ, **variables, "MLFLOW_ALLOW_FILE_STORE": "true"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return run, rows


@pytest.mark.parametrize("name", ["file", "tensorboard", "wandb"])
def test_the_report_reads_what_the_logger_wrote(logged, name, monkeypatch, tmp_path):
    if name not in ("file", *THERE):
        pytest.skip(f"{name} is not installed")
    run, wanted = logged
    monkeypatch.chdir(tmp_path)
    written = {"file": "mine", "tensorboard": "tensorboard_log", "wandb": "wandb"}[name]
    Path(written).symlink_to(run.parent / written)  # the other loggers' files are out of sight
    same(load_run("mine/metrics.jsonl" if name == "file" else run).steps, wanted)


@pytest.mark.skipif("mlflow" not in THERE, reason="mlflow is not installed")
def test_mlflow_holds_every_metric(logged):
    run, wanted = logged
    same(mlflow_steps(f"file://{run.parent}/mlruns", wanted), wanted)
