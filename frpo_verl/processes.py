"""A child process that does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Make this process end when its parent ends.

    On Linux the kernel sends the signal, which reaches a process that is stuck inside a C call, too. With `parent` a thread also
    looks once a second whether the parent has changed, for other systems and for a parent that ended before the call.

    Args:
        signal_number: what the kernel sends.
        parent: process id of the parent; None: no such thread.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
    if parent is None:
        return
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
