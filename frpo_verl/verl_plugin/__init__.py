"""The only part of frpo_verl that knows verl.

`register()` leaves hooks that act when verl imports its own modules; it imports nothing of verl and is idempotent.
Two doors lead here, both opened by verl in every process: the entry point group `verl.plugins` and the variable
`VERL_USE_EXTERNAL_MODULES=frpo_verl`.
"""

from __future__ import annotations

import contextlib
import sys

failure: str | None = None


def register() -> None:
    """Make every name of frpo_verl known to verl in this process, now or when verl's modules get imported.

    verl drops a plugin's exceptions unseen, so a failure is printed here, kept for `python -m frpo_verl doctor`, and
    repeated by stubs when one of the names is used.
    """
    global failure
    try:
        from . import door, hooks

        hooks.install()
        door.show_recipes(sys.argv[1:])
    except Exception as error:  # noqa: BLE001
        failure = f"{type(error).__name__}: {error}"
        print(f"frpo_verl did not load: {failure}. Run `python -m frpo_verl doctor`.", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):  # if verl is far enough imported to take stubs, which repeat the reason
            from verl.trainer.ppo import core_algos

            from .registration import register_stubs

            register_stubs(core_algos, failure)
