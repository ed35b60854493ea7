"""`frpo_verl.config.PolicyLossConfig`: verl's policy-loss settings with a section for each family of ours.

Hydra builds it through `actor_rollout_ref.actor.policy_loss._target_`, in the driver (verl's `validate_config`) and in
every worker. Unknown keys are refused with the nearest known one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from verl.workers.config import PolicyLossConfig as VerlPolicyLossConfig

from .. import names
from ..config import ConfigError, _choice, _number, from_mapping
from ..losses.f_grpo import get_link
from ..losses.rpg import LEVELS

PREFIX = "actor_rollout_ref.actor.policy_loss"


@dataclass(frozen=True)
class RpgConfig:
    """`policy_loss.rpg`: arXiv 2505.17508. reference: old (the paper) or ref; level: token or sequence."""

    kl_coef: float = 1.0e-4
    reference: str = "old"
    level: str = "token"
    clip_low: float | None = 0.2
    clip_high: float | None = 0.28
    dual_clip_c: float | None = 10.0

    def __post_init__(self):
        _number(f"{PREFIX}.rpg.kl_coef", self.kl_coef, "a finite number >= 0", lambda v: v >= 0)
        _choice(f"{PREFIX}.rpg.reference", self.reference, ("old", "ref"))
        _choice(f"{PREFIX}.rpg.level", self.level, LEVELS)
        for key, allowed, ok in (
            ("clip_low", "a number in (0, 1], or null", lambda v: 0 < v <= 1),
            ("clip_high", "a number > 0, or null", lambda v: v > 0),
            ("dual_clip_c", "a number > 1, or null", lambda v: v > 1),
        ):
            if getattr(self, key) is not None:
                _number(f"{PREFIX}.rpg.{key}", getattr(self, key), allowed, ok)


@dataclass(frozen=True)
class ClipConfig:
    """`policy_loss.clip`: arXiv 2602.05494. measure: ratio, kl1, kl2, kl3, tv; delta: a number, a pair for ratio."""

    measure: str = "kl3"
    delta: Any = 0.0231

    def __post_init__(self):
        from ..losses.clipping import ratio_bounds

        if isinstance(self.delta, (list, ListConfig)):
            object.__setattr__(self, "delta", tuple(self.delta))
        try:
            ratio_bounds(self.measure, self.delta)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{PREFIX}.{error}") from None


@dataclass(frozen=True)
class FGrpoConfig:
    """`policy_loss.f_grpo`: arXiv 2602.05946. weights: none or softmax."""

    divergence: str = "js"
    beta: float = 0.1
    weights: str = "none"
    length_normalize: bool = False

    def __post_init__(self):
        try:
            get_link(self.divergence)
        except ValueError as error:
            raise ConfigError(f"{PREFIX}.{error}") from None
        _number(f"{PREFIX}.f_grpo.beta", self.beta, "a finite number > 0", lambda v: v > 0 and math.isfinite(v))
        _choice(f"{PREFIX}.f_grpo.weights", self.weights, ("none", "softmax"))
        if not isinstance(self.length_normalize, bool):
            raise ConfigError(f"{PREFIX}.f_grpo.length_normalize={self.length_normalize!r}: must be true or false")


@dataclass(frozen=True)
class FrpoLossConfig:
    """`policy_loss.frpo`: FRPO with the KL-to-go of the current policy in every update."""

    kl_coef: float = 0.01
    divergence: str = "reverse_kl"
    alpha: float | None = None
    log_ratio_clip: float = 20.0

    def __post_init__(self):
        _number(f"{PREFIX}.frpo.kl_coef", self.kl_coef, "a finite number >= 0", lambda v: v >= 0)
        _choice(f"{PREFIX}.frpo.divergence", self.divergence, names.DIVERGENCES)
        if self.divergence == "alpha":
            _number(f"{PREFIX}.frpo.alpha", self.alpha, "a number other than 0 and 1", lambda v: v not in (0, 1))
        elif self.alpha is not None:
            raise ConfigError(
                f"{PREFIX}.frpo.alpha={self.alpha!r}: only read by divergence=alpha, remove it or set that"
            )
        _number(f"{PREFIX}.frpo.log_ratio_clip", self.log_ratio_clip, "a number in (0, 80]", lambda v: 0 < v <= 80)


SECTIONS = {"rpg": RpgConfig, "clip": ClipConfig, "f_grpo": FGrpoConfig, "frpo": FrpoLossConfig}


def parse_section(name: str, values: Any):
    """A typed section from whatever Hydra hands over (None, mapping, DictConfig or the section itself)."""
    if isinstance(values, SECTIONS[name]):
        return values
    if isinstance(values, DictConfig):
        values = OmegaConf.to_container(values, resolve=True)
    if values is not None and not isinstance(values, Mapping):
        raise ConfigError(f"{PREFIX}.{name}={values!r}: must be a mapping")
    return from_mapping(SECTIONS[name], values, f"{PREFIX}.{name}")


def section(policy_loss: Any, name: str):
    """The typed section of a policy-loss config, defaults where the run has verl's own class."""
    return parse_section(name, policy_loss.get(name, None) if policy_loss is not None else None)


@dataclass
class PolicyLossConfig(VerlPolicyLossConfig):
    """verl's settings plus `rpg`, `clip`, `f_grpo` and `frpo`."""

    rpg: Any = field(default_factory=dict)
    clip: Any = field(default_factory=dict)
    f_grpo: Any = field(default_factory=dict)
    frpo: Any = field(default_factory=dict)

    def __post_init__(self):
        parent = getattr(super(), "__post_init__", None)
        if parent is not None:
            parent()
        for name in SECTIONS:
            object.__setattr__(self, name, parse_section(name, getattr(self, name)))
