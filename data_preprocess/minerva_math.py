"""The same as `python -m frpo_verl data minerva_math`; described in frpo_verl/data/sets/minerva_math.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.minerva_math import main

if __name__ == "__main__":
    raise SystemExit(main())
