"""`python -m frpo_verl data NAME ...`: a data set as parquet files for verl; NAME --help lists its options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from ..methods.names import nearest
from . import command, generated, preference
from .sets import SETS

#: what `data NAME` takes -> its command: options in, exit code out
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    **{name: partial(command.run, dataset) for name, dataset in SETS.items()},
    **{name: partial(generated.run, name) for name in generated.GENERATED},
    "preference": preference.main,
}


def main(argv: list[str] | None = None) -> int:
    """Run the command of one data set; returns its exit code."""
    name, *options = (sys.argv[1:] if argv is None else argv) or [""]
    names = ", ".join(sorted(COMMANDS))
    if name in COMMANDS:
        return COMMANDS[name](options)
    if name in ("", "-h", "--help"):
        print(f"usage: python -m frpo_verl data NAME [options]      (NAME --help lists them)\n\nnames: {names}")
        return 0 if name else 2
    print(f"data: no set {name!r}{nearest(name, sorted(COMMANDS))}; known: {names}", file=sys.stderr)
    return 2
