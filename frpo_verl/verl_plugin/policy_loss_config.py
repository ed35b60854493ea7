"""`frpo_verl.PolicyLossConfig`: verl's policy-loss settings with a field for each section of the table of methods.

Hydra builds it in the driver (verl's `validate_config`) and in every worker through `policy_loss._target_`, which the
plugin puts there in the driver. Unknown keys are refused with the nearest known one.
"""

from __future__ import annotations

import functools
from dataclasses import field, make_dataclass
from typing import Any

from verl.workers.config import PolicyLossConfig as VerlPolicyLossConfig

from .. import methods
from ..methods.settings import POLICY_LOSS, Section
from .run import plain, section_keys

TARGET = "frpo_verl.PolicyLossConfig"


def section_of(policy_loss: Any, method: methods.Method) -> Section | None:
    """The settings of a loss from a run's policy-loss configuration (ours, verl's or a mapping)."""
    if method.section is None:
        return None
    values = policy_loss.get(method.section.KEY.rsplit(".", 1)[1], None) if policy_loss is not None else None
    return method.parse(plain(values))


class OfARunOfOurs(VerlPolicyLossConfig):
    """What the settings of every run of ours are, whatever sections the table had when they were built."""

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        method = methods.find("policy_loss", self.loss_mode)
        if method is not None:
            section_of(self, method)  # refused here already, in the driver


@functools.cache
def _with(*sections: str) -> type:
    fields: list[Any] = [(name, Any, field(default_factory=dict)) for name in sections]
    doc = f"verl's settings plus {', '.join(sections)}."
    return make_dataclass(
        "PolicyLossConfig", fields, bases=(OfARunOfOurs,), namespace={"__module__": __name__, "__doc__": doc}
    )


def __getattr__(name: str) -> Any:
    if name != "PolicyLossConfig":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _with(*(key.rsplit(".", 1)[1] for key in section_keys() if key.startswith(POLICY_LOSS)))
