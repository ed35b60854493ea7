"""What stands under our names when the plugin could not be loaded: functions that say so."""

from __future__ import annotations

from .. import methods


def register_stubs(core_algos, reason: str) -> None:
    """Put a refusing function under each of our names that is still free."""

    def refuse(*args, **kwargs):
        raise RuntimeError(f"frpo_verl did not load: {reason}. Run `python -m frpo_verl doctor`.")

    for name in methods.of_kind("estimator"):
        core_algos.ADV_ESTIMATOR_REGISTRY.setdefault(name, refuse)
    for name in methods.of_kind("policy_loss"):
        core_algos.POLICY_LOSS_REGISTRY.setdefault(name, refuse)
