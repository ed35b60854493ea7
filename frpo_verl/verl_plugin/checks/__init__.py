"""What is refused of a run of ours before anything starts: one line names the key, the value, the reason and the cure.

A topic yields a line for each thing that is wrong; the first one stops the run. It reads the configuration and changes
nothing. What a method needs, obeys and refuses stands in the table of methods, what a key of ours counts with in
`root_keys`; a run that is not ours is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...methods.settings import ConfigError
from .. import health, hooks, root_keys
from ..run import Run
from . import cpu, data, layout, needs, sizes, typed

TOPICS = (typed, needs, data, layout, sizes, root_keys)


def refuse(lines: Iterable[str]) -> None:
    """Raise ConfigError with the first line, if there is one."""
    for line in lines:
        raise ConfigError(line)


def check_config(config: Any) -> None:
    """Stop a run of ours that would fail later or silently do something else.

    Raises:
        ConfigError: one line: the key, the value, what to do.
        RuntimeError: the plugin does not know the verl it runs in.
    """
    run = Run(config)
    if hooks.cpu_mode():
        refuse(cpu.refusals(run))
    if not run.ours:
        return
    health.require("driver")
    for topic in TOPICS:
        refuse(topic.refusals(run))
    for line in (*needs.cautions(run), *layout.cautions(run)):
        hooks.say_once(line)
