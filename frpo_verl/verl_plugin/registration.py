"""The plugin's names in verl's registries, or functions that say why they are not there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from .. import methods


def register_methods(kind: str, registry: Mapping, put: Callable, function: Callable) -> None:
    """Put every row of one kind into verl's registry, now and whenever one is added (again is harmless).

    Args:
        kind: of the table: `estimator` or `policy_loss`.
        registry: verl's, by name.
        put: verl's decorator for a name.
        function: what verl calls; it is given the row as `method`.
    """

    def register(_row: methods.Method | None = None) -> None:
        for method in methods.of_kind(kind).values():
            if not getattr(registry.get(method.name), "frpo_verl", False):
                bound = functools.partial(function, method=method)
                bound.frpo_verl = True  # type: ignore[attr-defined]
                put(method.name)(bound)

    register()
    methods.on_add(register)


def register_estimators(core_algos: Any) -> None:
    from .estimators import estimate

    register_methods("estimator", core_algos.ADV_ESTIMATOR_REGISTRY, core_algos.register_adv_est, estimate)


def register_policy_losses(core_algos: Any) -> None:
    from .losses import policy_loss

    register_methods("policy_loss", core_algos.POLICY_LOSS_REGISTRY, core_algos.register_policy_loss, policy_loss)


def register_stubs(core_algos: Any, reason: str) -> None:
    """Put a refusing function under each of our names that is still free."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(f"frpo_verl did not load: {reason}. Run `python -m frpo_verl doctor`.")

    for name in methods.of_kind("estimator"):
        core_algos.ADV_ESTIMATOR_REGISTRY.setdefault(name, refuse)
    for name in methods.of_kind("policy_loss"):
        core_algos.POLICY_LOSS_REGISTRY.setdefault(name, refuse)


def register_agent_loops(agent_loop: Any) -> None:
    target = "frpo_verl.verl_plugin.agent_loops.RecordedResponse"
    agent_loop._agent_loop_registry["recorded_response"] = {"_target_": target}


def register_rollout_adapter(base: Any) -> None:
    base._ROLLOUT_REGISTRY[("hf", "async")] = "frpo_verl.verl_plugin.rollout_hf.rollout.HFAdapter"


def register_rollout_replica(replica: Any) -> None:
    def load() -> type:
        from .rollout_hf.rollout import HFReplica

        return HFReplica

    replica.RolloutReplicaRegistry.register("hf", load)
