"""The same as `python -m frpo_verl data preference`; described in frpo_verl/data/sets/preference.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.preference import main

if __name__ == "__main__":
    raise SystemExit(main())
