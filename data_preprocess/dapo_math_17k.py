"""The same as `python -m frpo_verl data dapo_math_17k`; described in frpo_verl/data/sets/dapo_math_17k.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.dapo_math_17k import main

if __name__ == "__main__":
    raise SystemExit(main())
