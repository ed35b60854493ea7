"""The same as `python -m frpo_verl data gsm8k`; described in frpo_verl/data/sets/gsm8k.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.gsm8k import main

if __name__ == "__main__":
    raise SystemExit(main())
