"""The plugin's names in verl's registries, or functions that say why they are not there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

from .. import methods


def _register(kind: str, put: Callable, function: Callable) -> None:
    """Put every row of one kind into verl's registry by verl's decorator `put`, now and whenever one is added.

    verl calls `function`, which is given the row as `method`.
    """

    def register(method: methods.Method) -> None:
        if method.kind == kind:
            put(method.name)(functools.partial(function, method=method))

    for method in methods.of_kind(kind).values():
        register(method)
    methods.on_add(register)


def register_estimators(core_algos: Any) -> None:
    from .estimators import estimate

    _register("estimator", core_algos.register_adv_est, estimate)


def register_policy_losses(core_algos: Any) -> None:
    from .losses import policy_loss

    _register("policy_loss", core_algos.register_policy_loss, policy_loss)


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
