"""What a run does when something in it dies or lies, and whether the next start goes on from a whole checkpoint.

    python benchmarks/faults.py                                   # every fault that docs/results/faults.json does not hold yet
    python benchmarks/faults.py --only "a reward that raises"     # these, again

A tiny model on a CPU, `main_ppo` with `adv_estimator=frpo` and a checkpoint after every step. One run suffers one
fault after the other: each start resumes, trains a step, meets its fault in the next one and, if it survives, trains one
more. So each start is also what the table calls the next start of the fault before it. `tests/support/faults_inside.py` brings the
fault about; for a kill it holds the run in the phase while this script sends SIGKILL. A start that is still there `--limit`
seconds after its fault is ended and counted as one that hangs. Writes docs/results/faults.json; `--table` prints it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import e2e  # noqa: E402
import faults_inside  # noqa: E402
import psutil  # noqa: E402
import records  # noqa: E402

SILENCE = 45  # seconds, the run's max_silence_s
PATIENCE = 600  # seconds until a start has met its fault
PARTS = {
    "training worker": r"^ray::WorkerDict", "rollout server": r"^ray::HFServer",
    "reward worker": r"^ray::RewardLoopWorker", "agent loop": r"^ray::AgentLoopWorker",
    "trainer": r"^ray::TaskRunner", "command": r"-m verl\.trainer\.main_ppo",
}  # fmt: skip
HELD = {("reward worker", "generation"): "scoring", ("reward worker", "validation"): "scoring for validation"}
PHASES = ("generation", "update", "checkpoint", "validation")
KILLS = [
    (part, phase) for part in ("training worker", "rollout server", "reward worker", "command") for phase in PHASES
]
KILLS += [("trainer", "update"), ("agent loop", "generation")]
FAULTS = {f"kill the {part} in {phase}": (part, phase) for part, phase in KILLS} | dict.fromkeys(faults_inside.LIES)
ERROR = re.compile(
    r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Died|Gone|Answers|Weights)(?:\([\w.]+\))?: .*|^frpo_verl: .*missing.*|^WARN: grad_norm .*"
)
PACKAGES = ("verl", "torch", "transformers", "ray")


@dataclass
class Outcome:
    """How a start with a fault ended, and what the next one did."""

    fault: str
    ended: str
    line: str
    left: str  # processes that were still there half a minute later
    saved: int  # the step that the tracker names afterwards
    resumed: str = ""


@dataclass
class Run:
    """One run: its folder, and the number of starts so far."""

    inputs: Path
    folder: Path
    starts: int = 0

    @property
    def saved(self) -> int:
        tracker = self.folder / "checkpoints" / "latest_checkpointed_iteration.txt"
        return int(tracker.read_text() or 0) if tracker.exists() else 0

    @property
    def log(self) -> Path:
        return self.folder / f"start.{self.starts}.log"

    def start(self, fault: str, steps: int, validate: bool) -> subprocess.Popen:
        self.starts += 1
        self.folder.mkdir(exist_ok=True)
        for name in (faults_inside.MARK, faults_inside.GO):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / faults_inside.BEGUN).touch()
        for path in self.folder.rglob("*"):
            if path.is_symlink():  # room again on the disk that was full
                path.unlink()
        overrides = [
            f"trainer.total_training_steps={self.saved + steps}", "trainer.save_freq=1", f"+max_silence_s={SILENCE}",
            f"trainer.test_freq={1 if validate else -1}",
            f"actor_rollout_ref.rollout.val_kwargs.temperature={faults_inside.VALIDATION_TEMPERATURE}",
            "reward.custom_reward_function.path=pkg://faults_inside",
        ]  # fmt: skip
        variables = {
            "FRPO_FAULT": fault, "FRPO_FAULT_DIR": str(self.folder), "VERL_USE_EXTERNAL_MODULES": "faults_inside"
        }  # fmt: skip
        with open(self.log, "wb") as out:
            return subprocess.Popen(
                e2e.command(self.inputs, self.folder, *overrides), stdout=out, stderr=subprocess.STDOUT,
                env={**e2e.environment(self.folder), **variables}, start_new_session=True,
            )  # fmt: skip

    def resumed_at(self) -> str:
        """Where the last start began, and whether it trained a step from there."""
        found = re.findall(r"setting global step to (\d+)", self.log.read_text(errors="replace"))
        if found and int(found[-1]) + 1 in e2e.metrics(self.folder):
            return f"trains on from step {found[-1]}"
        return f"does not train: {last_error(self.log)}"


def family(pid: int) -> dict[psutil.Process, str]:
    """A process and all its descendants, each with its title (Ray writes the actor's class there)."""
    found = {}
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            title = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ")
            found[process] = title.decode(errors="replace").strip()
    except (psutil.NoSuchProcess, OSError):
        pass
    return found


def last_error(log: Path) -> str:
    """The last line of an output that is an error's, with the name of the actor where one has died."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in log.read_text(errors="replace").splitlines()]
    lines = [re.sub(r"^\(\w+ pid=\d+[^)]*\)\s*", "", line).strip() for line in lines]
    found = [i for i, line in enumerate(lines) if ERROR.match(line)]
    if not found:
        return ""
    name = [line.split()[-1].split(".")[-1] for line in lines[found[-1] + 1 :][:1] if line.startswith("class_name:")]
    return " ".join([lines[found[-1]], *(f"({n})" for n in name)])


def suffer(run: Run, fault: str, limit: float) -> Outcome:
    """One start with its fault."""
    kill = FAULTS[fault]
    inside = f"hold in {HELD.get(kill, kill[1])}" if kill else fault
    process = run.start(inside, steps=3, validate=bool(kill) and kill[1] == "validation")
    begun, members = time.monotonic(), {}
    while process.poll() is None and not (run.folder / faults_inside.MARK).exists():
        if time.monotonic() - begun > PATIENCE:
            break
        time.sleep(0.1)
    since, members = time.monotonic(), family(process.pid)
    if not (run.folder / faults_inside.MARK).exists():
        e2e.kill_tree(process.pid) if process.poll() is None else None
        return Outcome(fault, "the fault did not come", last_error(run.log), "", run.saved)
    if kill:
        victims = [p for p, title in members.items() if re.search(PARTS[kill[0]], title)]
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        if not victims:
            e2e.kill_tree(process.pid)
            return Outcome(fault, "nobody to kill", "", "", run.saved)
    (run.folder / faults_inside.GO).touch()
    try:
        status = process.wait(timeout=limit)
        ended = f"exit {status} after {time.monotonic() - since:.0f} s" if status else "goes on"
    except subprocess.TimeoutExpired:
        ended = f"hangs (ended after {limit:g} s)"
        e2e.kill_tree(process.pid)
    _, left = psutil.wait_procs(list(members), timeout=30)
    for survivor in left:
        survivor.kill()
    names = ", ".join(sorted(members[survivor].split(" ")[0] for survivor in left))
    return Outcome(fault, ended, last_error(run.log), names, run.saved)


def page(outcomes: list[Outcome]) -> str:
    """Markdown: seconds count from the fault; *saved* is the step of the tracker; *left*: still there half a minute later."""
    rows = [(o.fault, o.ended, o.line, o.left or "nothing", o.saved, o.resumed) for o in outcomes]
    rows = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    head = ("fault", "the run", "its last error line", "left", "saved", "the next start")
    text = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES) + "\n\n" + records.table(head, rows)
    missing = sorted(set(FAULTS) - {o.fault for o in outcomes}, key=list(FAULTS).index)
    return text + (f"\nNot run yet (the same command goes on with them): {', '.join(missing)}.\n" if missing else "")


def main() -> None:
    parser = records.parser(__doc__, "docs/results")
    parser.add_argument("--only", nargs="*", default=[], choices=list(FAULTS), metavar="FAULT")
    parser.add_argument("--limit", type=float, default=180.0)
    parser.add_argument("--logs", type=Path, help="keep every start's output in this folder")
    args = parser.parse_args()
    file = args.out / "faults.json"
    done = {row["fault"]: Outcome(**row) for row in json.loads(file.read_text())} if file.exists() else {}
    if args.table:
        return print(page([done[fault] for fault in FAULTS if fault in done]))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(e2e.make_inputs(Path(folder) / "inputs"), Path(folder) / "run")
        before: Outcome | None = None
        for fault in args.only or [fault for fault in FAULTS if fault not in done]:
            outcome = suffer(run, fault, args.limit)
            keep(run, fault, args.logs)
            settle(done, before, run, args.out)
            before = outcome
        if before is not None:
            run.start("", steps=1, validate=False).wait(timeout=PATIENCE)
            settle(done, before, run, args.out)


def keep(run: Run, fault: str, logs: Path | None) -> None:
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.log, logs / (re.sub(r"\W+", "_", fault) + ".log"))


def settle(done: dict[str, Outcome], outcome: Outcome | None, run: Run, out: Path) -> None:
    """Write the outcome of a fault whose next start has been."""
    if outcome is not None:
        outcome.resumed = run.resumed_at()
        print(outcome, flush=True)
        done[outcome.fault] = outcome
        records.write(out / "faults.json", [asdict(done[fault]) for fault in FAULTS if fault in done])


if __name__ == "__main__":
    main()
