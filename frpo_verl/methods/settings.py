"""The typed sections of a run's configuration: what may stand in them, said once, beside the field."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from . import names, ranges
from .section import ConfigError, Section, choice, number

ACTOR = "actor_rollout_ref.actor"
POLICY_LOSS = f"{ACTOR}.policy_loss"
_KL = {"kl_coef": ranges.BETA}  # with kl_coef=0 nothing asks for a divergence
_END = {"kl_coef_end": ranges.KL_COEF}
_DIVERGENCES = (*names.DIVERGENCES, "package.module:NAME")


def _divergence() -> Any:
    return choice("reverse_kl", _DIVERGENCES, or_import=True, only_with=_KL)


def _alpha() -> Any:
    return number(None, ranges.ALPHA, optional=True, only_with={"divergence": ("alpha",)} | _KL)


def _need_alpha(section: FrpoSettings | FrpoLossSettings) -> None:
    if section.kl_coef > 0 and section.divergence == "alpha" and section.alpha is None:
        raise ConfigError(f"{section.KEY}.alpha=None: must be {ranges.ALPHA}, because divergence=alpha")


@dataclass(frozen=True)
class Scheduled(Section):
    """A section whose `kl_coef` may change with the training step.

    kl_coef_end, kl_coef_steps: over so many steps beta goes from kl_coef to kl_coef_end. kl_coef_shape: linear or cosine.
    """

    kl_coef: float = number(0.01, ranges.KL_COEF)
    kl_coef_end: float | None = number(None, ranges.KL_COEF, optional=True, only_with=_KL)
    kl_coef_steps: int | None = number(None, ranges.SCHEDULE_STEPS, optional=True, only_with=_END)
    kl_coef_shape: str = choice("linear", names.COEF_SHAPES, only_with=_END)

    def _relations(self) -> None:
        if self.kl_coef_end is not None and self.kl_coef_steps is None:
            raise ConfigError(
                f"{self.KEY}.kl_coef_end={self.kl_coef_end!r}: needs {self.KEY}.kl_coef_steps, over how many steps to reach it"
            )

    @property
    def changes(self) -> bool:
        """Whether beta is another one at another step."""
        return self.kl_coef_end is not None

    def kl_coef_at(self, step: int) -> float:
        """Beta of a training step, counted from 1."""
        from ..core.coefficient import scheduled

        if self.kl_coef_end is None or self.kl_coef_steps is None:
            return self.kl_coef
        return scheduled(step, self.kl_coef, self.kl_coef_end, int(self.kl_coef_steps), self.kl_coef_shape)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"v1"}) if self.changes else frozenset()  # no other trainer says which step it is

    def keywords(self, step: int | None = None) -> dict[str, Any]:
        """With beta of this step in the place of its schedule."""
        own = {k: v for k, v in super().keywords().items() if not k.startswith("kl_coef")}
        return {**own, "kl_coef": self.kl_coef if step is None else self.kl_coef_at(step)}


@dataclass(frozen=True)
class FrpoSettings(Scheduled):
    """`algorithm.frpo`: the regulariser of the advantage.

    kl_coef: beta; 0 gives the outcome alone (verl's `grpo`, bit for bit), and loads no reference model.
    kl_coef_end, kl_coef_steps, kl_coef_shape: its schedule.
    kl_target: nats of a response to which beta is steered from kl_coef on. kl_horizon: a step changes beta by at most
        0.2 / kl_horizon of itself.
    outcome: the reward's part: an estimator of verl's registry, corpo, maxrl, or none (0).
    divergence: a row of the divergence table, or `some.module:NAME` for one of your own.
    alpha: the order of divergence alpha.
    reference: ref, or teacher: verl's distillation teachers.
    placement: where the divergence enters: future (FRPO), local, sequence, reward, reward_to_go (reward less KL-to-go,
        normalised at each position; outcome grpo alone).
    baseline: none, position (leave-one-out mean of the KL-to-go at the same position in the group; with placement
        sequence of the whole answer's KL), or remaining (the paper's (T - t) * mean KL: biased).
    discount: of the future sum, per response token; 1 is exact, 0 is local; steps have none.
    step: token, length or newline: tokens of a step share the KL-to-go at the step's start.
    step_length: response tokens in a step of step=length.
    log_ratio_clip: bound of a token's |log pi/ref| before any exp or sum.
    on_nonfinite: NaN or inf of the reference: raise, or zero_row (the response is left out of the update and counted).
    allow_multiple_kl: permit a KL term of verl's beside this one.
    """

    KEY: ClassVar[str] = "algorithm.frpo"

    kl_target: float | None = number(None, ranges.KL_TARGET, optional=True, only_with=_KL)
    kl_horizon: float = number(100, ranges.KL_HORIZON, only_with={"kl_target": ranges.KL_TARGET})
    outcome: str = "grpo"
    divergence: str = _divergence()
    alpha: float | None = _alpha()
    reference: str = choice("ref", names.REFERENCES, only_with=_KL)
    placement: str = choice("future", names.PLACEMENTS, only_with=_KL)
    baseline: str = choice("none", names.BASELINES, only_with=_KL | {"placement": ("future", "local", "sequence")})
    discount: float = number(1.0, ranges.DISCOUNT, only_with=_KL | {"placement": ("future",), "step": ("token",)})
    step: str = choice("token", names.STEPS, only_with=_KL | {"placement": ("future",)})
    step_length: int = number(256, ranges.STEP_LENGTH, only_with=_KL | {"step": ("length",)})
    log_ratio_clip: float = number(20.0, ranges.LOG_RATIO_CLIP, only_with=_KL)
    on_nonfinite: str = choice("raise", names.ON_NONFINITE, only_with=_KL)
    allow_multiple_kl: bool = dataclasses.field(default=False, metadata={"only_with": _KL})

    def _relations(self) -> None:
        super()._relations()
        _need_alpha(self)
        if self.kl_target is not None and self.kl_coef_end is not None:
            raise ConfigError(
                f"{self.KEY}.kl_target={self.kl_target!r}: beta is steered by it, or scheduled by kl_coef_end; remove one of them"
            )
        if self.placement == "reward_to_go" and self.outcome != "grpo":
            raise ConfigError(
                f"{self.KEY}.outcome={self.outcome}: placement=reward_to_go normalises reward and KL as grpo does, at each "
                "position, and no other outcome takes part; remove it or set placement=future"
            )
        if self.baseline == "remaining" and (self.placement, self.step, self.discount) != ("future", "token", 1):
            raise ConfigError(
                f"{self.KEY}.baseline=remaining: counts the tokens of placement=future with step=token and discount=1, and is "
                "biased there; set baseline=position or those"
            )
        if self.placement == "reward" and self.outcome in ("none", "gdpo", *names.OUTCOMES_BY_TOKEN):
            raise ConfigError(
                f"{self.KEY}.outcome={self.outcome}: placement=reward puts the KL into one reward for each response, which this "
                "outcome does not read; set placement=future"
            )

    @property
    def changes(self) -> bool:
        return super().changes or self.kl_target is not None

    @property
    def needs(self) -> frozenset[str]:
        groups = (
            frozenset()
            if self.outcome in names.OUTCOMES_ALONE and self.baseline != "position"
            else frozenset({"groups"})
        )
        reads = {"teacher", "old", "v1", "one_row"} if self.reference == "teacher" else {"reference", "old"}
        return super().needs | groups | (frozenset(reads) if self.kl_coef > 0 else frozenset())

    def obeys(self, row: frozenset[str]) -> frozenset[str]:
        """The keys that its outcome reads; an estimator of somebody else's may read any."""
        return frozenset(names.OUTCOME_KEYS.get(self.outcome, ("*",)))

    @property
    def one_value(self) -> bool:
        """Whether the advantage is the same number on every token of a response."""
        whole = self.placement == "sequence" and self.divergence == "reverse_kl" and self.baseline == "none"
        whole = self.kl_coef == 0 or self.placement == "reward" or whole
        return whole and self.outcome not in names.OUTCOMES_BY_TOKEN


@dataclass(frozen=True)
class FHalSettings(Section):
    """`algorithm.f_hal`: preference_weight is the paper's lambda, 0 = f-GRPO alone, 1 = the recorded pairs alone."""

    KEY: ClassVar[str] = "algorithm.f_hal"

    preference_weight: float = number(0.5, ranges.PREFERENCE_WEIGHT)


@dataclass(frozen=True)
class CorpoSettings(Section):
    """`algorithm.corpo`: threshold is the reward from which a response counts as good, in the units of the reward."""

    KEY: ClassVar[str] = "algorithm.corpo"

    threshold: float = number(0.5, ranges.THRESHOLD)


@dataclass(frozen=True)
class RpgSettings(Scheduled):
    """`policy_loss.rpg`: arXiv 2505.17508.

    kl_coef: beta; kl_coef_end, kl_coef_steps, kl_coef_shape: its schedule. reference: old (the paper) or ref. level: token or sequence.
    clip_low, clip_high: PPO's interval [1 - low, 1 + high]. dual_clip_c: ceiling of the ratio for A < 0. Null: off.
    """

    KEY: ClassVar[str] = f"{POLICY_LOSS}.rpg"

    kl_coef: float = number(1.0e-4, ranges.KL_COEF)
    reference: str = choice("old", names.RPG_REFERENCES, only_with=_KL)
    level: str = choice("token", names.LEVELS)
    clip_low: float | None = number(0.2, ranges.CLIP_LOW, optional=True)
    clip_high: float | None = number(0.28, ranges.CLIP_HIGH, optional=True)
    dual_clip_c: float | None = number(10.0, ranges.DUAL_CLIP, optional=True)

    @property
    def needs(self) -> frozenset[str]:
        found = {"reference"} if self.reference == "ref" else set()
        return super().needs | frozenset(found | ({"one_row", "one_value"} if self.level == "sequence" else set()))


@dataclass(frozen=True)
class ClipSettings(Section):
    """`policy_loss.clip`: arXiv 2602.05494. delta: nats for the kl measures, a difference of
    probabilities for prob_tv; a number, or a pair for measure=ratio.
    """

    KEY: ClassVar[str] = f"{POLICY_LOSS}.clip"

    measure: str = choice("kl3", names.CLIP_MEASURES)
    delta: float | tuple[float, float] = 0.0231

    def _relations(self) -> None:
        pair = isinstance(self.delta, (list, tuple))
        if pair:
            object.__setattr__(self, "delta", tuple(self.delta))  # type: ignore[arg-type]
        values = self.delta if isinstance(self.delta, tuple) else (self.delta,)
        allowed = ranges.clip_delta(self.measure)
        if any(value not in allowed for value in values) or (pair and (self.measure != "ratio" or len(values) != 2)):
            also = " or a pair of such numbers" if self.measure == "ratio" else ""
            raise ConfigError(f"{self.KEY}.delta={self.delta!r}: must be {allowed}{also} for measure={self.measure}")


@dataclass(frozen=True)
class FGrpoSettings(Section):
    """`policy_loss.f_grpo`: arXiv 2602.05946.

    divergence: the one whose bound is raised. beta: scale of the implicit reward. weights: none or softmax.
    length_normalize: the mean of a response's log-ratios in place of their sum.
    """

    KEY: ClassVar[str] = f"{POLICY_LOSS}.f_grpo"

    divergence: str = choice("js", names.F_GRPO_DIVERGENCES)
    beta: float = number(0.1, ranges.BETA)
    weights: str = choice("none", names.F_GRPO_WEIGHTS)
    length_normalize: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"old", "groups"}) if self.weights == "softmax" else frozenset()

    def keywords(self, step: int | None = None) -> dict[str, Any]:
        """Without `weights`: they compare the answers of a group, so the driver puts them into the advantages."""
        return {key: value for key, value in super().keywords().items() if key != "weights"}


@dataclass(frozen=True)
class FrpoLossSettings(Scheduled):
    """`policy_loss.frpo`: FRPO with the KL-to-go of the current policy in every update; fields as in `algorithm.frpo`."""

    KEY: ClassVar[str] = f"{POLICY_LOSS}.frpo"

    divergence: str = _divergence()
    alpha: float | None = _alpha()
    log_ratio_clip: float = number(20.0, ranges.LOG_RATIO_CLIP, only_with=_KL)

    def _relations(self) -> None:
        super()._relations()
        _need_alpha(self)

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | (frozenset({"one_row", "reference"}) if self.kl_coef > 0 else frozenset())

    def keywords(self, step: int | None = None) -> dict[str, Any]:
        """The divergence as the row itself, its order included."""
        from ..custom import load_divergence

        row = load_divergence(self.divergence, self.alpha)
        kl_coef = super().keywords(step)["kl_coef"]
        return {"kl_coef": kl_coef, "divergence": row, "log_ratio_clip": self.log_ratio_clip}
