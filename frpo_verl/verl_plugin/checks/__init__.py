"""What is refused of a run of ours before anything starts: one line names the key, the value, the reason and the cure.

A check reads the configuration and changes nothing. What a method needs, obeys and refuses stands in the table of methods,
what a key of ours counts with in `root_keys`; a run that is not ours is not looked at.
"""

from __future__ import annotations

from typing import Any

from .. import health, hooks
from ..root_keys import check_keys
from ..run import Run
from .cpu import check_cpu
from .data import check_data
from .layout import check_layout
from .needs import check_needs, say_what_does_little
from .typed import check_typed


def check_config(config: Any) -> None:
    """Stop a run of ours that would fail later or silently do something else.

    Raises:
        ConfigError: one line: the key, the value, what to do.
        RuntimeError: the plugin does not know the verl it runs in.
    """
    run = Run(config)
    if hooks.cpu_mode():
        check_cpu(config)
    if not run.ours:
        return
    health.require("driver")
    check_typed(run)
    check_needs(run)
    check_data(run)
    check_layout(config, has_reference=run.has_reference)
    check_keys(run)
    say_what_does_little(run)
