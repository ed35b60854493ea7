"""Settings that are refused before anything starts, each with one line that names the cure."""

from __future__ import annotations

import os
from collections.abc import Iterable

from omegaconf import OmegaConf

from .. import names
from ..config import ConfigError, FHalConfig, FrpoConfig, from_mapping
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


ACTOR = "actor_rollout_ref.actor"


def _loss_mode(config) -> str:
    return str(_select(config, f"{ACTOR}.policy_loss.loss_mode", "vanilla"))


def _loss_section(config):
    """The typed section that the run's loss reads, None for verl's own losses."""
    from .loss_config import parse_section

    name = names.section_of_loss(_loss_mode(config))
    return None if name is None else parse_section(name, _select(config, f"{ACTOR}.policy_loss.{name}"))


loss_section_of = _loss_section  # for the estimators, which share beta and weights with the loss


def softmax_weights_wanted(config) -> bool:
    """Whether the run's f-GRPO loss asks for softmax weights, which only the driver can compute."""
    return config is not None and _loss_mode(config) == "f_grpo" and _loss_section(config).weights == "softmax"


def _local_kl_names(config) -> dict[str, str]:
    """The KL terms of verl's that carry a name of ours and are switched on: key -> name."""
    used = {}
    for key, on in (
        (f"{ACTOR}.kl_loss_type", _select(config, f"{ACTOR}.use_kl_loss", False)),
        ("algorithm.kl_penalty", _select(config, "algorithm.use_kl_in_reward", False)),
    ):
        name = str(_select(config, key, ""))
        if on and names.local_kl_name(name) is not None:
            used[key] = name
    return used


def uses_ours(config) -> bool:
    """Whether the run uses a name of ours."""
    return (
        _estimator(config) in names.ESTIMATORS
        or _loss_mode(config) in names.POLICY_LOSSES
        or bool(_local_kl_names(config))
    )


def needs_reference(config) -> bool:
    """Whether the run needs a reference model beyond what verl itself asks for."""
    settings, loss = frpo_settings(config), _loss_section(config)
    return (
        (settings is not None and settings.kl_coef > 0)
        or _loss_mode(config) == "f_grpo"
        or getattr(loss, "reference", None) == "ref"
        or (_loss_mode(config) == "frpo" and loss.kl_coef > 0)
    )


def refuse_if_troubled() -> None:
    """Raise with the first reason why the plugin cannot be relied upon in this process."""
    troubles = hooks.troubles()
    if troubles:
        raise RuntimeError(f"frpo_verl: {troubles[0]}. Run `python -m frpo_verl doctor`.")


def check_config(config) -> None:
    """Stop a run of ours that would fail later or silently do something else (raises ConfigError)."""
    _refuse_near_misses(config)
    settings = frpo_settings(config)
    _refuse_unread(config, settings)
    if not (uses_ours(config) or hooks.cpu_mode()):
        return
    refuse_if_troubled()
    if settings is not None:
        _check_frpo(config, settings)
    _check_losses(config, settings)
    _check_files(config)
    if hooks.cpu_mode():
        _check_cpu(config)


