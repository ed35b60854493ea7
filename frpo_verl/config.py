"""The former home of the settings: configurations that name `frpo_verl.config.PolicyLossConfig` go on working."""

from __future__ import annotations

from .settings import ConfigError

__all__ = ["ConfigError"]


def __getattr__(name: str):
    if name == "PolicyLossConfig":
        from .verl_plugin.policy_loss_config import PolicyLossConfig

        return PolicyLossConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
