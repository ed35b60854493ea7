"""Tables of facts: what was run, in which settings several runs differ, and what came out of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    rows: list[tuple[str, str]]
    differences: list[tuple[str, list[tuple[str, bool]]]]
    left_out: int
    commands: list[tuple[str, str]]


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
    estimator = text(config.get("algorithm.adv_estimator"))
    parts, sections = [estimator], []
    if config.choices.get("method") not in (None, estimator):
        parts.insert(0, config.choices["method"] + ":")
    own = {"f": "f_hal", "frpo": "frpo"}.get(estimator.split("_")[0])
    if own:
        sections.append(f"algorithm.{own}.")
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
    planned = run.config.get("trainer.total_training_steps")
    return f"{run.last_step} of {planned}" if planned else str(run.last_step)


def _of_run(run: TrainingRun) -> dict[str, str]:
    config, environment = run.config, run.environment or {}
    rows: dict[str, str] = {}
    if config:
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


def _compared(groups: Sequence[Sequence[Mapping[str, str]]], absent: str) -> dict[str, list[str]]:
    """key -> a cell for each group of tables: its different values behind each other."""

    def cell(key: str, tables: Sequence[Mapping[str, str]]) -> str:
        known = any(key in table for table in tables)
        return "; ".join(dict.fromkeys(table.get(key, absent) for table in tables)) if known else absent

    keys = dict.fromkeys(key for tables in groups for table in tables for key in table)
    return {key: [cell(key, tables) for tables in groups] for key in keys}


def gather(subjects: Sequence[Subject]) -> Facts:
    """What was run: all of it for one subject; what is common, and what differs, for several."""
    runs = [run for subject in subjects for run in subject.runs]
    cells = _compared([[_of_run(run) for run in subject.runs] for subject in subjects], NOT_RECORDED)
    if len(subjects) > 1 and all(run.config for run in runs):
        told = {key for keys in KEYS.values() for key in keys}
        typed = [[comparable(run.config) for run in subject.runs] for subject in subjects]
        texts = [[{key: text(value) for key, value in table.items()} for table in tables] for tables in typed]
        more = _compared(texts, "–")
        cells |= {key: row for key, row in more.items() if key not in told and len(set(row)) > 1}
    differing = {label: row for label, row in cells.items() if len(set(row)) > 1}
    marked = [(label, [(cell, cell != row[0]) for cell in row]) for label, row in differing.items()]
    return Facts(
        rows=[(label, row[0]) for label, row in cells.items() if label not in differing],
        differences=marked[:DIFFERENCES],
        left_out=max(0, len(marked) - DIFFERENCES),
        commands=[(run.name, " ".join(run.config.overrides)) for run in runs if run.config.overrides],
    )


def before_after(c: Curve, last: int = 1) -> tuple[float, float | None]:
    """(first value, mean of the last ``last`` values after it), None where there are none."""
    tail = c.values[1:][-last:]
    return c.values[0], sum(tail) / len(tail) if tail else None


def results(run: TrainingRun) -> list[dict[str, Any]]:
    """Rows {"quantity", "label", "before", "after"}, ``after`` None until there is one.

    Held-out figures come from the first and the last validation, training figures from the first step and as the mean
    of the last LAST_STEPS.
    """
    subject = Subject(run.name, [run])
    found: list[tuple[str, str, Curve, int]] = []
    for source, c in run.held_out.items():
        label = "held-out reward" + (f" ({source})" if len(run.held_out) > 1 else "")
        found.append((f"held_out_reward/{source}", label, c, 1))
    sources = subject.sources()
    for source in sources:
        ks = subject.ks(source)
        suffix = f" ({subject.label(source)})" if len(sources) > 1 else ""
        for k in sorted({ks[0], ks[len(ks) // 2], ks[-1]} if ks else ()):
            values = subject.validation(source, f"pass@{k}")
            found.append((f"pass@{k}/{source}", f"held-out pass@{k}{suffix}", values, 1))
    for quantity in IN_TABLE:
        found.append((quantity.series, quantity.label, subject.curve(*quantity.names), LAST_STEPS))
    rows = [(quantity, label, *before_after(c, last)) for quantity, label, c, last in found if c]
    return [dict(zip(("quantity", "label", "before", "after"), row, strict=True)) for row in rows]


def as_json(run: TrainingRun) -> dict[str, Any]:
    """All that the table and the picture show, as JSON types."""
    subject = Subject(run.name, [run])
    curves = {quantity.series: c for quantity in IN_TABLE if (c := subject.curve(*quantity.names))}
    return {
        "name": run.name,
        "folder": str(run.folder),
        "last_step": run.last_step,
        "table": results(run),
        "metric_names": {series: c.name for series, c in curves.items()},
        "series": {series: [list(p) for p in c] for series, c in curves.items()},
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
    """The table of the command on the terminal, a row a quantity, then the notes and the lines.

    Before, after and change for one run, `before → after` for several.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    one = len(runs) == 1
    tables = [{row["label"]: (row["before"], row["after"]) for row in results(run)} for run in runs]
    grid = Table()
    grid.add_column("")
    for column in ("before", "after", "change") if one else [run.name for run in runs]:
        grid.add_column(Text(column), justify="right", no_wrap=one)
    for label in dict.fromkeys(label for table in tables for label in table):
        if one:
            before, after = tables[0][label]
            change = None if after is None else after - before
            sign = "+" if change is not None and change >= 0 else ""
            cells = [number(before), number(after), sign + number(change)]
        else:
            cells = [" → ".join(map(number, table[label])) if label in table else "–" for table in tables]
        grid.add_row(Text(label), *cells)
    steps = ", ".join(str(run.last_step) for run in runs)
    console.print(Text(f"{', '.join(run.name for run in runs)}: {steps} steps", style="bold"), soft_wrap=True)
    console.print(grid)
    console.print(Text(LEGEND, style="dim"), soft_wrap=True)
    for line in [*(f"{run.name}: {note}" for run in runs for note in run.notes), *lines]:
        console.print(Text(line), soft_wrap=True)
