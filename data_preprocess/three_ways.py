"""The same as `python -m frpo_verl data three_ways`; described in frpo_verl/data/sets/three_ways.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.three_ways import main

if __name__ == "__main__":
    raise SystemExit(main())