def _refuse_near_misses(config) -> None:
    """A misspelt name of ours passes verl's own validation and dies after the first rollout: stop it here."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    for key, value, registry, ours in (
        ("algorithm.adv_estimator", _estimator(config), ADV_ESTIMATOR_REGISTRY, names.ESTIMATORS),
        (f"{ACTOR}.policy_loss.loss_mode", _loss_mode(config), POLICY_LOSS_REGISTRY, names.POLICY_LOSSES),
    ):
        hint = "" if value in registry else names.nearest(value, ours)
        if hint:
            raise ConfigError(f"{key}={value!r}: not registered{hint}; known: {', '.join(sorted(registry))}")
    for key, on in (
        (f"{ACTOR}.kl_loss_type", _select(config, f"{ACTOR}.use_kl_loss", False)),
        ("algorithm.kl_penalty", _select(config, "algorithm.use_kl_in_reward", False)),
    ):
        value = str(_select(config, key, "kl"))
        known = ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3", "full")
        if on and value.removesuffix("+") not in known and names.local_kl_name(value) is None:
            both = (*known, *names.LOCAL_KL, "alpha:ORDER")
            raise ConfigError(f"{key}={value!r}: not a KL term{names.nearest(value, both)}; known: {', '.join(both)}")


def _refuse_unread(config, settings: FrpoConfig | None) -> None:
    """A section of ours that the chosen estimator and loss do not read would be accepted and ignored."""
    for key, read, estimator in (
        ("algorithm.frpo", settings is not None, "frpo"),
        ("algorithm.f_hal", _estimator(config) == "f_hal", "f_hal"),
    ):
        if not read and _select(config, key) is not None:
            raise ConfigError(
                f"{key} is set and nobody reads it: adv_estimator={_estimator(config)}; "
                f"set algorithm.adv_estimator={estimator} or remove {key}"
            )
    mode = _loss_mode(config)
    for name in ("rpg", "clip", "f_grpo", "frpo"):
        if name != names.section_of_loss(mode) and _select(config, f"{ACTOR}.policy_loss.{name}") not in (None, {}):
            raise ConfigError(
                f"{ACTOR}.policy_loss.{name} is set and nobody reads it: loss_mode={mode}; remove the section or set a "
                "loss_mode that reads it"
            )


def _check_losses(config, settings: FrpoConfig | None) -> None:
    mode, loss = _loss_mode(config), _loss_section(config)
    mine = names.section_of_loss(mode)
    if mode == "atr_grpo" and loss.measure != "kl3":
        raise ConfigError(
            f"{ACTOR}.policy_loss.clip.measure={loss.measure!r}: loss_mode=atr_grpo is the kl3 measure; remove the key "
            "or set loss_mode=divergence_clip"
        )
    if mode == "frpo" and settings is not None and settings.kl_coef > 0:
        raise ConfigError(
            f"loss_mode=frpo beside adv_estimator={_estimator(config)} with algorithm.frpo.kl_coef={settings.kl_coef} "
            "counts the KL twice: set algorithm.adv_estimator=grpo (or kl_coef=0)"
        )
    if mode == "frpo" or mine in ("rpg", "f_grpo"):
        if _select(config, "algorithm.rollout_correction.bypass_mode", False):
            raise ConfigError(
                f"algorithm.rollout_correction.bypass_mode=true replaces loss_mode={mode} by a loss of verl's own and "
                "takes the engine's log-probs for pi_old; set it to false"
            )
    if _estimator(config) == "f_hal":
        _check_f_hal(config, mode)
    if "k3_is" in _local_kl_names(config).values() and _select(config, "algorithm.kl_penalty") == "k3_is":
        raise ConfigError(
            "algorithm.kl_penalty=k3_is: importance weights exist in the loss only; use actor.kl_loss_type"
        )


def _check_f_hal(config, mode: str) -> None:
    section = _select(config, "algorithm.f_hal")
    from_mapping(FHalConfig, OmegaConf.to_container(section) if section is not None else None, "algorithm.f_hal")
    if mode != "f_grpo":
        raise ConfigError(
            f"{ACTOR}.policy_loss.loss_mode={mode}: adv_estimator=f_hal makes weights for f_grpo only; set loss_mode=f_grpo"
        )
    if not _select(config, "trainer.use_v1", True):
        raise ConfigError("trainer.use_v1=false: adv_estimator=f_hal runs in verl's V1 trainer only; set it to true")
    n = int(_select(config, "actor_rollout_ref.rollout.n", 1))
    if n < 2:
        raise ConfigError(f"actor_rollout_ref.rollout.n={n}: a recorded pair takes two answers; set it to 2 or more")
    if _select(config, "algorithm.filter_groups.enable", False):
        raise ConfigError(
            "algorithm.filter_groups.enable=true drops groups of one constant reward, and with adv_estimator=f_hal that is "
            "every recorded pair: set it to false"
        )
    if _select(config, "algorithm.rollout_correction.rollout_is") is not None:
        raise ConfigError(
            "algorithm.rollout_correction.rollout_is: recorded answers have no log-probs of a rollout engine; set it to null"
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
                raise ConfigError(
                    f"{key}={path}: no such file; write it with a script in data_preprocess/ or correct it"
                )
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
