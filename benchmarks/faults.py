"""What a run does when something in it dies or lies, and whether the next start goes on from a whole checkpoint.

    python benchmarks/faults.py                                  # every fault; writes docs/results/faults.json and faults.md
    python benchmarks/faults.py --only "kill the training worker in update" "a reward that raises"

A tiny model on a processor, main_ppo with frpo, a checkpoint after every step, 4 steps. Processes are killed with SIGKILL
in the moment in which Ray shows the phase in the title of a process, after step 1. A run that is still there after --limit
seconds is ended and counted as one that hangs. Then the same command is started again without the fault.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests")]

import e2e  # noqa: E402
import psutil  # noqa: E402

from frpo_verl.files import write_atomically  # noqa: E402

STEPS = 4
VICTIMS = {
    "the training worker": r"^ray::WorkerDict",
    "the rollout server": r"^ray::HFServer",
    "the reward worker": r"^ray::RewardLoopWorker",
    "the trainer's actor": r"^ray::TaskRunner",
    "the command": r"-m verl.trainer.main_ppo",
}
PHASES = {
    "generation": r"^ray::AgentLoopWorker\w*\.generate",
    "update": r"^ray::WorkerDict\.\w*update_actor",
    "checkpoint": r"^ray::WorkerDict\.\w*save_checkpoint",
}
KILLS = [
    ("the training worker", "generation"),
    ("the training worker", "update"),
    ("the training worker", "checkpoint"),
    ("the rollout server", "generation"),
    ("the rollout server", "update"),
    ("the reward worker", "generation"),
    ("the trainer's actor", "update"),
    ("the command", "update"),
]
LIES = [
    "a reward that raises",
    "a reward that hangs",
    "a reward that is a string",
    "NaN in a log-prob",
    "NaN in an advantage",
    "NaN in a weight",
    "no room for a checkpoint",
]
ERROR = re.compile(
    r"^(?:\w*\.)*\w*(?:Error|Exception|Died|Gone|Mismatch)\b.*|.*(?:unexpectedly|was killed|actor died).*", re.I
)


@dataclass
class Outcome:
    """How a run with a fault ended."""

    fault: str
    ended: str  # `exit 1 after 12 s`, `hangs`, `goes on`
    line: str  # the last line of its output that speaks of an error
    resumed: str  # what the next start did


def titles(root: int) -> dict[int, str]:
    """Command line (Ray's title of the task under way) of a process and all its descendants."""
    found = {}
    for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
        try:
            text = (
                Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            )
        except OSError:
            continue
        found[process.pid] = text
    return found


def command(inputs: Path, run: Path) -> list[str]:
    overrides = [f"trainer.total_training_steps={STEPS}", "trainer.save_freq=1", "trainer.resume_mode=auto"]
    reward = [
        "reward.custom_reward_function.path=pkg://faults_inside",
        "reward.custom_reward_function.name=compute_score",
    ]
    return e2e.command(inputs, run, *overrides, *reward)


def start(inputs: Path, run: Path, log: Path, fault: str) -> subprocess.Popen:
    env = {**e2e.environment(run), "FRPO_FAULT": fault, "VERL_USE_EXTERNAL_MODULES": "faults_inside"}
    with open(log, "wb") as out:
        return subprocess.Popen(command(inputs, run), stdout=out, stderr=subprocess.STDOUT, env=env)


def kill_in_phase(process: subprocess.Popen, run: Path, victim: str, phase: str) -> bool:
    """Kill the victim when the phase is seen after step 1; False if the run ended before that."""
    patience = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < patience:
        if 1 not in e2e.metrics(run):
            time.sleep(0.2)
            continue
        try:
            seen = titles(process.pid)
        except psutil.NoSuchProcess:
            continue
        if any(re.search(PHASES[phase], text) for text in seen.values()):
            for pid in [pid for pid, text in seen.items() if re.search(VICTIMS[victim], text)]:
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def wait(process: subprocess.Popen, since: float, limit: float) -> str:
    try:
        status = process.wait(timeout=max(1.0, limit - (time.monotonic() - since)))
    except subprocess.TimeoutExpired:
        e2e.kill_tree(process.pid)
        return f"hangs (ended after {limit:g} s)"
    return f"exit {status} after {time.monotonic() - since:.0f} s" if status else "goes on to the end"


def last_error(log: Path) -> str:
    lines = [
        re.sub(r"\x1b\[[0-9;]*m|^\(\w+ pid=\d+[^)]*\)\s*", "", line)
        for line in log.read_text(errors="replace").splitlines()
    ]
    lines = [line.strip() for line in lines if ERROR.match(line.strip())]
    return lines[-1][:200] if lines else ""


def suffer(inputs: Path, work: Path, fault: str, kill: tuple[str, str] | None, limit: float) -> Outcome:
    run = work / re.sub(r"\W+", "_", fault)
    run.mkdir()
    process = start(inputs, run, run / "first.log", "" if kill else fault)
    since = time.monotonic()
    if kill:
        if not kill_in_phase(process, run, *kill):
            e2e.kill_tree(process.pid) if process.poll() is None else None
            return Outcome(fault, "the phase was not seen", last_error(run / "first.log"), "")
        since = time.monotonic()
        ended = wait(process, since, limit)
    else:
        ended = wait(process, since, limit + 120)  # with the start
    left = [p for p in psutil.process_iter(["cmdline"]) if str(run) in " ".join(p.info["cmdline"] or [])]
    before = max(e2e.metrics(run), default=0)
    again = start(inputs, run, run / "second.log", "")
    status = wait(again, time.monotonic(), 400)
    text = (run / "second.log").read_text(errors="replace")
    found = re.search(r"Setting global step to (\d+)|[Rr]esum\w+ from .*global_step_(\d+)", text)
    step = next((g for g in found.groups() if g), "0") if found else "0"
    whole = status == "goes on to the end" and STEPS in e2e.metrics(run)
    resumed = f"from step {step} (step {before} was logged) to step {STEPS}" if whole else f"did not finish: {status}"
    if left:
        resumed += f"; {len(left)} processes were left"
    return Outcome(fault, ended, last_error(run / "first.log"), resumed)


def page(outcomes: list[Outcome]) -> str:
    lines = [
        "# Faults: what a run does when something in it dies or lies",
        "",
        "Written by `python benchmarks/faults.py`: a tiny model on a processor, `adv_estimator=frpo`, a checkpoint after every",
        "step. `ended` counts from the kill, or from the start of the command.",
        "",
        "| fault | ended | its last error line | the next start |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(str(v).replace("|", "\\|") for v in asdict(o).values()) + " |" for o in outcomes),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--limit", type=float, default=240.0)
    args = parser.parse_args()
    faults = {f"kill {victim} in {phase}": (victim, phase) for victim, phase in KILLS} | dict.fromkeys(LIES)
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = e2e.make_inputs(Path(folder) / "inputs")
        for fault, kill in faults.items():
            if args.only and fault not in args.only:
                continue
            outcomes.append(suffer(inputs, Path(folder), fault, kill, args.limit))
            print(outcomes[-1], flush=True)
            text = json.dumps([asdict(o) for o in outcomes], indent=1) + "\n"
            write_atomically(args.out / "faults.json", text)
            write_atomically(args.out / "faults.md", page(outcomes))


if __name__ == "__main__":
    main()
