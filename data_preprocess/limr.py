"""The same as `python -m frpo_verl data limr`; described in frpo_verl/data/sets/limr.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.limr import main

if __name__ == "__main__":
    raise SystemExit(main())
