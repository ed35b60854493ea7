"""Every name that a user can type, in one place."""

from __future__ import annotations

import difflib

DIVERGENCES = (
    "reverse_kl",
    "reverse_kl_k3",
    "forward_kl",
    "forward_kl_k3",
    "js",
    "jeffreys",
    "pearson_chi2",
    "neyman_chi2",
    "squared_hellinger",
    "total_variation",
    "alpha",
)
PLACEMENTS = ("future", "local", "sequence", "reward")
BASELINES = ("none", "position")
STEPS = ("token", "length", "newline")
ON_NONFINITE = ("raise", "zero_row")

FRPO_ESTIMATORS = ("frpo", *(f"frpo_{name}" for name in DIVERGENCES))
ESTIMATORS = FRPO_ESTIMATORS


def nearest(name: object, known) -> str:
    """` (did you mean 'x'?)` for the known name most like `name`, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
