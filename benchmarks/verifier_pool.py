r"""Why frpo_verl.rewards.pool is not pebble: what each does when a worker is stuck inside a C call.

    pip install pebble    # for this comparison only
    python benchmarks/verifier_pool.py

Four measurements, ours and pebble's ProcessPool in its start methods: processes alive 10 s after `kill -9` of a parent whose
worker computes 3**1500000000; seconds from a timeout to the next answer (a fresh process that knows math-verify); whether
a daemonic process can use the pool; how often the caller's `__main__` is run.
"""

import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
WORK = """
def work(pair):
    from math_verify import parse, verify
    if pair is None:
        return 3**1500000000
    return verify(parse(f"${pair[0]}$", parsing_timeout=None), parse(f"${pair[1]}$", parsing_timeout=None), timeout_seconds=None)
"""
PEBBLE = """
import multiprocessing, sys
from pebble import ProcessPool
from work import work
print("MAIN", flush=True)
class Pool:
    def __init__(self):
        self.pool = ProcessPool(max_workers=1, context=multiprocessing.get_context(sys.argv[1]))
    def judge(self, pair, deadline):
        try:
            return self.pool.schedule(work, args=[pair], timeout=deadline).result()
        except Exception as error:
            return type(error).__name__
"""
OURS = """
import sys
from frpo_verl.rewards import pool
print("MAIN", flush=True)
class Pool:
    def __init__(self):
        self.pool = pool.Pool(1)
    def judge(self, pair, deadline):
        return self.pool.verify(*(pair or ("2", "|3^{1500000000}|")), deadline)
"""
TASKS = {
    "kill": """
        if __name__ == "__main__":
            pool = Pool(); pool.judge(("x^2", "x x"), 120)
            print("READY", flush=True)
            pool.judge(None, 600)
    """,
    "fresh": """
        if __name__ == "__main__":
            import time
            pool = Pool(); pool.judge(("x^2", "x x"), 120); pool.judge(None, 1.0)
            start = time.perf_counter(); pool.judge(("x^2", "x x"), 120)
            print("RESULT", time.perf_counter() - start, flush=True)
    """,
    "daemon": """
        def child(queue):
            try:
                queue.put(str(Pool().judge(("x^2", "x x"), 60)))
            except BaseException as error:
                queue.put(f"{type(error).__name__}: {error}")
        if __name__ == "__main__":
            import multiprocessing
            context = multiprocessing.get_context("fork"); queue = context.Queue()
            process = context.Process(target=child, args=(queue,), daemon=True); process.start()
            print("RESULT", queue.get(timeout=120), flush=True)
    """,
}


def start(folder, head, task, method):
    script = Path(folder) / f"{task}.py"
    script.write_text(head + textwrap.dedent(TASKS[task]))
    (Path(folder) / "work.py").write_text(WORK)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, str(script), method], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env,
        start_new_session=True,
    )  # fmt: skip


def family(process):
    """The process and every process of its session."""
    return [
        p for p in psutil.process_iter() if _session(p.pid) == process.pid or p.pid == process.pid
    ] + psutil.Process(process.pid).children(recursive=True)


def _session(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def alive_after_kill(folder, head, method):
    process = start(folder, head, "kill", method)
    for line in process.stdout:
        if line.startswith("READY"):
            break
    time.sleep(3.0)
    below = {p.pid: p for p in family(process) if p.pid != process.pid}.values()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(list(below), timeout=10)
    for p in alive:
        p.kill()
    return f"{len(alive)} of {len(below)}"


def printed(folder, head, task, method):
    process = start(folder, head, task, method)
    out, _ = process.communicate(timeout=300)
    result = [line.split(" ", 1)[1] for line in out.splitlines() if line.startswith("RESULT")]
    return (result or ["no answer"])[0], out.count("MAIN")


def main():
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, head, method in (
            ("ours", OURS, ""), ("pebble fork", PEBBLE, "fork"), ("pebble spawn", PEBBLE, "spawn"),
            ("pebble forkserver", PEBBLE, "forkserver"),
        ):  # fmt: skip
            fresh, mains = printed(folder, head, "fresh", method)
            report[name] = {
                "alive 10 s after kill -9": alive_after_kill(folder, head, method),
                "s to the answer after a timeout": round(float(fresh), 2) if fresh != "no answer" else fresh,
                "runs of __main__": mains, "in a daemonic process": printed(folder, head, "daemon", method)[0],
            }  # fmt: skip
            print(name, json.dumps(report[name]), flush=True)


if __name__ == "__main__":
    main()
