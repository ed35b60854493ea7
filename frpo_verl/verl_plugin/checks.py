"""Settings that are refused before anything starts, each with one line that names the cure."""

from __future__ import annotations

import os
from collections.abc import Iterable

from omegaconf import OmegaConf

from .. import names
from ..config import ConfigError, FrpoConfig
from . import hooks


def _select(config, key: str, default=None):
    value = OmegaConf.select(config, key, default=default)
    return default if value is None else value


def _estimator(config) -> str:
    value = _select(config, "algorithm.adv_estimator", "gae")
    return str(getattr(value, "value", value))


def frpo_settings(config) -> FrpoConfig | None:
    """The parsed `algorithm.frpo` of a run whose estimator is one of ours, else None."""
    estimator = _estimator(config)
    if estimator not in names.FRPO_ESTIMATORS:
        return None
    section = _select(config, "algorithm.frpo")
    return FrpoConfig.parse(OmegaConf.to_container(section, resolve=True) if section is not None else None, estimator)


def uses_ours(config) -> bool:
    """Whether the run uses a name of ours."""
    return _estimator(config) in names.ESTIMATORS


def needs_reference(config) -> bool:
    """Whether the run needs a reference model beyond what verl itself asks for."""
    settings = frpo_settings(config)
    return settings is not None and settings.kl_coef > 0


def refuse_if_troubled() -> None:
    """Raise with the first reason why the plugin cannot be relied upon in this process."""
    troubles = hooks.troubles()
    if troubles:
        raise RuntimeError(f"frpo_verl: {troubles[0]}. Run `python -m frpo_verl doctor`.")


def check_config(config) -> None:
    """Stop a run of ours that would fail later or silently do something else (raises ConfigError)."""
    _refuse_near_misses(config)
    if not (uses_ours(config) or hooks.cpu_mode()):
        return
    refuse_if_troubled()
    settings = frpo_settings(config)
    if settings is not None:
        _check_frpo(config, settings)
    elif _select(config, "algorithm.frpo") is not None:
        raise ConfigError(
            f"algorithm.frpo is set and nobody reads it: adv_estimator={_estimator(config)}; "
            "set algorithm.adv_estimator=frpo or remove algorithm.frpo"
        )
    _check_files(config)
    if hooks.cpu_mode():
        _check_cpu(config)


def _refuse_near_misses(config) -> None:
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    estimator = _estimator(config)
    if estimator not in ADV_ESTIMATOR_REGISTRY:
        hint = names.nearest(estimator, names.ESTIMATORS)
        if hint:
            raise ConfigError(
                f"algorithm.adv_estimator={estimator!r}: not registered{hint}; known: "
                f"{', '.join(sorted(ADV_ESTIMATOR_REGISTRY))}"
            )


def _check_frpo(config, settings: FrpoConfig) -> None:
    estimator = _estimator(config)
    n = int(_select(config, "actor_rollout_ref.rollout.n", 1))
    if n < 2:
        raise ConfigError(
            f"actor_rollout_ref.rollout.n={n}: adv_estimator={estimator} compares a prompt's answers; set it to 2 or more"
        )
    if settings.kl_coef == 0:
        return
    if not settings.allow_multiple_kl:
        if _select(config, "algorithm.use_kl_in_reward", False):
            raise ConfigError(
                f"algorithm.use_kl_in_reward=true beside algorithm.frpo.kl_coef={settings.kl_coef} counts the KL twice: "
                "set one of them to false/0, or algorithm.frpo.allow_multiple_kl=true"
            )
        coefficient = float(_select(config, "actor_rollout_ref.actor.kl_loss_coef", 0.0))
        if _select(config, "actor_rollout_ref.actor.use_kl_loss", False) and coefficient != 0:
            raise ConfigError(
                f"actor_rollout_ref.actor.use_kl_loss=true with kl_loss_coef={coefficient} beside "
                f"algorithm.frpo.kl_coef={settings.kl_coef} counts the KL twice: set use_kl_loss=false, or "
                "algorithm.frpo.allow_multiple_kl=true"
            )
    if _select(config, "algorithm.rollout_correction.bypass_mode", False):
        raise ConfigError(
            "algorithm.rollout_correction.bypass_mode=true takes the log-probs of the inference engine: their numeric "
            f"mismatch would be summed over the rest of every answer by adv_estimator={estimator}; set it to false"
        )


def _check_files(config) -> None:
    for key in ("data.train_files", "data.val_files"):
        value = _select(config, key)
        for path in [value] if isinstance(value, str) else list(value or []):
            if "://" not in str(path) and not os.path.exists(os.path.expanduser(str(path))):
                raise ConfigError(f"{key}={path}: no such file; write it with a script in data_preprocess/ or correct it")
    model = str(_select(config, "actor_rollout_ref.model.path", ""))
    local = model.startswith(("/", "./", "../", "~")) or model.count("/") > 1
    if local and "://" not in model and not os.path.isdir(os.path.expanduser(model)):
        raise ConfigError(f"actor_rollout_ref.model.path={model}: no such folder; correct it or give a model hub name")


def _check_cpu(config) -> None:
    wanted: Iterable[tuple[str, object, str]] = (
        ("actor_rollout_ref.actor.strategy", "fsdp2", "FSDP1 and Megatron need an accelerator"),
        ("actor_rollout_ref.rollout.name", "hf", "the other rollout engines need an accelerator"),
    )
    for key, value, why in wanted:
        given = _select(config, key)
        if given != value and not (key.endswith("rollout.name") and given == "vllm"):
            raise ConfigError(f"{key}={given} with VERL_PLATFORM=cpu: {why}; set {key}={value}")
