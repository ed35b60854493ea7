"""Every name that a user types, once; importable without torch, and the core imports its choices from here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
PLACEMENTS = ("future", "local", "sequence", "reward", "reward_to_go")
BASELINES = ("none", "position", "remaining")  # remaining: the paper's Table 2, biased
STEPS = ("token", "length", "newline")
ON_NONFINITE = ("raise", "zero_row")
REFERENCES = ("ref", "teacher")
COEF_SHAPES = ("linear", "cosine")
OUTCOMES_BY_TOKEN = ("gae", "reinforce_plus_plus", "optimal_token_baseline", "tir_optimal_token_baseline")  # verl's
OUTCOMES_ALONE = ("none", "gae", "reinforce_plus_plus")  # compare no answers of a prompt
OUTCOMES_OF_OURS = ("corpo", "maxrl")
OUTCOME_KEYS = {  # outcome -> the keys of `algorithm` that it reads; an estimator of somebody else's may read any
    **dict.fromkeys(("none", "rloo", "rloo_vectorized", "grpo_vectorized", "opo", "gpg"), ()),
    **dict.fromkeys(("reinforce_plus_plus_baseline", *OUTCOMES_BY_TOKEN[2:]), ()),
    **dict.fromkeys(("grpo", "grpo_passk", *OUTCOMES_OF_OURS), ("norm_adv_by_std_in_grpo",)),
    "gae": ("gamma", "lam"),
    "reinforce_plus_plus": ("gamma",),
    "gdpo": ("gdpo_reward_keys", "gdpo_reward_weights"),
}

RPG_VARIANTS = ("fkl", "ufkl", "rkl", "urkl")
RPG_REFERENCES = ("old", "ref")
LEVELS = ("token", "sequence")
CLIP_MEASURES = ("ratio", "kl1", "kl2", "kl3", "tv", "binary_kl", "prob_tv")
F_GRPO_DIVERGENCES = ("kl", "reverse_kl", "pearson", "squared_hellinger", "js", "total_variation")
F_GRPO_WEIGHTS = ("none", "softmax")


def nearest(name: object, known: Iterable[object]) -> str:
    """` (did you mean 'x'?)` for the known name most like `name`, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def edits(a: str, b: str) -> int:
    """The fewest letters to insert, drop or replace that make `b` of `a`."""
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != other))
    return row[-1]
