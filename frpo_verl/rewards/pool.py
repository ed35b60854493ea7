"""A pool of killable verification processes, shared by all threads of a process.

`get_pool().verify(gold, pred, deadline)` hands one pair to a free worker. A worker that has used `deadline` seconds of CPU time, runs
out of memory or dies is replaced. CPU time, so that a busy machine changes no verdict; on the clock a worker has WALL_FACTOR times as
long. Workers are forked from a template process that is started as a program of its own (no `multiprocessing`: nothing of the
parent's `__main__` is imported again, daemonic processes and Ray workers may use it, and a parent with threads is never forked).
Everything is lazy: no process exists before the first verification. After `kill -9` of the parent the template sees its control
socket close and ends, and the kernel ends the workers with it.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

START_TIMEOUT = 120.0  # seconds for the template to import sympy and math-verify
WALL_FACTOR = 20  # a worker that gets no CPU is given up after so many deadlines on the clock
_BOOT = (
    "import json,sys; sys.path[:]=json.loads(sys.argv[1]); "
    "from frpo_verl.rewards.worker import main; main(sys.argv[2:])"
)


class Verdict(NamedTuple):
    """Outcome of one verification: `error` is "" unless it failed for another reason than the deadline."""

    equal: bool
    timed_out: bool
    error: str


def _next_line(connection: socket.socket, limit: float) -> dict[str, Any]:
    """The JSON of the next line; raises TimeoutError after `limit` seconds, ConnectionResetError when the process died."""
    connection.settimeout(limit)
    with connection.makefile("rb") as lines:
        line = lines.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the process ended")
    return json.loads(line)


class Pool:
    """At most `workers` verification processes with bounded address space; safe to use from many threads.

    Args:
        workers: number of processes, >= 1.
        memory_gb: bound of the address space of each, GiB, >= 0.25 (sympy alone needs about that).

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, workers: int, memory_gb: float = 1.0) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers}: the number of verification processes must be >= 1")
        if memory_gb < 0.25:
            raise ValueError(f"memory_gb={memory_gb}: must be >= 0.25, a verification process needs that to start")
        self.workers, self.memory_bytes = int(workers), int(memory_gb * 2**30)
        self._slots = threading.Semaphore(self.workers)
        self._lock = threading.Lock()
        self._free: list[socket.socket] = []  # to workers that wait for a pair
        self._template: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    @property
    def template_pid(self) -> int | None:
        """Process id of the template, the parent of the verification processes; None when there is none."""
        return self._template[0].pid if self._template else None

    def _start_template(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        paths = json.dumps([path for path in sys.path if isinstance(path, str)])
        argv = [sys.executable or "python3", "-c", _BOOT, paths, str(theirs.fileno()), str(os.getpid())]
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONSTARTUP", "PYTHONINSPECT")}
        env["PYTHONHASHSEED"] = "0"  # sympy orders terms by hash: the same work for the same pair
        with theirs:
            process = subprocess.Popen(
                [*argv, str(self.memory_bytes)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True, env=env,
            )  # fmt: skip
        self._template = process, ours
        try:
            error = _next_line(ours, START_TIMEOUT).get("error")
        except OSError:
            error = "it did not answer"
        if error:
            self._stop_template()
            raise RuntimeError(
                f"the verification process could not start ({error}); is math-verify installed for {argv[0]}?"
            )
        return ours

    def _stop_template(self) -> None:
        if self._template is None:
            return
        process, control = self._template
        self._template = None
        control.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _take(self) -> socket.socket:
        """The socket to a free worker, or to a new one."""
        with self._lock:
            if self._free:
                return self._free.pop()
            ours, theirs = socket.socketpair()
            with theirs:
                for _ in range(2):
                    control = self._template[1] if self._template else self._start_template()
                    try:
                        socket.send_fds(control, [b"w"], [theirs.fileno()])
                        if control.recv(1):
                            return ours
                    except OSError:
                        pass
                    self._stop_template()  # it was killed from outside: start another one
        raise RuntimeError("the verification process ends at once; run python -c 'import math_verify' to see why")

    def verify(self, gold: str, pred: str, deadline: float) -> Verdict:
        """Judge `pred` against `gold` in a worker.

        Args:
            gold: the right answer.
            pred: the answer to judge.
            deadline: seconds of the worker's CPU time, > 0; on the clock WALL_FACTOR times as much.

        Raises:
            RuntimeError: when no verification process can be started (math-verify is not installed, for instance).
        """
        limit = WALL_FACTOR * deadline
        message = json.dumps({"gold": gold, "pred": pred, "deadline": deadline, "limit": limit}).encode() + b"\n"
        with self._slots:
            for _ in range(self.workers + 1):  # all idle workers may have been killed from outside
                worker, start, reply = self._take(), time.monotonic(), None
                try:
                    worker.settimeout(limit)
                    worker.sendall(message)
                    reply = _next_line(worker, limit)
                    return Verdict(reply["equal"], False, reply["error"])
                except TimeoutError:
                    return Verdict(False, True, "")  # the kernel ends the worker, see worker.py
                except OSError:  # it died: killed by somebody, which says nothing about this answer, or at its deadline
                    if time.monotonic() - start > 0.9 * deadline:
                        return Verdict(False, True, "")
                finally:
                    if reply is None or reply["stop"]:
                        worker.close()
                    else:
                        self._free.append(worker)
        return Verdict(False, False, "the verification process died, and each that was started in its place")

    def close(self) -> None:
        """End all processes of this pool; a later verify starts them again."""
        with self._lock:
            self.forget()
            self._stop_template()

    def forget(self) -> None:
        """Close this process's ends of the sockets; in a forked child the processes at their other ends are the parent's."""
        while self._free:
            self._free.pop().close()
        if self._template is not None:
            self._template[1].close()


_pools: dict[tuple[int, float], Pool] = {}
_pools_lock = threading.Lock()


def default_workers() -> int:
    """FRPO_VERL_VERIFY_WORKERS, else an eighth of the cores (verl runs 8 reward workers by default), at least 2 and
    at most 8.

    Raises:
        ValueError: when the variable is not an integer >= 1.
    """
    text = os.environ.get("FRPO_VERL_VERIFY_WORKERS", "").strip()
    if text:
        if not text.isdigit() or int(text) < 1:
            raise ValueError(f"FRPO_VERL_VERIFY_WORKERS={text}: must be an integer >= 1, or unset")
        return int(text)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, min(8, cores // 8))


def get_pool(workers: int | None = None, memory_gb: float = 1.0) -> Pool:
    """This process's pool for these settings, made on first use."""
    key = (int(workers) if workers else default_workers(), float(memory_gb))
    with _pools_lock:
        if key not in _pools:
            _pools[key] = Pool(*key)
        return _pools[key]


def close_all() -> None:
    """End every pool of this process (done at exit as well)."""
    with _pools_lock:
        while _pools:
            _pools.popitem()[1].close()


def _after_fork_in_child() -> None:
    """A forked child must not talk to its parent's workers."""
    global _pools, _pools_lock
    inherited, _pools, _pools_lock = _pools, {}, threading.Lock()
    for pool in inherited.values():
        pool.forget()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
