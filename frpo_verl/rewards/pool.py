"""A pool of killable verification processes, shared by all threads of a process.

`get_pool().verify(gold, pred, deadline)` hands one pair to a free worker. A worker that has used `deadline` seconds of CPU time, runs
out of memory or dies is killed and replaced. CPU time, so that a busy machine changes no verdict; on the clock a worker has WALL_FACTOR
times as long. Workers are forked from a template process that is started as a program of its own (no `multiprocessing`: nothing of the
parent's `__main__` is imported again, daemonic processes and Ray workers may use it, and a parent with threads is never forked).
Everything is lazy: no process exists before the first verification. After `kill -9` of the parent the template sees its control
socket close and ends, and the kernel ends the workers with it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from typing import Any, NamedTuple

START_TIMEOUT = 120.0  # seconds for the template to import sympy and math-verify
TASKS_PER_WORKER = 2_000  # then it is replaced, so that caches inside sympy don't grow for ever
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


class _Channel:
    """The socket to a process that answers each message with one line of JSON."""

    def __init__(self, connection: socket.socket, pid: int = 0) -> None:
        self.connection, self.pid, self.tasks, self.buffer = connection, pid, 0, b""

    def ask(self, message: bytes, limit: float, *fds: int) -> dict[str, Any] | None:
        """The answer to a message (with b"", the next line), None after `limit` seconds.

        Raises:
            OSError: when the process at the other end died.
        """
        stop = time.monotonic() + limit
        self.tasks += 1
        self.connection.settimeout(limit)
        try:
            if fds:
                socket.send_fds(self.connection, [message], fds)
            else:
                self.connection.sendall(message)
            while b"\n" not in self.buffer:
                self.connection.settimeout(max(0.001, stop - time.monotonic()))
                part = self.connection.recv(65536)
                if not part:
                    raise ConnectionResetError("the process ended")
                self.buffer += part
        except TimeoutError:
            return None
        line, self.buffer = self.buffer.split(b"\n", 1)
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
        self._free: list[_Channel] = []
        self._count = 0
        self._changed = threading.Condition()
        self._control_lock = threading.Lock()
        self._control: _Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # -- template

    @property
    def template_pid(self) -> int | None:
        """Process id of the template, the parent of the verification processes; None when there is none."""
        return self._process.pid if self._process else None

    def _start_template(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        paths = json.dumps([path for path in sys.path if isinstance(path, str)])
        argv = [sys.executable or "python3", "-c", _BOOT, paths, str(theirs.fileno()), str(os.getpid())]
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONSTARTUP", "PYTHONINSPECT")}
        env["PYTHONHASHSEED"] = "0"  # sympy orders terms by hash: the same work for the same pair
        with theirs:
            self._process = subprocess.Popen(
                [*argv, str(self.memory_bytes)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True, env=env,
            )  # fmt: skip
        self._control = _Channel(ours)
        reply = self._command(b"", limit=START_TIMEOUT)
        if reply is None or "error" in reply:
            self._stop_template()
            reason = "it did not answer" if reply is None else reply["error"]
            raise RuntimeError(
                f"the verification process could not start ({reason}); is math-verify installed for {argv[0]}?"
            )

    def _command(self, message: bytes, *fds: int, limit: float = 30.0) -> dict[str, Any] | None:
        """What the template says to a command, None when it has ended or says nothing; the caller holds the lock."""
        try:
            return self._control.ask(message, limit, *fds) if self._control else None
        except OSError:
            return None

    def _stop_template(self) -> None:
        if self._control is not None:
            self._control.connection.close()
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None

    def _fork_worker(self) -> _Channel:
        with self._control_lock:
            for _ in range(2):
                if self._control is None:
                    self._start_template()
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                with theirs:
                    reply = self._command(b"s", theirs.fileno())
                if reply is not None:
                    return _Channel(ours, reply["pid"])
                ours.close()
                self._stop_template()  # it was killed from outside: start another one
        raise RuntimeError("the verification process ends at once; run python -c 'import math_verify' to see why")

    def _end_worker(self, worker: _Channel) -> int:
        """End a worker; return the number of the signal that had ended it before, 0 where that is not known."""
        worker.connection.close()
        with self._control_lock:
            reply = self._command(b"k%d" % worker.pid)
            if reply is None:
                self._stop_template()
            return reply["signal"] if reply else 0

    # -- workers

    def _take(self, gold: str) -> _Channel:
        """Wait for a free worker; the one that has parsed this ground truth before if it is free."""
        with self._changed:
            while not self._free and self._count == self.workers:
                self._changed.wait()
            if self._free:
                wanted = zlib.crc32(gold.encode("utf-8", "replace")) % self.workers
                return self._free.pop(min(wanted, len(self._free) - 1))
            self._count += 1
        try:
            return self._fork_worker()
        except BaseException:
            self._leave(None)
            raise

    def _leave(self, worker: _Channel | None) -> None:
        """Give a worker back, or (None) the place of one that has ended."""
        with self._changed:
            if worker is None:
                self._count -= 1
            else:
                self._free.append(worker)
            self._changed.notify()

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
        request = {"gold": gold, "pred": pred, "deadline": deadline, "limit": limit}
        message = json.dumps(request).encode() + b"\n"
        ended_by = 0
        # a worker that was killed from outside says nothing about this answer; all idle ones may have been
        for _ in range(self.workers + 1):
            worker = self._take(gold)
            reply, died, kept = None, False, None
            try:
                reply = worker.ask(message, limit)
                if reply is not None and not reply["stop"] and worker.tasks < TASKS_PER_WORKER:
                    kept = worker
            except OSError:
                died = True
            finally:
                if kept is None:
                    ended_by = self._end_worker(worker)
                self._leave(kept)
            if reply is not None:
                return Verdict(reply["equal"], False, reply["error"])
            if not died or ended_by == signal.SIGPROF:  # out of patience, or of CPU time
                return Verdict(False, True, "")
        return Verdict(False, False, f"the verification process died (signal {ended_by})")

    def close(self) -> None:
        """End all processes of this pool; a later verify starts them again."""
        with self._changed:
            workers, self._free = self._free, []
            self._count -= len(workers)
        for worker in workers:
            worker.connection.close()
        with self._control_lock:
            self._stop_template()

    def forget(self) -> None:
        """Close this process's copies of the sockets; the processes at their other ends belong to somebody else."""
        for worker in self._free:
            worker.connection.close()
        if self._control is not None:
            self._control.connection.close()


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
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


def _after_fork_in_child() -> None:
    """A forked child must not talk to its parent's workers."""
    global _pools, _pools_lock
    inherited, _pools, _pools_lock = _pools, {}, threading.Lock()
    for pool in inherited.values():
        pool.forget()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
