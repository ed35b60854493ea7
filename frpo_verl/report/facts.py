"""Tables of facts: what was run, in which settings several runs differ, and what came out of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from frpo_verl.evaluation.figures import number

from .collect import TrainingRun
from .configuration import Configuration, comparable
from .curves import Curve
from .quantities import IN_TABLE
from .subjects import Subject

DIFFERENCES = 60  # that are shown at most
LAST_STEPS = 5  # over which a training metric is averaged for "after"
NOT_RECORDED = "not recorded"

#: label -> keys of verl's configuration, all shown that are there
KEYS = {
    "Model": ("actor_rollout_ref.model.path",),
    "Training data": ("data.train_files",),
    "Held-out data": ("data.val_files",),
    "Reward": ("reward.custom_reward_function.path", "reward.custom_reward_function.name"),
    "Prompts a step": ("data.train_batch_size",),
    "Answers a prompt": ("actor_rollout_ref.rollout.n",),
    "Mini-batch": ("actor_rollout_ref.actor.ppo_mini_batch_size",),
    "Learning rate": ("actor_rollout_ref.actor.optim.lr",),
    "Longest answer": ("data.max_response_length",),
    "Engine": ("actor_rollout_ref.rollout.name", "actor_rollout_ref.actor.strategy"),
    "Seed": ("data.seed", "actor_rollout_ref.rollout.seed"),
    "Devices": ("trainer.n_gpus_per_node", "trainer.nnodes"),
}


@dataclass
class Facts:
    """``rows`` hold for all subjects; ``differences``: (setting, a cell a subject), a cell being (text, whether it is
    unlike the first subject's)."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    differences: list[tuple[str, list[tuple[str, bool]]]] = field(default_factory=list)
    left_out: int = 0
    commands: list[tuple[str, str]] = field(default_factory=list)


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
    actor = "actor_rollout_ref.actor"
    loss = config.get(f"{actor}.policy_loss.loss_mode")
    parts = [text(config.get("algorithm.adv_estimator"))]
    if config.choices.get("method") not in (None, parts[0]):
        parts.insert(0, config.choices["method"] + ":")
    kind = parts[-1].split("_")[0]
    sections = {"f": ["algorithm.f_hal."], "frpo": ["algorithm.frpo."]}.get(kind, [])
    if loss not in (None, "vanilla"):
        parts.append(f"with loss {loss}")
        section = "rpg" if str(loss).startswith("rpg") else "clip" if loss in ("atr_grpo", "divergence_clip") else loss
        sections.append(f"{actor}.policy_loss.{section}.")
    chosen = [
        f"{key[len(section) :]}={text(value)}"
        for section in sections
        for key, value in config.values.items()
        if key.startswith(section) and not isinstance(value, dict)
    ]
    if config.get(f"{actor}.use_kl_loss"):
        coefficient, kind = (text(config.get(f"{actor}.kl_loss_{name}")) for name in ("coef", "type"))
        chosen.append(f"KL loss {coefficient} ({kind})")
    if config.get("algorithm.use_kl_in_reward"):
        chosen.append(f"KL in the reward {text(config.get('algorithm.kl_ctrl.kl_coef'))}")
    return " ".join(parts) + (f" ({', '.join(chosen)})" if chosen else "")


def steps_of(run: TrainingRun) -> str:
    """The last step, of how many where that is known."""
    planned = run.config.get("trainer.total_training_steps") if run.config else None
    return f"{run.last_step} of {planned}" if planned else str(run.last_step)


def _of_run(run: TrainingRun) -> dict[str, str]:
    config, environment = run.config, run.environment or {}
    rows: dict[str, str] = {}
    if config is not None:
        rows["Method"] = method(config)
        rows["Recipe"] = config.choices.get("recipe") or "none: verl's own configuration and overrides"
        for label, keys in KEYS.items():
            values = [text(config.values[key]) for key in keys if config.values.get(key) is not None]
            if values:
                rows[label] = ", ".join(dict.fromkeys(values)) if label != "Devices" else " × ".join(values)
    rows["Steps"] = steps_of(run)
    rows["Commit"] = str(environment.get("commit") or NOT_RECORDED)
    found = environment.get("versions")
    versions = found if isinstance(found, dict) else {}
    rows["Versions"] = ", ".join(f"{name} {version}" for name, version in versions.items()) or NOT_RECORDED
    if environment.get("device"):
        system = f"{environment.get('system', '')}, Python {environment.get('python', '')}"
        rows["Device"] = f"{environment['device']}, {system}"
    return rows


def _compared(tables: Sequence[Mapping[str, str]], absent: str) -> dict[str, list[str]]:
    """key -> its cell in each table."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {key: [table.get(key, absent) for table in tables] for key in keys}


def _joined(tables: Sequence[Mapping[str, str]], absent: str) -> dict[str, str]:
    """One table of several: the different values of a key behind each other."""
    return {key: "; ".join(dict.fromkeys(cells)) for key, cells in _compared(tables, absent).items()}


def gather(subjects: Sequence[Subject]) -> Facts:
    """What was run: all of it for one subject; what is common, and what differs, for several."""
    facts = Facts()

    def differ(label: str, cells: Sequence[str]) -> None:
        facts.differences.append((label, [(cell, cell != cells[0]) for cell in cells]))

    tables = [_joined([_of_run(run) for run in subject.runs], NOT_RECORDED) for subject in subjects]
    for label, cells in _compared(tables, NOT_RECORDED).items():
        if len(set(cells)) == 1:
            facts.rows.append((label, cells[0]))
        else:
            differ(label, cells)
    configs = [[run.config for run in subject.runs if run.config is not None] for subject in subjects]
    runs = [run for subject in subjects for run in subject.runs]
    known = [run for run in runs if run.config is not None]
    typed_words = [(run.name, run.config.overrides) for run in known if run.config]
    facts.commands = [(name, " ".join(words)) for name, words in typed_words if words]
    if len(subjects) > 1 and len(known) == len(runs):
        told = {key for keys in KEYS.values() for key in keys}
        typed = [[{k: text(v) for k, v in comparable(config).items()} for config in each] for each in configs]
        for key, cells in _compared([_joined(each, "–") for each in typed], "–").items():
            if key not in told and len(set(cells)) > 1:
                differ(key, cells)
    facts.left_out = max(0, len(facts.differences) - DIFFERENCES)
    facts.differences = facts.differences[:DIFFERENCES]
    return facts


def before_after(c: Curve, last: int = 1) -> tuple[float, float | None] | None:
    """(first value, mean of the last ``last`` values after it); (value, None) for one point, None for none."""
    if not len(c):
        return None
    tail = c.values[1:][-last:]
    return c.values[0], sum(tail) / len(tail) if tail else None


def results(run: TrainingRun) -> list[dict[str, Any]]:
    """Rows {"quantity", "label", "before", "after"}, ``after`` None until there is one.

    Held-out figures come from the first and the last validation, training figures from the first step and as the mean
    of the last LAST_STEPS.
    """
    found: list[tuple[str, str, tuple[float, float | None] | None]] = []
    for source, c in run.held_out.items():
        label = "held-out reward" + (f" ({source})" if len(run.held_out) > 1 else "")
        found.append((f"held_out_reward/{source}", label, before_after(c)))
    sources = run.sources()
    for source in sources:
        ks = run.ks(source)
        suffix = f" ({run.label(source)})" if len(sources) > 1 else ""
        for k in sorted({ks[0], ks[len(ks) // 2], ks[-1]} if ks else ()):
            values = run.validation(source, f"pass@{k}")
            found.append((f"pass@{k}/{source}", f"held-out pass@{k}{suffix}", before_after(values)))
    for quantity in IN_TABLE:
        found.append((quantity.series, quantity.label, before_after(run.curve(*quantity.names), LAST_STEPS)))
    return [
        {"quantity": quantity, "label": label, "before": pair[0], "after": pair[1]}
        for quantity, label, pair in found
        if pair is not None
    ]


def as_json(run: TrainingRun) -> dict[str, Any]:
    """All that the table and the picture show, as JSON types."""
    logged = {quantity.series: run.logged(*quantity.names) for quantity in IN_TABLE}
    names = {series: name for series, name in logged.items() if name is not None}
    return {
        "name": run.name,
        "folder": str(run.folder),
        "last_step": run.last_step,
        "table": results(run),
        "metric_names": names,
        "series": {series: [list(p) for p in run.curve(name)] for series, name in names.items()},
        "held_out_reward": {name: [list(p) for p in c] for name, c in run.held_out.items()},
        "validations": {str(step): result for step, result in run.validations.items()},
        "notes": run.notes,
        "environment": run.environment,
    }


LEGEND = (
    f"held-out: first and last validation; the rest: first step and mean of the last {LAST_STEPS}; "
    "entropy and KL in nats a token, length in tokens"
)


def show(runs: Sequence[TrainingRun], lines: Sequence[str] = ()) -> None:
    """The table of the command on the terminal: a row a quantity, before, after and change for one run, `before → after` for several; then the notes and the lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    one = len(runs) == 1
    rows: dict[str, dict[int, tuple[float, float | None]]] = {}
    for i, run in enumerate(runs):
        for row in results(run):
            rows.setdefault(row["label"], {})[i] = (row["before"], row["after"])
    grid = Table()
    grid.add_column("")
    for column in ("before", "after", "change") if one else [run.name for run in runs]:
        grid.add_column(Text(column), justify="right", no_wrap=one)
    for label, by_run in rows.items():
        if one:
            before, after = by_run[0]
            change = None if after is None else after - before
            sign = "+" if change is not None and change >= 0 else ""
            cells = [number(before), number(after), sign + number(change)]
        else:
            pairs = [by_run.get(i) for i in range(len(runs))]
            cells = [f"{number(pair[0])} → {number(pair[1])}" if pair else "–" for pair in pairs]
        grid.add_row(Text(label), *cells)
    steps = ", ".join(str(run.last_step) for run in runs)
    console.print(Text(f"{', '.join(run.name for run in runs)}: {steps} steps", style="bold"), soft_wrap=True)
    console.print(grid)
    console.print(Text(LEGEND, style="dim"), soft_wrap=True)
    for line in [*(f"{run.name}: {note}" for run in runs for note in run.notes), *lines]:
        console.print(Text(line), soft_wrap=True)
