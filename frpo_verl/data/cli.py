"""`python -m frpo_verl data NAME ...`: a data set as parquet files for verl; NAME --help lists its options."""

from __future__ import annotations

import sys

from ..methods.names import nearest
from . import command, generated, preference
from .sets import SETS


def set_names() -> list[str]:
    """The names that `data NAME` takes."""
    return sorted([*SETS, *generated.GENERATED, "preference"])


def main(argv: list[str] | None = None) -> int:
    """Run the command of one data set; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m frpo_verl data NAME [options]      (NAME --help lists them)\n")
        print(f"names: {', '.join(set_names())}")
        return 0 if argv else 2
    name, *options = argv
    if name in SETS:
        return command.run(SETS[name], options)
    if name in generated.GENERATED:
        return generated.run(name, options)
    if name == "preference":
        return preference.main(options)
    print(f"data: no set {name!r}{nearest(name, set_names())}; known: {', '.join(set_names())}", file=sys.stderr)
    return 2
