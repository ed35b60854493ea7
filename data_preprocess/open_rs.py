"""The same as `python -m frpo_verl data open_rs`; described in frpo_verl/data/sets/open_rs.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.open_rs import main

if __name__ == "__main__":
    raise SystemExit(main())
