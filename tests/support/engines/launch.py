"""Start the ranks of an engine and compare the gradients of two engines."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from .engine_settings import MEGATRON_VARIABLES, VARIABLES

HERE = Path(__file__).parent
PACKAGES = ("megatron.core", "mbridge", "einops")


def missing_packages() -> list[str]:
    """The packages of the extra `megatron-test` that this environment lacks."""

    def there(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    return [name for name in PACKAGES if not there(name)]


def environment(device: str = "cpu") -> dict[str, str]:
    """Variables of a process that runs an engine on a CPU or a GPU."""
    path = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    platform = {} if device == "cpu" else {"VERL_PLATFORM": ""}
    return {**os.environ, **VARIABLES, **platform, **MEGATRON_VARIABLES, "PYTHONPATH": os.pathsep.join(path)}


def run_engine(
    engine: str, model: Path, out: Path, cases: list[str], tensor_parallel: int = 1, pipeline_parallel: int = 1,
    packed: bool = False, timeout: float = 600, device: str = "cpu",
) -> dict:  # fmt: skip
    """What `worker.py` found: weights, log-probs and, for each case, gradient and metrics.

    Raises:
        RuntimeError: a rank failed or the time is over; the end of the rank's output is in the message.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = tensor_parallel * pipeline_parallel
    command = [
        sys.executable, str(HERE / "worker.py"), "--engine", engine, "--model", str(model), "--out", str(out),
        "--tensor-parallel", str(tensor_parallel), "--pipeline-parallel", str(pipeline_parallel),
        *(["--packed"] if packed else []), "--cases", *cases,
    ]  # fmt: skip
    shared = {
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    ranks, logs = [], [out.with_suffix(f".{rank}.log") for rank in range(world)]
    for rank, log in enumerate(logs):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WG_BACKEND": "ray"}
        with open(log, "w") as output:
            env = {**environment(device), **shared, **own}
            ranks.append(subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT))
    deadline = time.monotonic() + timeout
    try:
        while any(p.poll() is None for p in ranks) and not any(p.poll() for p in ranks):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        for process in ranks:
            process.kill() if process.poll() is None else None
    failed = [log for process, log in zip(ranks, logs, strict=True) if process.wait() != 0]
    if failed:
        raise RuntimeError(f"{engine} {tensor_parallel}x{pipeline_parallel}: {failed[0].read_text()[-4000:]}")
    return torch.load(out, weights_only=False, map_location="cpu")


@dataclass
class Difference:
    """How far two engines' gradients of one case are apart."""

    case: str
    tensors: int
    largest_entry: float
    gradient: float
    loss: tuple[float, float]
    grad_norm: tuple[float, float]


def number(value) -> float:
    while isinstance(value, (list, tuple)):
        value = value[0]
    return float(value)


def compare(base: dict, other: dict) -> list[Difference]:
    """One row for each case of two results of `run_engine`."""
    rows = []
    for case, mine in base["cases"].items():
        theirs = other["cases"][case]
        a, b = mine["gradient"], theirs["gradient"]
        if a.keys() != b.keys():
            raise ValueError(f"{case}: weights of one engine only: {sorted(a.keys() ^ b.keys())}")
        pair = lambda key, m=mine, t=theirs: (number(m["metrics"][key]), number(t["metrics"][key]))  # noqa: E731
        rows.append(
            Difference(
                case=case,
                tensors=len(a),
                largest_entry=max(float(g.abs().max()) for g in a.values()),
                gradient=max(float((a[k].double() - b[k].double()).abs().max()) for k in a),
                loss=pair("loss"),
                grad_norm=pair("grad_norm"),
            )
        )
    return rows
