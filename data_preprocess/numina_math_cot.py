"""The same as `python -m frpo_verl data numina_math_cot`; described in frpo_verl/data/sets/numina_math_cot.py and by --help."""

import _clone  # noqa: F401

from frpo_verl.data.sets.numina_math_cot import main

if __name__ == "__main__":
    raise SystemExit(main())
