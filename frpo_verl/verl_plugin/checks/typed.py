"""Names and sections as they were typed: misspelt, in another place, or beside a method that does not read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from ... import methods
from ...methods import KINDS, names
from ...methods.settings import POLICY_LOSS
from ..root_keys import ROOT_KEYS
from ..run import Run, plain, section_keys

VERL_KL_TERMS = ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3")


def refusals(run: Run) -> Iterator[str]:
    """What would be accepted and ignored, or is known to nobody."""
    yield from _names(run)
    yield from _spelling(run)
    yield from _sections(run)


def _names(run: Run) -> Iterator[str]:
    """A misspelt name passes verl's own validation and dies after the first rollout."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    for kind, value, registry in (
        ("estimator", run.estimator_name, ADV_ESTIMATOR_REGISTRY),
        ("policy_loss", run.loss_name, POLICY_LOSS_REGISTRY),
    ):
        if value not in registry:
            hint = names.nearest(value, registry)
            yield f"{KINDS[kind]}={value!r}: not registered{hint}; known: {', '.join(sorted(registry))}"
    known = (*VERL_KL_TERMS, *methods.of_kind("local_kl"), "alpha:ORDER")
    for key, value in run.local_kl_keys.items():
        if value.removesuffix("+") not in VERL_KL_TERMS and key not in run.local_kls:
            yield f"{key}={value!r}: not a KL term{names.nearest(value, known)}; known: {', '.join(known)}"
    in_the_reward = run.local_kls.get("algorithm.kl_penalty")
    if in_the_reward is not None and "old" in in_the_reward.needs:
        yield (
            f"algorithm.kl_penalty={in_the_reward.name}: importance weights exist in the loss only; use actor.kl_loss_type"
        )


def _spelling(run: Run) -> Iterator[str]:
    """A key of ours that is misspelt, or a section of ours in another place, would be accepted and ignored.

    Only the root, `algorithm` and `policy_loss` are looked at, and of their keys those that no class of verl's has and no
    registered method is called. One is taken for a key of ours if it differs by a letter in four at most, by two in all (a
    section in another place: by none), and if what it holds would do there. Any other key is somebody else's.
    """
    from verl.trainer.config.algorithm import AlgoConfig
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
    from verl.workers.config import PolicyLossConfig as VerlPolicyLoss

    ours = [("", key) for key in ROOT_KEYS] + [tuple(key.rsplit(".", 1)) for key in section_keys()]
    verls = {"": (), "algorithm": dataclasses.fields(AlgoConfig), POLICY_LOSS: dataclasses.fields(VerlPolicyLoss)}
    for place, fields in verls.items():
        section = run.config if place == "" else OmegaConf.select(run.config, place, default=None)
        known = {f.name for f in fields} | set(ADV_ESTIMATOR_REGISTRY) | set(POLICY_LOSS_REGISTRY)
        for typed in map(str, section or ()):
            if (place, typed) in ours or typed in known or typed.startswith("_"):
                continue
            for where, key in ours:
                allowed = min(2, len(key) // 4) if where == place else 0 if where else -1
                if names.edits(typed, key) <= allowed and _would_do(where, key, plain(section.get(typed))):
                    name, meant = (f"{w}.{k}".lstrip(".") for w, k in ((place, typed), (where, key)))
                    yield f"{name}: nobody reads it (did you mean {meant!r}?); correct it or remove it"


def _would_do(place: str, key: str, value: Any) -> bool:
    """Whether a value could stand under a key of ours."""
    if place:
        sections = {m.section for m in methods.METHODS.values() if m.section and m.section.KEY == f"{place}.{key}"}
        return isinstance(value, dict) and any(f.name in value for s in sections for f in dataclasses.fields(s))
    row = ROOT_KEYS[key]
    if row.allowed is not None:
        return value in row.allowed
    return isinstance(value, bool if isinstance(row.default, bool) else str)


def _sections(run: Run) -> Iterator[str]:
    """A section of ours that the chosen estimator and loss do not read would be accepted and ignored."""
    read = {method.section.KEY for method, _ in run.chosen if method.section is not None}
    for method in methods.METHODS.values():
        if method.section is None or (key := method.section.KEY) in read or run.section(key) in (None, {}):
            continue
        yield (
            f"{key} is set and nobody reads it: adv_estimator={run.estimator_name}, loss_mode={run.loss_name}; "
            f"set {method.typed} or remove {key}"
        )
