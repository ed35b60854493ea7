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
ESTIMATORS = (*FRPO_ESTIMATORS, "f_hal", "rpg_batch_mean")


def nearest(name: object, known) -> str:
    """` (did you mean 'x'?)` for the known name most like `name`, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


RPG_VARIANTS = ("fkl", "ufkl", "rkl", "urkl")
RPG_LOSSES = (*(f"rpg_{v}" for v in RPG_VARIANTS), *(f"rpg_rf_{v}" for v in RPG_VARIANTS))
CLIP_LOSSES = ("divergence_clip", "atr_grpo")
POLICY_LOSSES = (*RPG_LOSSES, *CLIP_LOSSES, "f_grpo", "frpo")
LOCAL_KL = (*(name for name in DIVERGENCES if name != "alpha"), "k3_is")  # and alpha:ORDER


def section_of_loss(loss_mode: str) -> str | None:
    """The section of `actor.policy_loss` that a loss of ours reads, None for verl's losses."""
    if loss_mode in RPG_LOSSES:
        return "rpg"
    if loss_mode in CLIP_LOSSES:
        return "clip"
    return loss_mode if loss_mode in POLICY_LOSSES else None


def local_kl_name(kl_type: str) -> tuple[str, float | None] | None:
    """(divergence, alpha) for a `kl_loss_type`/`kl_penalty` of ours (`alpha:ORDER` for alpha), else None."""
    name, _, order = str(kl_type).removesuffix("+").partition(":")
    if name == "alpha":
        try:
            return name, float(order)
        except ValueError:
            raise ValueError(f"{kl_type!r}: write the order of the alpha divergence behind it, alpha:0.5") from None
    return (name, None) if name in LOCAL_KL and not order else None
