"""The same as `python -m frpo_verl data amc23`; described in frpo_verl/data/sets/amc23.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.amc23 import main

if __name__ == "__main__":
    raise SystemExit(main())
