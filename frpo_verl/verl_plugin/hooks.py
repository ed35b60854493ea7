"""How the table in `seams.py` is applied: on import, once; a hash tells whether the code that is wrapped is known.

wrapt's post-import hooks act in the moment a module of verl is imported, before anybody can bind its names, and only in
processes that import it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seam:
    """One touched place of verl.

    module, name: the function, dotted below its module; without a name the module itself.
    does: `module:function` of the plugin that is called in its place, or with the module.
    known: first 16 hex digits of the source's sha256 -> versions of verl.
    package: one beside verl without which the module cannot be imported.
    moved_to: where a later verl keeps it, if it does: the first of the two that has it is wrapped, once.
    optional: a verl without the place has nothing to wrap.
    status: pending | applied | unknown source | absent: ... | failed: ...
    """

    module: str
    name: str = ""
    does: str = ""
    reason: str = ""
    known: dict[str, str] = field(default_factory=dict)
    only_cpu: bool = False
    package: str = ""
    moved_to: str = ""
    optional: bool = False
    status: str = "pending"

    @property
    def active(self) -> bool:
        """Whether this machine can have the place at all."""
        absent = self.package and importlib.util.find_spec(self.package) is None
        return not absent and (cpu_mode() or not self.only_cpu)

    @property
    def modules(self) -> list[str]:
        """The modules of verl in which it may stand, the newest place first."""
        return [name for name in (self.moved_to, self.module) if name]

    @property
    def label(self) -> str:
        return f"{self.module}{'.' + self.name if self.name else ''} [{self.does}]"

    def load(self) -> Callable:
        """What it does."""
        module, _, function = self.does.partition(":")
        return getattr(importlib.import_module(f"{__package__}.{module}"), function)


SEAMS: list[Seam] = []


def arguments(original: Callable, args: tuple, kwargs: dict, *needed: str) -> dict[str, Any] | None:
    """The arguments of a call by their names in verl's function; None for a call that is not understood.

    A wrap that gets None calls the original untouched: another verl may have renamed an argument, and a run that is not
    ours must not notice.
    """
    try:
        bound = inspect.signature(original).bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return dict(bound.arguments) if all(name in bound.arguments for name in needed) else None


def say(line: str) -> None:
    """Print a line under the plugin's name."""
    print(f"frpo_verl: {line}", file=sys.stderr, flush=True)


say_once = functools.cache(say)


def cpu_mode() -> bool:
    """Whether the user chose verl's trainer on a CPU."""
    return os.getenv("VERL_PLATFORM", "").strip().lower() == "cpu"


def source_hash(obj: Any) -> str:
    """The first 16 hex digits of sha256 of an object's source text."""
    return hashlib.sha256(inspect.getsource(obj).encode()).hexdigest()[:16]


def _apply(entry: Seam, module: Any) -> None:
    if entry.status in ("applied", "unknown source"):
        return
    try:
        if not entry.name:
            entry.load()(module)
            entry.status = "applied"
            return
        *path, attribute = entry.name.split(".")
        try:
            owner = functools.reduce(getattr, path, module)
            original = getattr(owner, attribute)
        except AttributeError as error:
            if module.__name__ == entry.moved_to:
                return  # it is in its old place still
            if not entry.optional:
                raise
            entry.status = f"absent: {error}"
            return
        known = source_hash(original) in entry.known

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            return entry.load()(original, *args, **kwargs)

        setattr(owner, attribute, wrapper)
        entry.status = "applied" if known else "unknown source"
    except Exception as error:  # noqa: BLE001 - an import of verl must not fail because of us; it is said instead
        entry.status = f"failed: {type(error).__name__}: {error}"
        say(f"{entry.label} {entry.status}")
        if not entry.name and entry.module.endswith("core_algos"):
            from .registration import register_stubs

            register_stubs(module, entry.status)


def install() -> None:
    """Leave one post-import hook for each module of the table; a module that is imported already is done at once."""
    if SEAMS:
        return
    import wrapt

    from .seams import TABLE

    SEAMS.extend(TABLE)
    by_module: dict[str, list[Seam]] = {}
    for entry in SEAMS:
        for module_name in entry.modules if entry.active else ():
            by_module.setdefault(module_name, []).append(entry)
    for module_name, entries in by_module.items():

        def hook(module, entries=entries):
            for entry in entries:
                _apply(entry, module)

        wrapt.register_post_import_hook(hook, module_name)


def troubles() -> list[str]:
    """One line for each seam of this process that could not be applied."""
    return [f"{entry.label} {entry.status}" for entry in SEAMS if entry.status.startswith("failed")]


def unknown() -> list[Seam]:
    """The seams of this process that wrap code which is not that of a known verl."""
    return [entry for entry in SEAMS if entry.status == "unknown source"]


def import_all() -> None:
    """Import every module of the table, so that the doctor sees each seam applied, absent or failed."""
    for entry in SEAMS:
        for module_name in entry.modules if entry.active else ():
            try:
                importlib.import_module(module_name)
            except Exception as error:  # noqa: BLE001
                if module_name == entry.module and entry.status == "pending":
                    word = "absent" if entry.optional else "failed"
                    entry.status = f"{word}: cannot import {module_name}: {type(error).__name__}: {error}"
