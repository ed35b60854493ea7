"""How the table in `seams.py` is applied: on import, once; a hash tells whether the code that is wrapped is known.

A *seam* replaces one function of a verl module by a wrap that is given the original. A *step* runs a function once a
module is imported (registrations). Both are applied by wrapt's post-import hooks, in the moment the module is imported
and before anybody can bind its names, and only in processes that import it.
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
    """One touched place of verl."""

    module: str
    name: str  # dotted below the module; empty for a step
    function: Callable
    upstream: str
    reason: str
    known: dict[str, str] = field(default_factory=dict)  # first 16 hex digits of the source's sha256 -> verl versions
    only_cpu: bool = False
    package: str = ""  # a package beside verl without which the module cannot be imported
    moved_to: str = ""  # where a later verl keeps it, if it does: the first of the two that has it is wrapped, once
    optional: bool = False  # a verl without the place has nothing to wrap
    status: str = "pending"  # pending | applied | unknown source | absent: ... | failed: ...
    source_hash: str = ""

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
        return f"{self.module}{'.' + self.name if self.name else ''} [{self.function.__name__}]"

    @property
    def trouble(self) -> str | None:
        """Why this seam could not be applied, or None."""
        return f"{self.label} {self.status}" if self.status.startswith("failed") else None


SEAMS: list[Seam] = []
_installed = False


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


def cpu_mode() -> bool:
    """Whether the user chose verl's trainer on a CPU."""
    return os.getenv("VERL_PLATFORM", "").strip().lower() == "cpu"


def seam(
    module: str,
    name: str,
    *,
    upstream: str,
    reason: str,
    known: dict[str, str],
    only_cpu: bool = False,
    package: str = "",
    moved_to: str = "",
    optional: bool = False,
):
    """Wrap `module.name`: the decorated function gets the original first, then the call's arguments."""

    def decorate(function):
        SEAMS.append(Seam(module, name, function, upstream, reason, known, only_cpu, package, moved_to, optional))
        return function

    return decorate


def step(module: str, *, upstream: str, reason: str, only_cpu: bool = False, package: str = ""):
    """Run the decorated function with the module once it is imported."""

    def decorate(function):
        SEAMS.append(Seam(module, "", function, upstream, reason, {}, only_cpu, package))
        return function

    return decorate


def source_hash(obj: Any) -> str:
    """The first 16 hex digits of sha256 of an object's source text."""
    return hashlib.sha256(inspect.getsource(obj).encode()).hexdigest()[:16]


def _apply(entry: Seam, module) -> None:
    if entry.status in ("applied", "unknown source"):
        return
    try:
        if not entry.name:
            entry.function(module)
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
        entry.source_hash = source_hash(original)

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            return entry.function(original, *args, **kwargs)

        setattr(owner, attribute, wrapper)
        entry.status = "applied" if entry.source_hash in entry.known else "unknown source"
    except Exception as error:  # noqa: BLE001 - an import of verl must not fail because of us; it is said instead
        entry.status = f"failed: {type(error).__name__}: {error}"
        print(f"frpo_verl: {entry.label} {entry.status}", file=sys.stderr, flush=True)
        if not entry.name and entry.module.endswith("core_algos"):
            from .registration import register_stubs

            register_stubs(module, entry.status)


def install() -> None:
    """Leave one post-import hook for each module of the table; a module that is imported already is done at once."""
    global _installed
    if _installed:
        return
    _installed = True
    import wrapt

    by_module: dict[str, list[Seam]] = {}
    for entry in SEAMS:
        if not entry.active:
            continue
        for module_name in entry.modules:
            by_module.setdefault(module_name, []).append(entry)
    for module_name, entries in by_module.items():

        def hook(module, entries=entries):
            for entry in entries:
                _apply(entry, module)

        wrapt.register_post_import_hook(hook, module_name)


def troubles() -> list[str]:
    """One line for each seam of this process that could not be applied."""
    return [entry.trouble for entry in SEAMS if entry.trouble]


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
