"""What verl's loggers have written, against what was logged."""

import os

import pytest


def same(found, wanted):
    assert sorted(found) == sorted(wanted)
    for step, data in wanted.items():
        for name, value in data.items():
            assert found[step][name] == pytest.approx(value, rel=1e-6, abs=1e-30, nan_ok=True), (step, name)


def mlflow_steps(uri, wanted):
    """step -> what MLflow's only run there holds of the metrics of `wanted`, under the names that verl gives it: @ is written _at_."""
    import mlflow

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    client = mlflow.MlflowClient(tracking_uri=uri)
    (found,) = (r for e in client.search_experiments() for r in client.search_runs([e.experiment_id]))
    steps = {step: {} for step in wanted}
    for name in {name for data in wanted.values() for name in data}:
        for entry in client.get_metric_history(found.info.run_id, name.replace("@", "_at_")):
            steps[entry.step][name] = entry.value
    return steps
