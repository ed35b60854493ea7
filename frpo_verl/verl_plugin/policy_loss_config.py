"""`frpo_verl.PolicyLossConfig`: verl's policy-loss settings with a field for each section of the table of methods.

Hydra builds it in the driver (verl's `validate_config`) and in every worker through `policy_loss._target_`, which the
plugin puts there in the driver. Unknown keys are refused with the nearest known one.
"""

from __future__ import annotations

from dataclasses import field, make_dataclass
from typing import Any

from verl.workers.config import PolicyLossConfig as VerlPolicyLossConfig

from .. import methods
from ..methods.settings import POLICY_LOSS, Section
from .run import plain

TARGET = "frpo_verl.PolicyLossConfig"


def section_of(policy_loss: Any, method: methods.Method) -> Section | None:
    """The settings of a loss from a run's policy-loss configuration (ours, verl's or a mapping)."""
    if method.section is None:
        return None
    values = policy_loss.get(method.section.KEY.rsplit(".", 1)[1], None) if policy_loss is not None else None
    return method.parse(plain(values))


def _post_init(self: Any) -> None:
    parent = getattr(VerlPolicyLossConfig, "__post_init__", None)
    if parent is not None:
        parent(self)
    method = methods.find("policy_loss", self.loss_mode)
    if method is not None:
        section_of(self, method)  # refused here already, in the driver


def _sections() -> list[str]:
    keys = [m.section.KEY for m in methods.of_kind("policy_loss").values() if m.section is not None]
    return list(dict.fromkeys(key.rsplit(".", 1)[1] for key in keys if key.startswith(POLICY_LOSS)))


def _make() -> type:
    sections = _sections()
    made = make_dataclass(
        "PolicyLossConfig",
        [(name, Any, field(default_factory=dict)) for name in sections],
        bases=(VerlPolicyLossConfig,),
        namespace={"__post_init__": _post_init, "__doc__": f"verl's settings plus {', '.join(sections)}."},
    )
    made.__module__ = __name__
    return made


PolicyLossConfig: Any = _make()


def _follow(_row: methods.Method) -> None:
    """A row that is added later brings its section along."""
    global PolicyLossConfig
    if set(_sections()) - set(PolicyLossConfig.__dataclass_fields__):
        PolicyLossConfig = _make()


methods.on_add(_follow)
