"""How the table in `seams.py` is applied: on import, once, where the place is what its row says.

wrapt's post-import hooks act in the moment a module of verl is imported, before anybody can bind its names, and only in
processes that import it. A place that has moved, or no longer takes the arguments that are read of it, is left alone and
said; a hash tells whether its source is known.
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
from dataclasses import dataclass
from typing import Any

VERSIONS = ("0.9.0", "0.9.1")  # of verl, whose sources are known


@dataclass
class Seam:
    """One touched place of verl.

    module, name: the function, dotted below its module; without a name the module itself.
    does: `module:function` of the plugin that is called with each call of it (`Call`), or once with the module.
    reads: the arguments that it reads, between spaces.
    known: first 16 hex digits of the source's sha256, in each of VERSIONS or in all, between spaces.
    package: one beside verl without which the module cannot be imported.
    moved_to: where a later verl keeps it, if it does: the first of the two that has it is wrapped, once.
    optional: a verl without the place has nothing to wrap.
    status: pending | applied | unknown source | absent: ... | failed: ...
    """

    module: str
    name: str
    does: str
    reason: str
    reads: str = ""
    known: str = ""
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
    def place(self) -> str:
        return f"{self.module}{'.' + self.name if self.name else ''}"

    @property
    def label(self) -> str:
        return f"{self.place} [{self.does}]"

    def load(self) -> Callable:
        """What it does."""
        module, _, function = self.does.partition(":")
        return getattr(importlib.import_module(f"{__package__}.{module}"), function)


SEAMS: list[Seam] = []


@dataclass(frozen=True)
class Call:
    """A call of a function of verl that is wrapped: `call()` makes it, `call["name"]` is an argument of it."""

    function: Callable
    args: tuple
    kwargs: dict[str, Any]
    named: dict[str, Any]

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    def __getitem__(self, name: str) -> Any:
        return self.named[name]


def wrap(original: Callable, load: Callable[[], Callable], reads: str = "") -> Callable:
    """A function that hands each `Call` of `original` to what `load` gives.

    Raises TypeError: `original` has no argument of a name that is read.
    """
    signature = inspect.signature(original)
    for name in reads.split():
        if name not in signature.parameters:
            raise TypeError(f"it has no argument {name!r}")

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # verl says what is wrong
            return original(*args, **kwargs)
        bound.apply_defaults()
        return load()(Call(original, args, kwargs, bound.arguments))

    return wrapper


def say(line: str) -> None:
    """Print a line under the plugin's name."""
    print(f"frpo_verl: {line}", file=sys.stderr, flush=True)


say_once = functools.cache(say)


def cpu_mode() -> bool:
    """Whether the user chose verl's trainer on a CPU."""
    return os.getenv("VERL_PLATFORM", "").strip().lower() == "cpu"


def apply(entry: Seam, module: Any) -> None:
    """Wrap or register one place of a module that has just been imported; once."""
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
        now = f"{original.__module__}.{original.__qualname__}"
        if not path and now.startswith("verl.") and "<locals>" not in now and now != f"{module.__name__}.{entry.name}":
            raise ImportError(f"it is {now} now")  # and verl's own callers use that
        digest = hashlib.sha256(inspect.getsource(original).encode()).hexdigest()[:16]
        setattr(owner, attribute, wrap(original, entry.load, entry.reads))
        entry.status = "applied" if digest in entry.known else "unknown source"
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
    for entry in SEAMS:
        for module in entry.modules if entry.active else ():
            wrapt.register_post_import_hook(functools.partial(apply, entry), module)


def troubles() -> list[str]:
    """One line for each seam of this process that could not be applied."""
    return [f"{entry.label} {entry.status}" for entry in SEAMS if entry.status.startswith("failed")]


def unknown() -> list[Seam]:
    """The seams of this process that wrap code which is not that of a known verl."""
    return [entry for entry in SEAMS if entry.status == "unknown source"]


def import_all() -> None:
    """Import every module of the table, so that the doctor sees each seam applied, absent or failed."""
    for entry in SEAMS:
        for module in entry.modules if entry.active else ():
            try:
                importlib.import_module(module)
            except Exception as error:  # noqa: BLE001
                if module == entry.module and entry.status == "pending":
                    word = "absent" if entry.optional else "failed"
                    entry.status = f"{word}: cannot import {module}: {type(error).__name__}: {error}"
