"""frpo_verl: KL- and divergence-regularised policy optimisation as a plugin for verl.

Importing the package makes the plugin ready: it leaves hooks that act when verl's own modules are imported, and imports
neither verl nor torch itself.
"""

from ._version import __version__
from .verl_plugin import register

__all__ = ["__version__", "register"]


def __getattr__(name: str):
    if name == "PolicyLossConfig":  # a subclass of verl's: Hydra's `_target_: frpo_verl.PolicyLossConfig`
        from .verl_plugin.policy_loss_config import PolicyLossConfig

        return PolicyLossConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register()
