"""The processes behind pool.py: a template that has math-verify imported, and the workers it forks. Run by pool.py only.

The template is single-threaded and evaluates nothing that a model wrote, so forking it is safe and takes milliseconds instead of the
second that importing sympy costs; it ends with its parent. A worker judges one pair of answers at a time. It imports neither torch nor
verl, is bounded in address space, is ended by the kernel when one judgement has used its CPU time (SIGPROF) or its time on the clock
(SIGALRM), and dies with the template, also while it is stuck inside a C call.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from typing import TypedDict

from frpo_verl.processes import die_with_parent

TASKS_PER_WORKER = 2_000  # then it is replaced, so that caches inside sympy don't grow for ever
GRACE = 2.0  # seconds after the pool's own limit until the kernel ends a worker


class Reply(TypedDict):
    """What a worker says of a pair; `stop`: it ends now, for it may be damaged or has done its share."""

    equal: bool
    error: str
    stop: bool


def judge(gold: str, pred: str) -> Reply:
    """The verdict on two answers; runs inside a worker only."""
    from frpo_verl.rewards import symbolic

    try:
        return {"equal": symbolic.equal(gold, pred), "error": "", "stop": False}
    except (MemoryError, RecursionError) as error:
        return {"equal": False, "error": type(error).__name__, "stop": True}
    except symbolic.GoldError as error:
        return {"equal": False, "error": str(error), "stop": False}


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


def work(connection: socket.socket, memory_bytes: int) -> None:
    """Serve requests {"gold", "pred", "deadline", "limit"}, one line of JSON each, until the other side closes.

    `deadline` is in seconds of this process's CPU time, `limit` in seconds on the clock.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent(signal.SIGKILL, os.getppid())
    _limit_memory(memory_bytes)
    stream = connection.makefile("rwb")
    for task, line in enumerate(stream, 1):
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["deadline"])
        signal.setitimer(signal.ITIMER_REAL, request["limit"] + GRACE)
        reply = judge(request["gold"], request["pred"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply["stop"] |= task >= TASKS_PER_WORKER
        stream.write(json.dumps(reply).encode() + b"\n")
        stream.flush()
        if reply["stop"]:
            return


def template(control: socket.socket, parent: int, memory_bytes: int) -> None:
    """Say {} or {"error"} on a line, then fork a worker for each socket that arrives and say so, until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        from frpo_verl.rewards import symbolic

        symbolic.warm_up()
    except Exception as error:
        control.sendall(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        return
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a worker
    control.sendall(b"{}\n")
    control.settimeout(1.0)
    while os.getppid() == parent:
        try:
            message, sockets, _, _ = socket.recv_fds(control, 1, 1)
        except TimeoutError:
            continue
        if not message:
            return
        if os.fork() == 0:
            try:
                control.close()
                work(socket.socket(fileno=sockets[0]), memory_bytes)
            finally:
                os._exit(0)
        os.close(sockets[0])
        control.sendall(b".")


def main(argv: list[str]) -> None:
    """Entry point of the template process: file descriptor of the control socket, parent pid, memory bound in bytes."""
    fd, parent, memory_bytes = (int(value) for value in argv[:3])
    template(socket.socket(fileno=fd), parent, memory_bytes)
