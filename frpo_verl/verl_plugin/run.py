"""A run's configuration seen through the table of methods: whose run it is, and what it needs.

A run is *ours* if it uses a name of ours or was composed from one of our recipes; every other run is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .. import methods
from ..methods import Method
from ..methods.settings import ACTOR, POLICY_LOSS, FGrpoSettings, FrpoSettings, Section

EXPERIMENTAL = ("one_step_off", "fully_async")  # verl.experimental's trainers


def plain(values: Any) -> Any:
    """A section as plain Python values."""
    return OmegaConf.to_container(values, resolve=True) if OmegaConf.is_config(values) else values


@dataclass(frozen=True)
class Run:
    """A view of a run's configuration, complete or (in tests and foreign trainers) in part."""

    config: Any

    @classmethod
    def of_algorithm(cls, algorithm: Any) -> Run:
        """The run to which an `algorithm` section belongs: the whole configuration if it hangs in one."""
        if isinstance(algorithm, DictConfig) and algorithm._get_parent() is not None:
            return cls(algorithm._get_root())
        if algorithm is not None and not OmegaConf.is_config(algorithm):
            algorithm = dict(algorithm) if isinstance(algorithm, Mapping) else None
        return cls(OmegaConf.create({"algorithm": algorithm or {}}))

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a dotted key; the default where it is absent or null."""
        value = OmegaConf.select(self.config, key, default=default)
        return default if value is None else value

    @cached_property
    def memory(self) -> dict[str, Any]:
        """What the plugin keeps of this run while the process lasts."""
        return {}

    @cached_property
    def estimator_name(self) -> str:
        value = self.get("algorithm.adv_estimator", "gae")
        return str(getattr(value, "value", value))

    @cached_property
    def loss_name(self) -> str:
        return str(self.get(f"{POLICY_LOSS}.loss_mode", "vanilla"))

    @cached_property
    def trainer(self) -> str:
        """Which of verl's trainers runs it: a `trainer_mode` of V1, or legacy, one_step_off, fully_async."""
        if self.get("async_training") is not None:
            return "fully_async"
        if self.get("rollout") is not None:  # a section at the root that verl.experimental's trainers have
            return "one_step_off"
        return str(self.get("trainer.v1.trainer_mode", "sync")) if self.get("trainer.use_v1", True) else "legacy"

    @property
    def v1(self) -> bool:
        """Whether verl's V1 trainer runs it."""
        return self.trainer not in ("legacy", *EXPERIMENTAL)

    @cached_property
    def estimator(self) -> Method | None:
        return methods.find("estimator", self.estimator_name)

    @cached_property
    def loss(self) -> Method | None:
        return methods.find("policy_loss", self.loss_name)

    @property
    def local_kl_keys(self) -> dict[str, str]:
        """verl's KL terms that are switched on: key -> typed name."""
        used = {}
        if self.get(f"{ACTOR}.use_kl_loss", False):
            used[f"{ACTOR}.kl_loss_type"] = str(self.get(f"{ACTOR}.kl_loss_type", "low_var_kl"))
        if self.get("algorithm.use_kl_in_reward", False):
            used["algorithm.kl_penalty"] = str(self.get("algorithm.kl_penalty", "kl"))
        return used

    @cached_property
    def local_kls(self) -> dict[str, Method]:
        """Those of them that are ours: key -> row."""
        found = {key: methods.find_local_kl(name) for key, name in self.local_kl_keys.items()}
        return {key: row[0] for key, row in found.items() if row is not None}

    @property
    def chosen(self) -> list[tuple[Method, Section | None]]:
        """The rows that this run uses, with their settings."""
        rows = [(self.estimator, self.estimator_settings), (self.loss, self.loss_settings)]
        if isinstance(self.estimator_settings, FrpoSettings):
            outcome = methods.find("estimator", self.estimator_settings.outcome)
            rows.insert(1, (outcome, self._settings(outcome)))
        return [(m, s) for m, s in rows if m is not None] + [(m, None) for m in self.local_kls.values()]

    def section(self, key: str) -> Any:
        """What stands in a section, as plain values; None if it is absent."""
        return plain(OmegaConf.select(self.config, key, default=None))

    def _settings(self, method: Method | None) -> Section | None:
        return method.parse(self.section(method.section.KEY)) if method and method.section else None

    @cached_property
    def estimator_settings(self) -> Section | None:
        return self._settings(self.estimator)

    @cached_property
    def loss_settings(self) -> Section | None:
        return self._settings(self.loss)

    @cached_property
    def ours(self) -> bool:
        """Whether the run uses a name of ours or was composed from a recipe of ours."""
        named = self.estimator or self.loss or self.local_kls
        marked = str(self.get(f"{POLICY_LOSS}._target_", "")).startswith("frpo_verl.")  # as workers know a run of ours
        return bool(named) or marked or self.of_recipe or any(self.section(k) for k in section_keys())

    @property
    def of_recipe(self) -> bool:
        """Whether it was composed from a recipe of ours, each of which sets this root key."""
        return self.get("composed_by") == "frpo_verl"

    @cached_property
    def needs(self) -> frozenset[str]:
        """What the run's methods need together (`methods.NEEDS`)."""
        return frozenset().union(*(method.all_needs(settings) for method, settings in self.chosen))

    @property
    def needs_reference(self) -> bool:
        """Whether a method of ours reads a reference model."""
        return "reference" in self.needs

    @property
    def has_reference(self) -> bool:
        """Whether verl loads a reference model for it."""
        return self.needs_reference or bool(self.local_kl_keys)

    @property
    def updates_per_rollout(self) -> float:
        """How often the policy is updated with the answers of one policy."""
        epochs = self.get(f"{ACTOR}.ppo_epochs", 1)
        if self.trainer == "fully_async":
            updates = self.get("async_training.trigger_parameter_sync_step", 4)
            return epochs * updates * self.get("async_training.require_batches", 1)
        return epochs * self.get("data.train_batch_size", 1024) / self.get(f"{ACTOR}.ppo_mini_batch_size", 256)

    @property
    def has_teacher(self) -> bool:
        """Whether the reference is verl's distillation teacher."""
        return "teacher" in self.needs

    @property
    def regularizes_advantage(self) -> bool:
        """Whether the estimator puts a divergence into the advantage, and reports on it."""
        settings = self.estimator_settings
        return isinstance(settings, FrpoSettings) and settings.kl_coef > 0

    @property
    def softmax_weights(self) -> bool:
        """Whether f-GRPO's softmax weights belong into the advantages."""
        settings = self.loss_settings
        return isinstance(settings, FGrpoSettings) and settings.weights == "softmax"


def section_keys() -> list[str]:
    """The key of every section that a row reads."""
    return list(dict.fromkeys(m.section.KEY for m in methods.METHODS.values() if m.section is not None))


_current: Run | None = None


def remember(config: Any) -> Run:
    """Keep the configuration of the run that this process trains (there is at most one)."""
    global _current
    _current = Run(config)
    return _current


def remember_part(actor_rollout_ref: Any) -> None:
    """The same in a worker, which is given this section of the configuration."""
    root = actor_rollout_ref._get_root() if OmegaConf.is_config(actor_rollout_ref) else None
    if root is None or "actor_rollout_ref" not in root:  # a worker group of somebody's own
        root = OmegaConf.create({"actor_rollout_ref": actor_rollout_ref}, flags={"allow_objects": True})
    remember(root)


def current() -> Run | None:
    """The run that this process trains, None before it is known."""
    return _current


def current_of_ours() -> Run | None:
    """The same for a run of ours; None for any other."""
    return _current if _current is not None and _current.ours else None


def forget() -> None:
    """No run any more."""
    global _current
    _current = None
