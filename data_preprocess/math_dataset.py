"""The same as `python -m frpo_verl data math_dataset`; described in frpo_verl/data/sets/math_dataset.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.math_dataset import main

if __name__ == "__main__":
    raise SystemExit(main())
