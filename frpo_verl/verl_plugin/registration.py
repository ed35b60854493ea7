"""The table's estimators and losses under their names in verl's registries, or functions that say why they are not there."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

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


def register_stubs(core_algos, reason: str) -> None:
    """Put a refusing function under each of our names that is still free."""

    def refuse(*args, **kwargs):
        raise RuntimeError(f"frpo_verl did not load: {reason}. Run `python -m frpo_verl doctor`.")

    for name in methods.of_kind("estimator"):
        core_algos.ADV_ESTIMATOR_REGISTRY.setdefault(name, refuse)
    for name in methods.of_kind("policy_loss"):
        core_algos.POLICY_LOSS_REGISTRY.setdefault(name, refuse)
