import json
import os
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

    monkeypatch.setattr("frpo_verl.rewards.symbolic.equal", out_of_memory)
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


def test_template_forks_workers_that_stop_after_their_share_and_ends_with_its_parent(monkeypatch):
    monkeypatch.setattr(worker, "TASKS_PER_WORKER", 2)
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
    socket.send_fds(ours, [b"w"], [b.fileno()])
    assert ours.recv(1) == b"."
    b.close()
    for stop in (False, True):
        request = {"gold": r"\sqrt{8}", "pred": r"2\sqrt{2}", "deadline": 60, "limit": 600}
        a.sendall(json.dumps(request).encode() + b"\n")
        assert json.loads(a.recv(4096)) == {"equal": True, "error": "", "stop": stop}
    assert a.recv(1) == b""  # it is gone
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
