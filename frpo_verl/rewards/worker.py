"""The processes behind pool.py: a template that has math-verify imported, and the workers it forks. Run by pool.py only.

The template is single-threaded and evaluates nothing that a model wrote, so forking it is safe and takes milliseconds instead of the
second that importing sympy costs; it forks and reaps workers on request and ends with its parent. A worker judges one pair of answers
at a time. It imports neither torch nor verl, is bounded in address space, is ended by the kernel when one judgement has used its CPU
time (SIGPROF), and dies with the template, also while it is stuck inside a C call.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
from functools import lru_cache
from typing import TypedDict

from frpo_verl.processes import die_with_parent

VERDICT_CACHE = 4096  # judged pairs kept per worker: the answers of a group repeat
GRACE = 2.0  # seconds after the pool's own limit until the kernel ends a worker whose pool is gone


class Reply(TypedDict):
    """What a worker says of a pair; `stop`: it may be damaged and is to be replaced."""

    equal: bool
    error: str
    stop: bool


def judge(gold: str, pred: str) -> Reply:
    """The verdict on two answers; runs inside a worker only."""
    from frpo_verl.rewards import symbolic

    try:
        return {"equal": _equal(gold, pred), "error": "", "stop": False}
    except (MemoryError, RecursionError) as error:
        return {"equal": False, "error": type(error).__name__, "stop": True}
    except symbolic.GoldError as error:
        return {"equal": False, "error": str(error), "stop": False}


@lru_cache(maxsize=VERDICT_CACHE)
def _equal(gold: str, pred: str) -> bool:
    from frpo_verl.rewards import symbolic

    return symbolic.equal(gold, pred)


def _limit_memory(memory_bytes: int) -> None:
    import resource

    for kind, bound in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        try:
            hard = resource.getrlimit(kind)[1]
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(kind, (bound, hard))
        except (ValueError, OSError):  # not enforced on this system; the deadline still holds
            pass
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # the kernel should take this process first
            file.write("1000")
    except OSError:
        pass


def work(connection: socket.socket, parent: int, memory_bytes: int) -> None:
    """Serve requests {"gold", "pred", "deadline", "limit"}, one line of JSON each, until the other side closes.

    `deadline` is in seconds of this process's CPU time, `limit` in seconds on the clock.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent(signal.SIGKILL, parent)
    _limit_memory(memory_bytes)
    stream = connection.makefile("rwb")
    for line in stream:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["deadline"])
        signal.setitimer(signal.ITIMER_REAL, request["limit"] + GRACE)
        reply = judge(request["gold"], request["pred"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        stream.write(json.dumps(reply).encode() + b"\n")
        stream.flush()
    os._exit(0)


def _reap(pid: int) -> int:
    """End a worker; return the number of the signal that had ended it before, SIGKILL for one that was still there."""
    try:
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    except (ProcessLookupError, ChildProcessError):
        return 0


def template(control: socket.socket, parent: int, memory_bytes: int) -> None:
    """Fork a worker for each b"s" (with the worker's end of a socket attached), end one for each b"k<pid>"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers: set[int] = set()
    try:
        try:
            from frpo_verl.rewards import symbolic

            symbolic.warm_up()
        except Exception as error:
            control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
            return
        gc.collect()
        gc.freeze()
        control.sendall(b"{}\n")
        while True:
            if not select.select([control], [], [], 1.0)[0]:
                if os.getppid() != parent:
                    return
                continue
            message, fds, _, _ = socket.recv_fds(control, 64, 1)
            if not message:
                return
            if message[:1] == b"k":
                pid = int(message[1:])
                ended_by = _reap(pid) if pid in workers else 0
                workers.discard(pid)
                control.sendall(json.dumps({"signal": ended_by}).encode() + b"\n")
                continue
            pid = os.fork()
            if pid == 0:
                try:
                    control.close()
                    work(socket.socket(fileno=fds[0]), os.getppid(), memory_bytes)
                finally:
                    os._exit(1)
            os.close(fds[0])
            workers.add(pid)
            control.sendall(json.dumps({"pid": pid}).encode() + b"\n")
    except (ConnectionError, BrokenPipeError):
        pass
    finally:
        for pid in workers:
            _reap(pid)


def main(argv: list[str]) -> None:
    """Entry point of the template process: file descriptor of the control socket, parent pid, memory bound in bytes."""
    fd, parent, memory_bytes = (int(value) for value in argv[:3])
    template(socket.socket(fileno=fd), parent, memory_bytes)
