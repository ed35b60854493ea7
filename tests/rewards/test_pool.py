import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from commands import in_threads, python

from frpo_verl.rewards import pool as pool_module
from frpo_verl.rewards.pool import Pool, default_workers, get_pool

pytest.importorskip("math_verify")
pytestmark = pytest.mark.slow

GOLD, RIGHT, WRONG = r"\sqrt{2}", r"\frac{2}{\sqrt{2}}", r"\frac{3}{\sqrt{2}}"
# one C call that holds the interpreter for minutes; the pre-filters would refuse it
STUCK = "|3^{1500000000}|"
DEADLINE = 1.0


@pytest.fixture(scope="module")
def pool():
    made = Pool(2)
    made.verify(GOLD, RIGHT, 60.0)  # start the processes, so that the deadlines below are about the answers
    yield made
    made.close()


def workers_of(pool):
    return psutil.Process(pool.template_pid).children()


def test_deadline_kills_and_replaces(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "WALL_FACTOR", 10_000)  # nothing but its CPU time ends it
    before = workers_of(pool)
    assert pool.verify(GOLD, STUCK, DEADLINE) == (False, True, "")  # it would take minutes
    ended, _ = psutil.wait_procs(before, timeout=10)
    assert len(ended) == 1
    assert pool.verify(GOLD, RIGHT, 30.0).equal


def test_a_verdict_does_not_wait_for_a_busy_machine(pool):
    """The deadline is CPU time: workers that are kept from running for longer than it still give their verdicts."""
    workers = workers_of(pool)
    for worker in workers:
        worker.suspend()
    resume = threading.Timer(3 * DEADLINE, lambda: [worker.resume() for worker in workers])
    resume.start()
    assert pool.verify(GOLD, r"\frac{4}{2\sqrt{2}}", DEADLINE) == (True, False, "")
    resume.join()


def test_a_worker_that_gets_no_cpu_at_all_is_given_up_and_ends(pool, monkeypatch):
    monkeypatch.setattr(pool_module, "WALL_FACTOR", 2)
    workers = workers_of(pool)
    for worker in workers:
        worker.suspend()
    assert pool.verify(GOLD, r"\frac{6}{3\sqrt{2}}", DEADLINE) == (False, True, "")
    assert pool.verify(GOLD, RIGHT, 30.0).equal
    for worker in workers:
        worker.resume()
    ended, _ = psutil.wait_procs(workers, timeout=10)
    assert len(ended) == 1


def test_threads_agree_with_one(pool):
    pairs = [(GOLD, RIGHT), (GOLD, WRONG), (r"3\sqrt{13}", r"\sqrt{117}"), ("x^2-1", "(x-1)(x+1)")]
    pairs += [("x^2-1", "(x-1)^2"), (r"\frac{", "1"), (r"2\pi", r"\pi+\pi"), ("2i", "-2i")]
    alone = [pool.verify(g, p, 60.0) for g, p in pairs]
    results = in_threads(32, lambda: [pool.verify(g, p, 60.0) for g, p in pairs])
    assert len(results) == 32 and all(result == alone for result in results)
    assert len(workers_of(pool)) <= pool.workers


def test_survives_a_worker_and_the_template_killed_from_outside(pool):
    assert pool.verify(GOLD, RIGHT, 30.0).equal
    for child in workers_of(pool):
        child.kill()
    assert pool.verify(GOLD, RIGHT, 60.0) == (True, False, "")
    os.kill(pool.template_pid, signal.SIGKILL)
    assert pool.verify(GOLD, RIGHT, 60.0) == (True, False, "")
    assert pool.verify(GOLD, WRONG, 60.0) == (False, False, "")


def test_an_answer_is_judged_though_all_idle_workers_are_about_to_end(pool):
    """Between the kill and its arrival a worker still looks alive."""
    pair = (r"\sqrt{3}", r"\frac{3}{\sqrt{3}}")
    verdicts = in_threads(2, lambda: pool.verify(*pair, 60.0))
    for worker in workers_of(pool):
        os.kill(worker.pid, signal.SIGKILL)
    assert [pool.verify(*pair, 60.0), *verdicts] == [(True, False, "")] * 3


PARENT = """
import psutil, threading, time
from frpo_verl.rewards.pool import get_pool
pool = get_pool()
pool.verify("\\\\sqrt{{2}}", "2^{{1/2}}", 60.0)
for _ in range(2):
    threading.Thread(target=pool.verify, args=("\\\\sqrt{{2}}", r"{stuck}", 600.0), daemon=True).start()
template = psutil.Process(pool.template_pid)
while sum(worker.cpu_times().user > 1 for worker in template.children()) < 2:
    time.sleep(0.05)
print(pool.template_pid, flush=True)
time.sleep(600)
"""


def test_no_process_left_after_kill_9_of_the_parent():
    """The workers are inside a C call that never returns to the interpreter; all end with it."""
    script = PARENT.format(stuck=STUCK)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "FRPO_VERL_VERIFY_WORKERS": "2"}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
    try:
        template = int(parent.stdout.readline())
        family = psutil.Process(parent.pid).children(recursive=True)
        assert template in [p.pid for p in family] and len(family) == 3
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_no_process_left_after_normal_exit():
    script = (
        "import psutil\nfrom frpo_verl.rewards.pool import get_pool\n"
        "get_pool().verify('x+\\\\sqrt{2}', '\\\\sqrt{2}+x', 60.0)\n"
        "print(*[p.pid for p in psutil.Process().children(recursive=True)])"
    )
    out = python(code=script)
    pids = [int(pid) for pid in out.stdout.split()]
    assert len(pids) == 2 and out.stderr == ""
    deadline = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def _in_child(queue):
    queue.put(tuple(get_pool(workers=1).verify(GOLD, RIGHT, 60.0)))


def test_daemonic_and_forked_processes_get_a_pool_of_their_own():
    parent_pool = get_pool(workers=1)
    assert parent_pool.verify(GOLD, RIGHT, 60.0).equal
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,), daemon=True)
    child.start()
    assert queue.get(timeout=120) == (True, False, "")
    child.join(30)
    assert parent_pool.verify(GOLD, WRONG, 60.0) == (False, False, "")
    assert get_pool(workers=1) is parent_pool


def test_missing_math_verify_is_an_error_not_a_score(tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('no math-verify here')")
    script = (
        "from frpo_verl.rewards.pool import Pool\n"
        "try:\n    Pool(1).verify('x', 'y', 5.0)\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    out = python(code=script, path=[tmp_path])
    assert "is math-verify installed" in out.stdout and "no math-verify here" in out.stdout


def test_settings(monkeypatch):
    monkeypatch.setenv("FRPO_VERL_VERIFY_WORKERS", "3")
    assert default_workers() == 3
    monkeypatch.setenv("FRPO_VERL_VERIFY_WORKERS", "none")
    with pytest.raises(ValueError, match="FRPO_VERL_VERIFY_WORKERS=none"):
        default_workers()
    monkeypatch.delenv("FRPO_VERL_VERIFY_WORKERS")
    assert 2 <= default_workers() <= 8
    with pytest.raises(ValueError, match="workers=0"):
        Pool(0)
    with pytest.raises(ValueError, match="memory_gb"):
        Pool(1, memory_gb=0.01)
