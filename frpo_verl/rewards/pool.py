"""A pool of killable verification processes, shared by all threads of a process.

`get_pool().verify(gold, pred, deadline)` hands one pair to a free worker and waits at most `deadline` seconds; a
worker that is late, runs out of memory or dies is killed and replaced. Workers are forked from a template process
that is started as a program of its own (no `multiprocessing`: nothing of the parent's `__main__` is imported again,
daemonic processes and Ray workers may use it, and a parent with threads is never forked). Everything is lazy: no
process exists before the first verification. After `kill -9` of the parent the template sees its control socket close
and ends, and the kernel ends the workers with it.
"""

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import zlib
from typing import NamedTuple

START_TIMEOUT = 120.0  # seconds for the template to import sympy and math-verify
TASKS_PER_WORKER = 2_000  # then it is replaced, so that caches inside sympy don't grow for ever
_BOOT = (
    "import json,sys; sys.path[:]=json.loads(sys.argv[1]); "
    "from frpo_verl.rewards.worker import main; main(sys.argv[2:])"
)


class Verdict(NamedTuple):
    """Outcome of one verification: `error` is "" unless it failed for another reason than the deadline."""

    equal: bool
    timed_out: bool
    error: str


class _Worker:
    def __init__(self, pid, connection):
        self.pid, self.connection, self.tasks, self.buffer = pid, connection, 0, b""

    def is_alive(self):
        """Whether the other end is open: an idle worker has nothing to say, so a readable socket means that it
        ended."""
        return not select.select([self.connection], [], [], 0)[0]

    def ask(self, request, deadline):
        """Send one request; return the answer, None at the deadline; raises OSError when the worker died."""
        stop = time.monotonic() + deadline
        self.tasks += 1
        self.connection.settimeout(deadline)
        try:
            self.connection.sendall(json.dumps(request).encode() + b"\n")
            while b"\n" not in self.buffer:
                self.connection.settimeout(max(0.001, stop - time.monotonic()))
                part = self.connection.recv(65536)
                if not part:
                    raise ConnectionResetError("the verification process ended")
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

    def __init__(self, workers, memory_gb=1.0):
        if workers < 1:
            raise ValueError(f"workers={workers}: the number of verification processes must be >= 1")
        if memory_gb < 0.25:
            raise ValueError(f"memory_gb={memory_gb}: must be >= 0.25, a verification process needs that to start")
        self.workers, self.memory_bytes = int(workers), int(memory_gb * 2**30)
        self.killed = 0  # workers killed at a deadline or after running out of memory
        self._free, self._count = [], 0
        self._changed = threading.Condition()
        self._control_lock = threading.Lock()
        self._control = self._process = None

    # -- template

    def _start_template(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            argv = [
                sys.executable or "python3",
                "-c",
                _BOOT,
                json.dumps([p for p in sys.path if isinstance(p, str)]),
            ]
            argv += [str(theirs.fileno()), str(os.getpid()), str(self.memory_bytes)]
            env = {k: v for k, v in os.environ.items() if k not in ("PYTHONSTARTUP", "PYTHONINSPECT")}
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                start_new_session=True, env=env,
            )  # fmt: skip
        finally:
            theirs.close()
        self._control, self._process = ours, process
        answer = self._reply(START_TIMEOUT)
        if answer is None or "error" in answer:
            self._stop_template()
            reason = "it did not answer" if answer is None else answer["error"]
            raise RuntimeError(
                f"the verification process could not start ({reason}); is math-verify installed for {argv[0]}?"
            )

    def _reply(self, timeout=30.0):
        self._control.settimeout(timeout)
        line = b""
        try:
            while not line.endswith(b"\n"):
                part = self._control.recv(4096)
                if not part:
                    return None
                line += part
        except OSError:
            return None
        return json.loads(line)

    def _stop_template(self):
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None

    def _fork_worker(self):
        with self._control_lock:
            for _ in range(2):
                if self._control is None:
                    self._start_template()
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    socket.send_fds(self._control, [b"s"], [theirs.fileno()])
                    answer = self._reply()
                except OSError:
                    answer = None
                finally:
                    theirs.close()
                if answer is not None:
                    return _Worker(answer["pid"], ours)
                ours.close()
                self._stop_template()  # it was killed from outside: start another one
        raise RuntimeError("the verification process ends at once; run python -c 'import math_verify' to see why")

    def _kill_worker(self, worker):
        worker.connection.close()
        with self._control_lock:
            if self._control is not None:
                try:
                    self._control.sendall(b"k%d" % worker.pid)
                    if self._reply() is not None:
                        return
                except OSError:
                    pass
                self._stop_template()

    # -- workers

    def _take(self, gold, fresh=False):
        """Wait for a free worker; the one that has parsed this ground truth before if it is free. With `fresh` the
        idle ones are replaced instead: they may be ending for the reason for which the last one did."""
        dead = []
        with self._changed:
            while True:
                if fresh and self._free:
                    self._count -= len(self._free)
                    dead += self._free
                    self._free = []
                if self._free:
                    wanted = zlib.crc32(gold.encode("utf-8", "replace")) % self.workers
                    worker = self._free.pop(min(wanted, len(self._free) - 1))
                    if worker.is_alive():
                        return worker
                    self._count -= 1
                    dead.append(worker)
                    continue
                if self._count < self.workers:
                    self._count += 1
                    break
                self._changed.wait()
        try:
            for worker in dead:  # killed from outside
                self._kill_worker(worker)
            return self._fork_worker()
        except BaseException:
            self._leave(None)
            raise

    def _leave(self, worker):
        with self._changed:
            if worker is None:
                self._count -= 1
            else:
                self._free.append(worker)
            self._changed.notify()

    def verify(self, gold, pred, deadline):
        """Judge `pred` against `gold` in a worker; returns a Verdict at most `deadline` seconds after a worker is free.

        Args:
          gold: the right answer, text.
          pred: the answer to judge, text.
          deadline: seconds, > 0.

        Raises:
          RuntimeError: when no verification process can be started (math-verify is not installed, for instance).
        """
        for attempt in range(2):
            worker = self._take(gold, fresh=attempt > 0)
            keep = None
            try:
                answer = worker.ask({"gold": gold, "pred": pred, "deadline": deadline}, deadline)
                if answer is not None and not answer.pop("stop", False) and worker.tasks < TASKS_PER_WORKER:
                    keep = worker
            except OSError as error:
                answer = {"equal": False, "error": f"the verification process died ({type(error).__name__})"}
                if attempt == 0:  # killed from outside, perhaps: that says nothing about this answer
                    continue
            finally:
                if keep is None:
                    if worker.tasks < TASKS_PER_WORKER:
                        self.killed += 1
                    self._kill_worker(worker)
                self._leave(keep)
            if answer is None:
                return Verdict(False, True, "")
            return Verdict(bool(answer["equal"]), False, answer["error"])

    def close(self):
        """End all processes of this pool; a later verify starts them again."""
        with self._changed:
            workers, self._free = self._free, []
            self._count -= len(workers)
        for worker in workers:
            worker.connection.close()
        with self._control_lock:
            self._stop_template()


_pools = {}
_pools_lock = threading.Lock()


def default_workers():
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


def get_pool(workers=None, memory_gb=1.0):
    """Return this process's pool for these settings, made on first use."""
    key = (int(workers) if workers else default_workers(), float(memory_gb))
    with _pools_lock:
        if key not in _pools:
            _pools[key] = Pool(*key)
        return _pools[key]


def close_all():
    """End every pool of this process (done at exit as well)."""
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


def _after_fork_in_child():
    """A forked child must not talk to its parent's workers: forget them, closing this process's copies of the
    sockets."""
    global _pools, _pools_lock
    inherited, _pools, _pools_lock = _pools, {}, threading.Lock()
    for pool in inherited.values():
        for worker in pool._free:
            worker.connection.close()
        if pool._control is not None:
            pool._control.close()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
