"""What every script of this folder is: `python -m frpo_verl data NAME`, from a clone that need not be installed."""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))

from frpo_verl.data.cli import main  # noqa: E402


def run(script: str) -> None:
    """Run the set that a script is named after, with the script's arguments."""
    raise SystemExit(main([Path(script).stem, *sys.argv[1:]]))
