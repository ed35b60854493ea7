"""The same as `python -m frpo_verl data olympiad_bench`; described in frpo_verl/data/sets/olympiad_bench.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.olympiad_bench import main

if __name__ == "__main__":
    raise SystemExit(main())
