"""Typed settings that refuse what they do not know.

Every error is one line: the key, the value, what is allowed, what to do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import names


class ConfigError(ValueError):
    """A setting that would fail later or silently do something else."""


def _choice(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}: not one of {', '.join(allowed)}{names.nearest(value, allowed)}")


def _number(key: str, value: Any, allowed: str, ok) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and ok(value)
    if not good:
        raise ConfigError(f"{key}={value!r}: must be {allowed}")


def from_mapping(cls, values: Mapping | None, prefix: str, **forced):
    """Build dataclass `cls` from `values`, refusing keys it does not have (the nearest known key is named)."""
    values = dict(values or {})
    known = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{prefix}.{key}: unknown key{names.nearest(key, known)}; known: {', '.join(sorted(known))}"
            )
    return cls(**{**values, **forced})


@dataclass(frozen=True)
class FrpoConfig:
    """`algorithm.frpo`: the regulariser of the advantage.

    kl_coef: beta >= 0; 0 gives verl's `grpo`, bit for bit, and loads no reference model.
    divergence: a row of the divergence table.            alpha: its order, for `divergence: alpha` only.
    placement: where the divergence enters: future (FRPO), local, sequence, reward.
    baseline: none, or position (leave-one-out mean of the KL-to-go at the same position in the group).
    discount: of the future sum, per response token; 1 is exact, 0 is local.
    step: token, length or newline: tokens of a step share the KL-to-go at the step's start.
    log_ratio_clip: bound of a token's |log pi/ref| before any exp or sum.
    on_nonfinite: raise, or zero_row (the response gets advantage 0 and is counted).
    allow_multiple_kl: permit a KL term of verl's beside this one.
    """

    kl_coef: float = 0.01
    divergence: str = "reverse_kl"
    alpha: float | None = None
    placement: str = "future"
    baseline: str = "none"
    discount: float = 1.0
    step: str = "token"
    step_length: int = 256
    log_ratio_clip: float = 20.0
    on_nonfinite: str = "raise"
    allow_multiple_kl: bool = False

    def __post_init__(self):
        key = "algorithm.frpo"
        _number(
            f"{key}.kl_coef", self.kl_coef, "a finite number >= 0 (0 switches the regulariser off)", lambda v: v >= 0
        )
        _choice(f"{key}.divergence", self.divergence, names.DIVERGENCES)
        _choice(f"{key}.placement", self.placement, names.PLACEMENTS)
        _choice(f"{key}.baseline", self.baseline, names.BASELINES)
        _number(f"{key}.discount", self.discount, "between 0 (local) and 1 (exact)", lambda v: 0 <= v <= 1)
        _choice(f"{key}.step", self.step, names.STEPS)
        _number(f"{key}.step_length", self.step_length, "a whole number >= 1", lambda v: v >= 1 and v == int(v))
        _number(f"{key}.log_ratio_clip", self.log_ratio_clip, "a number in (0, 80]", lambda v: 0 < v <= 80)
        _choice(f"{key}.on_nonfinite", self.on_nonfinite, names.ON_NONFINITE)
        if not isinstance(self.allow_multiple_kl, bool):
            raise ConfigError(f"{key}.allow_multiple_kl={self.allow_multiple_kl!r}: must be true or false")
        if self.divergence == "alpha":
            _number(
                f"{key}.alpha",
                self.alpha,
                "a number other than 0 and 1, because divergence=alpha",
                lambda v: v not in (0, 1),
            )
        elif self.alpha is not None:
            raise ConfigError(f"{key}.alpha={self.alpha!r}: only read by divergence=alpha, remove it or set that")
        if self.placement != "future":
            for field, default in (("discount", 1.0), ("step", "token")):
                if getattr(self, field) != default:
                    raise ConfigError(
                        f"{key}.{field}={getattr(self, field)!r}: only read by placement=future, "
                        f"got placement={self.placement}; remove it"
                    )
        if self.baseline == "position" and self.placement == "reward":
            raise ConfigError(f"{key}.baseline=position: placement=reward has no KL-to-go to centre; set baseline=none")
        if self.step != "token" and self.discount != 1.0:
            raise ConfigError(
                f"{key}.discount={self.discount!r}: steps are exact for discount=1 only; remove one of them"
            )

    @classmethod
    def parse(cls, values: Mapping | None, estimator: str = "frpo") -> FrpoConfig:
        """Settings for one registered estimator; `frpo_<divergence>` fixes the divergence."""
        forced = {}
        if estimator != "frpo":
            forced["divergence"] = estimator[len("frpo_") :]
            given = (values or {}).get("divergence")
            if given not in (None, forced["divergence"]):
                raise ConfigError(
                    f"algorithm.frpo.divergence={given!r}: adv_estimator={estimator} fixes it to "
                    f"{forced['divergence']!r}; remove it or set adv_estimator=frpo"
                )
        return from_mapping(cls, values, "algorithm.frpo", **forced)


@dataclass(frozen=True)
class FHalConfig:
    """`algorithm.f_hal`: preference_weight is the paper's lambda, 0 = f-GRPO alone, 1 = the recorded pairs alone."""

    preference_weight: float = 0.5

    def __post_init__(self):
        _number("algorithm.f_hal.preference_weight", self.preference_weight, "between 0 and 1", lambda v: 0 <= v <= 1)


def __getattr__(name: str):
    # Hydra's `_target_: frpo_verl.config.PolicyLossConfig` is a subclass of verl's and so lives in the plugin.
    if name == "PolicyLossConfig":
        from .verl_plugin.loss_config import PolicyLossConfig

        return PolicyLossConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
