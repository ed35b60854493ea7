"""Python in a process of its own, and one call in many threads."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def python(*words: str, cwd=None, path=(), code: str | None = None, **variables: str) -> subprocess.CompletedProcess:
    """`python -W ignore WORDS` (or `-c code`), with folders in front of its path; what it printed is text."""
    words = ("-c", code, *words) if code is not None else words
    paths = os.pathsep.join([*map(str, path), *(p for p in sys.path if p)])
    return subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, words)], capture_output=True, text=True, timeout=600, cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **variables},
    )  # fmt: skip


def in_threads(number: int, call) -> list:
    """What a call returns in each of so many threads that begin together."""
    barrier = Barrier(number)

    def begin(_):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(number) as executor:
        return list(executor.map(begin, range(number)))
