"""Lets the scripts of this folder run from a clone that is not installed."""

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1]))
