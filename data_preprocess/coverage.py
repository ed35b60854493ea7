"""The same as `python -m frpo_verl data coverage`; described in frpo_verl/data/sets/coverage.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.coverage import main

if __name__ == "__main__":
    raise SystemExit(main())
