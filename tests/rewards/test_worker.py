import json
import os
import signal
import socket
import sys

import pytest
from commands import python

from frpo_verl.rewards import worker

pytest.importorskip("math_verify")


def test_judge_reports_what_went_wrong(monkeypatch):
    assert worker.judge(r"\sqrt{4}", "2") == {"equal": True, "error": "", "stop": False}
    assert "ground truth" in worker.judge(r"\frac{x}", "2x")["error"]

    def out_of_memory(gold, pred):
        raise MemoryError

    monkeypatch.setattr(worker, "_equal", out_of_memory)
    assert worker.judge("1", "2") == {"equal": False, "error": "MemoryError", "stop": True}


def test_memory_limit():
    script = (
        "from frpo_verl.rewards import worker\n"
        "worker._limit_memory(400 << 20)\n"
        "try:\n    bytearray(1 << 30)\nexcept MemoryError:\n    print('bounded')\n"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("RLIMIT_AS is enforced on Linux only")
    out = python(code=script)
    assert out.stdout.strip() == "bounded"


def test_template_protocol_and_end_of_parent():
    """Fork a worker, ask it, kill it; closing the control socket ends the template."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        worker.template(theirs, os.getppid(), 1 << 40)  # forked from the test process, whatever that has mapped
        os._exit(0)
    theirs.close()
    ours.settimeout(120)
    assert json.loads(ours.recv(4096)) == {}
    a, b = socket.socketpair()
    socket.send_fds(ours, [b"s"], [b.fileno()])
    b.close()
    child = json.loads(ours.recv(4096))["pid"]
    a.sendall(json.dumps({"gold": r"\sqrt{8}", "pred": r"2\sqrt{2}", "deadline": 60, "limit": 600}).encode() + b"\n")
    assert json.loads(a.recv(4096)) == {"equal": True, "error": "", "stop": False}
    ours.sendall(b"k%d" % child)
    assert json.loads(ours.recv(4096)) == {"signal": signal.SIGKILL}
    assert a.recv(1) == b""  # it is gone
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
