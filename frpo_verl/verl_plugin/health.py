"""May the plugin be relied upon in this process? Judged by what it does, not by the text of verl's sources.

The self-test sends toy answers through verl's own functions, once in a process: in the driver when a run of ours is checked,
in a training worker at its first loss. A verl whose sources are known stays silent, another one that passes is named in one
line, and one that fails is refused.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from importlib import metadata

from . import hooks

ALLOW_UNTESTED = "FRPO_VERL_ALLOW_UNTESTED"
CURE = f"install verl {' or '.join(hooks.VERSIONS)}"


def require(place: str | None = None) -> None:
    """Raise with the first reason why the plugin cannot be relied upon.

    Args:
        place: `driver` or `worker` runs that part of the self-test, once in a process; None only looks whether every wrap
            could be applied.

    Raises RuntimeError: one line: the place of verl, what was expected, what came.
    """
    found = [old] if (old := too_old()) else hooks.troubles()
    if not found and place is not None:
        from . import selftest

        if not selftest.under_way:  # a call from within must neither start another nor be answered for good
            found = judge(place)
    if found:
        raise RuntimeError(f"frpo_verl: {found[0]}. Run `python -m frpo_verl doctor`.")


@functools.cache
def judge(place: str) -> list[str]:
    """Why a run must not go on, by the self-test of the driver or of a worker; what is to be said is said once."""
    failures = failures_of(place)
    if failures and os.getenv(ALLOW_UNTESTED) == "1":
        hooks.say(
            f"{len(failures)} failures of the self-test are overlooked ({ALLOW_UNTESTED}=1), the first: {failures[0]}"
        )
    elif failures:
        return [f"verl {version()}: the self-test fails at {failures[0]}; {CURE}"]
    elif unknown := hooks.unknown():
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        hooks.say(f"verl {version()} is unknown here ({unknown[0].label}{more}); the self-test passes, the run goes on")
    return []


def failures_of(place: str) -> list[str]:
    """What the self-test finds wrong in the driver's or the worker's part; empty if it passes."""
    from . import selftest

    return selftest.run_selftest(selftest.WORKER if place == "worker" else selftest.ALL)


@functools.cache
def too_old() -> str | None:
    """One line for a verl that has no V1 trainer (before 0.9.0), None for any other."""
    if importlib.util.find_spec("verl.trainer.ppo.v1") is not None:
        return None
    return f"verl {version()} has no V1 trainer, the plugin does not work with it; {CURE}"


def version() -> str:
    """The installed verl's version."""
    try:
        return metadata.version("verl")
    except metadata.PackageNotFoundError:
        return "(not installed)"
