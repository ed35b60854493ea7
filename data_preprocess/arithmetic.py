"""The same as `python -m frpo_verl data arithmetic`; described in frpo_verl/data/sets/arithmetic.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.arithmetic import main

if __name__ == "__main__":
    raise SystemExit(main())
