"""What was run: the settings worth a line each, and those in which several runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .configuration import Configuration, comparable
from .subjects import Subject

DIFFERENCES = 60  # that are shown at most

#: label -> keys of verl's configuration, all shown that are there
KEYS = {
    "Model": ("actor_rollout_ref.model.path",),
    "Reference": ("actor_rollout_ref.ref.model.path",),
    "Training data": ("data.train_files",),
    "Held-out data": ("data.val_files",),
    "Reward": ("reward.custom_reward_function.path", "reward.custom_reward_function.name"),
    "Prompts a step": ("data.train_batch_size",),
    "Answers a prompt": ("actor_rollout_ref.rollout.n",),
    "Mini-batch": ("actor_rollout_ref.actor.ppo_mini_batch_size",),
    "Learning rate": ("actor_rollout_ref.actor.optim.lr",),
    "Longest answer": ("data.max_response_length",),
    "Engine": ("actor_rollout_ref.rollout.name", "actor_rollout_ref.actor.strategy"),
    "Seed": ("data.seed", "actor_rollout_ref.actor.data_loader_seed"),
    "Devices": ("trainer.n_gpus_per_node", "trainer.nnodes"),
}
NOT_RECORDED = "not recorded"


@dataclass
class Facts:
    """``rows`` hold for all subjects; ``differences``: (setting, a cell a subject), a cell being (text, whether it is
    unlike the first subject's)."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    differences: list[tuple[str, list[tuple[str, bool]]]] = field(default_factory=list)
    left_out: int = 0
    commands: list[tuple[str, str]] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)


def text(value: Any) -> str:
    """A setting as it is typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text, value))
    return str(value)


def method(config: Configuration) -> str:
    """The method's recipe, estimator and policy loss, with the settings that belong to them."""
    loss = config.get("actor_rollout_ref.actor.policy_loss.loss_mode")
    parts = [text(config.get("algorithm.adv_estimator"))]
    if config.choices.get("method") not in (None, parts[0]):
        parts.insert(0, config.choices["method"] + ":")
    if loss not in (None, "vanilla"):
        parts.append(f"with loss {loss}")
    estimator = str(config.get("algorithm.adv_estimator") or "").split("_")[0]
    sections = ["algorithm.f_hal."] if estimator == "f" else ["algorithm.frpo."] if estimator == "frpo" else []
    if loss not in (None, "vanilla"):
        name = (
            "rpg" if str(loss).startswith("rpg") else "clip" if loss in ("atr_grpo", "divergence_clip") else str(loss)
        )
        sections.append(f"actor_rollout_ref.actor.policy_loss.{name}.")
    chosen = [
        f"{key[len(section) :]}={text(value)}"
        for section in sections
        for key, value in config.values.items()
        if key.startswith(section) and not isinstance(value, dict)
    ]
    if config.get("actor_rollout_ref.actor.use_kl_loss"):
        coefficient, kind = (config.get(f"actor_rollout_ref.actor.kl_loss_{name}") for name in ("coef", "type"))
        chosen.append(f"KL loss {text(coefficient)} ({text(kind)})")
    if config.get("algorithm.use_kl_in_reward"):
        chosen.append(f"KL in the reward {text(config.get('algorithm.kl_ctrl.kl_coef'))}")
    return " ".join(parts) + (f" ({', '.join(chosen)})" if chosen else "")


def _of_run(run) -> dict[str, str]:
    config, environment = run.config, run.environment or {}
    rows: dict[str, str] = {}
    if config is not None:
        rows["Method"] = method(config)
        rows["Recipe"] = config.choices.get("recipe") or "none: verl's own configuration and overrides"
        for label, keys in KEYS.items():
            values = [text(config.values[key]) for key in keys if config.values.get(key) is not None]
            if values:
                rows[label] = ", ".join(dict.fromkeys(values)) if label != "Devices" else " × ".join(values)
        planned = config.get("trainer.total_training_steps")
        rows["Steps"] = f"{run.last_step} of {planned}" if planned else str(run.last_step)
    else:
        rows["Steps"] = str(run.last_step)
    rows["Commit"] = str(environment.get("commit") or NOT_RECORDED)
    versions = environment.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    rows["Versions"] = ", ".join(f"{name} {version}" for name, version in versions.items()) or NOT_RECORDED
    if environment.get("device"):
        rows["Device"] = (
            f"{environment['device']}, {environment.get('system', '')}, Python {environment.get('python', '')}"
        )
    return rows


def _of_subject(subject: Subject) -> dict[str, str]:
    tables = [_of_run(run) for run in subject.runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: "; ".join(dict.fromkeys(table.get(key, NOT_RECORDED) for table in tables)) for key in keys}


def gather(subjects: Sequence[Subject]) -> Facts:
    """What was run: all of it for one subject; what is common, and what differs, for several."""
    facts = Facts()
    tables = [_of_subject(subject) for subject in subjects]
    labels = dict.fromkeys(label for table in tables for label in table)
    for label in labels:
        cells = [table.get(label, NOT_RECORDED) for table in tables]
        if len(set(cells)) == 1:
            facts.rows.append((label, cells[0]))
        else:
            facts.differences.append((label, [(cell, cell != cells[0]) for cell in cells]))
    runs = [run for subject in subjects for run in subject.runs]
    for run in runs:
        if run.config is not None and run.config.overrides:
            facts.commands.append((run.name, " ".join(run.config.overrides)))
    if len(runs) == 1 and runs[0].config is not None:
        facts.settings = [
            (key, text(value))
            for key, value in runs[0].config.values.items()
            if value is not None and not key.endswith("_target_")
        ]
    if len(subjects) > 1 and all(run.config is not None for run in runs):
        _add_settings(facts, subjects)
    return facts


def _add_settings(facts: Facts, subjects: Sequence[Subject]) -> None:
    """The other settings that differ, by their dotted names."""
    told = {key for keys in KEYS.values() for key in keys}
    tables = []
    for subject in subjects:
        merged: dict[str, dict[str, None]] = {}
        for run in subject.runs:
            for key, value in comparable(run.config).items():
                merged.setdefault(key, {})[text(value)] = None
        tables.append({key: "; ".join(values) for key, values in merged.items()})
    for key in dict.fromkeys(key for table in tables for key in table):
        cells = [table.get(key, "–") for table in tables]
        if key in told or len(set(cells)) == 1:
            continue
        if len(facts.differences) >= DIFFERENCES:
            facts.left_out += 1
        else:
            facts.differences.append((key, [(cell, cell != cells[0]) for cell in cells]))
