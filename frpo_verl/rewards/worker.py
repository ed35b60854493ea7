"""The processes behind pool.py: a template that has math-verify imported, and the workers it forks. Run by pool.py
only.

The template is single-threaded and evaluates nothing that a model wrote, so forking it is safe and takes milliseconds
instead of the second that importing sympy costs; it forks and reaps workers on request and ends with its parent. A
worker judges one pair of answers at a time. It imports neither torch nor verl, is bounded in address space, and dies
with the template (on Linux by the kernel's parent-death signal, which also reaches a worker that is stuck inside a C
call; elsewhere by a thread that watches the parent).
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from functools import lru_cache

GOLD_CACHE = 4096  # parsed ground truths kept per worker
VERDICT_CACHE = 4096  # judged pairs kept per worker: the answers of a group repeat


# ------------------------------------------------------------------------------------------------------------ judging


def judge(gold, pred):
    """Return {"equal": bool, "error": str} for two answers; runs inside a worker only."""
    from frpo_verl.rewards import symbolic

    try:
        return _judge_cached(gold, pred)
    except (MemoryError, RecursionError) as error:
        return {"equal": False, "error": type(error).__name__, "stop": True}
    except symbolic.GoldError as error:
        return {"equal": False, "error": str(error)}


@lru_cache(maxsize=VERDICT_CACHE)
def _judge_cached(gold, pred):
    from frpo_verl.rewards import symbolic

    return {"equal": symbolic.equal(gold, pred), "error": ""}


# ------------------------------------------------------------------------------------------------------------- worker


def _die_with_parent(parent):
    """Make this process end when `parent` ends, whatever it is doing."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)

    def watch():
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _limit_memory(memory_bytes):
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


def work(connection, parent, memory_bytes):
    """Serve requests {"gold", "pred", "deadline"}, one line of JSON each, until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _die_with_parent(parent)
    _limit_memory(memory_bytes)
    stream = connection.makefile("rwb")
    for line in stream:
        request = json.loads(line)
        # the parent kills at the deadline; this is the net below it, set in the kernel
        signal.setitimer(signal.ITIMER_REAL, request["deadline"] + 2.0)
        result = judge(request["gold"], request["pred"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        stream.write(json.dumps(result).encode() + b"\n")
        stream.flush()
    os._exit(0)


# ----------------------------------------------------------------------------------------------------------- template


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def template(control, parent, memory_bytes):
    """Fork a worker for each b"s" (with the worker's end of a socket attached), kill one for each b"k<pid>"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workers = set()
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
                if pid in workers:
                    _kill(pid)
                    workers.discard(pid)
                control.sendall(b"{}\n")
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
            _kill(pid)


def main(argv):
    """Entry point of the template process: file descriptor of the control socket, parent pid, memory bound in bytes."""
    fd, parent, memory_bytes = (int(value) for value in argv[:3])
    template(socket.socket(fileno=fd), parent, memory_bytes)
