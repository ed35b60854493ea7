"""A row of the table of methods, and what a row may say that it needs."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import ranges
from .section import Section
from .settings import ACTOR, POLICY_LOSS

KINDS = {
    "estimator": "algorithm.adv_estimator",
    "policy_loss": f"{POLICY_LOSS}.loss_mode",
    "local_kl": f"{ACTOR}.kl_loss_type",
}


@dataclass(frozen=True)
class Refusal:
    """A key of verl's that a need cannot live with: any value but those in `allowed` stops the run."""

    key: str
    allowed: tuple[Any, ...]
    why: str


@dataclass(frozen=True)
class Need:
    """What a method needs, in words, and the values of verl's keys under which it would not have it."""

    text: str
    refuses: tuple[Refusal, ...] = ()


_CORRECTION, _DISTILLATION = "algorithm.rollout_correction", "distillation.distillation_loss"
_NO_LOG_PROBS = "by log-probs of the rollout engine, which recorded answers do not have"
# fmt: off
NEEDS = {
    "reference": Need("log-probs of a reference model, which the plugin has verl load"),
    "old": Need(
        "the trainer's own log-probs of the rollout's policy, and the loss that was typed: no bypass mode",
        (Refusal(f"{_CORRECTION}.bypass_mode", (False, None), "takes the log-probs of the inference engine for those of "
                 "the policy, and replaces the loss by one of verl's"),),
    ),
    "groups": Need("several answers to a prompt, all of them in one batch"),
    "centred": Need("rewards less a mean: several answers to a prompt wherever the estimator compares them"),
    "one_row": Need("answers of one row: a session of several stops the run, a worker sees one of them"),
    "one_value": Need("one advantage for each response, the same on all its tokens"),
    "teacher": Need(
        "log-probs of verl's distillation teachers, of the answers' own tokens, and no distillation loss of verl's",
        (Refusal("distillation.enabled", (True,), "starts no teacher"),
         Refusal(f"{_DISTILLATION}.use_task_rewards", (True, None), "leaves the policy loss out"),
         Refusal(f"{_DISTILLATION}.distillation_loss_coef", (0, 0.0), "adds verl's own distillation loss"),
         Refusal(f"{_DISTILLATION}.loss_mode", ("k3", "k1", "kl", "k2", "low_var_kl", "abs", "mse"), "asks for the top tokens"),
         Refusal("actor_rollout_ref.rollout.temperature", (1.0, 1, None), "is not the teacher's, which verl runs at 1")),
    ),
    "v1": Need("verl's V1 trainer"),
    "recorded": Need(
        "recorded answers in the batch: their reward is constant, the rollout engine has no log-probs of them",
        (Refusal("algorithm.filter_groups.enable", (False, None), "drops every recorded pair: its reward is constant"),
         Refusal(f"{_CORRECTION}.rollout_is", (None,), f"weights {_NO_LOG_PROBS}"),
         Refusal(f"{_CORRECTION}.rollout_rs", (None,), f"rejects {_NO_LOG_PROBS}")),
    ),
}
# fmt: on


@dataclass(frozen=True)
class Method:
    """One row.

    Attributes:
        name: what is typed.
        kind: estimator | policy_loss | local_kl (KINDS has the key under which it is typed).
        function: `module:function` of what it computes.
            policy_loss: function(inputs: LossInputs, **settings) -> LossTerms, or with `then` -> (advantages, metrics).
            estimator: the core's function; the plugin's adapter of the same family calls it.
        adapter: `module:function` for an estimator: (batch, rewards, mask, settings) -> (B, T) advantages.
        section: the class of its settings, None if it has none.
        fixes: settings that the name decides.
        needs: what it always needs (NEEDS); its settings may add to that. A run that does not have it is stopped.
        obeys: verl's keys, below the actor (policy losses) or below `algorithm` (estimators), that it reads. Any other
            key that verl has for this purpose must keep its default.
        from_verl: keyword of the function -> verl's key whose value it is given (these are obeyed too).
        limits: verl's key, below the actor -> the range its value must lie in.
        then: a loss of verl's that goes on with the advantages that `function` returns.
        with_loss: the loss that an estimator makes advantages for, None if any.
        page: its page in docs/. recipe: what to type for it beside a recipe. test: `file::function` that proves it exact.
    """

    name: str
    kind: str
    function: str
    page: str = ""
    recipe: tuple[str, ...] = ()
    test: str = ""
    adapter: str = ""
    section: type[Section] | None = None
    fixes: Mapping[str, Any] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    obeys: frozenset[str] = frozenset()
    from_verl: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, ranges.Range] = field(default_factory=dict)
    then: str | None = None
    with_loss: str | None = None

    @property
    def typed(self) -> str:
        """`key=name`, for messages."""
        return f"{KINDS[self.kind].rsplit('.', 1)[1]}={self.name}"

    def parse(self, values: Mapping | None) -> Section | None:
        """Its settings from what stands in its section."""
        if self.section is None:
            return None
        fields = self.section.__dataclass_fields__
        return self.section.parse(values, **{key: v for key, v in self.fixes.items() if key in fields})

    def all_needs(self, settings: Section | None) -> frozenset[str]:
        """What it needs with these settings."""
        return self.needs | (settings.needs if settings is not None else frozenset())

    def keywords(self, settings: Section | None, step: int | None = None) -> dict[str, Any]:
        """Keyword arguments of its function: the settings (at a training step) and what its name decides."""
        return {**(settings.keywords(step) if settings is not None else {}), **self.fixes}

    def load(self) -> Callable:
        """Its function."""
        return _import(self.function)

    def load_adapter(self) -> Callable:
        """Its adapter."""
        return _import(self.adapter)


@functools.cache
def _import(path: str) -> Callable:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
