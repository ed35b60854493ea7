"""`python -m frpo_verl twin RECIPE [method=NAME ...]`: a recipe's twin, two steps of the same run on a CPU.

It writes small data files, prints the command of main_ppo and lists every setting that the twin does not keep. The
quickstart's tiny model answers: the problems of training rows become its sums (so that some answers are right and group
filters have something to keep), in the rows' own columns; validation rows stay as they are.
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from .report.configuration import flatten
from .report.facts import text
from .verl_plugin.upstream import compose_config

TRAIN_ROWS = 64
VAL_ROWS = 4
VAL_ANSWERS = 4
FOLDER = Path("build/twin")
MODEL = FOLDER / "model"  # as recipes/check/twin.yaml
NOT_SET = "not set"
LAYOUTS = ("layout=cpu", "layout=cpu_vllm")


class TwinError(Exception):
    """A recipe that has no twin here; the message is one line."""


@dataclass(frozen=True)
class Twin:
    """A recipe's twin: what to type, where its run goes, what it does not keep (key -> recipe's value, twin's value)."""

    command: list[str]
    run_dir: str
    changed: dict[str, tuple[str, str]] = field(default_factory=dict)


def compose(*overrides: str) -> Any:
    """The configuration that `python -m verl.trainer.main_ppo OVERRIDES` starts with."""
    from hydra.errors import HydraException

    try:
        return compose_config(*overrides)
    except HydraException as error:
        raise TwinError(" ".join(str(error).split())[:300]) from None


def plan(recipe: str, overrides: list[str]) -> Twin:
    """Write the twin's data files and say how it is run.

    Args:
        recipe: a name of `recipe/`.
        overrides: what is typed beside it, such as method=rpg_ufkl.

    Raises:
        TwinError: the recipe does not compose, a layout is not a CPU's, or a file that it names is not there.
    """
    from omegaconf import OmegaConf

    for word in overrides:
        if word.startswith("layout=") and word not in LAYOUTS:
            raise TwinError(f"{word}: a twin runs on a CPU; leave it out, or set {' or '.join(LAYOUTS)}")
    typed = [f"+recipe={recipe}", *overrides]
    whole = compose(*typed)
    small = [*typed, "+check=twin", *_counts(whole), *_files(whole, FOLDER / recipe)]
    twin = compose(*small)
    command = ["-m", "verl.trainer.main_ppo", *small]
    return Twin(command, str(OmegaConf.select(twin, "run_dir")), differences(whole, twin))


def _counts(config: Any) -> list[str]:
    """Overrides that keep the recipe's number of updates for each rollout, and its evaluation's answers."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    updates = max(1, config.data.train_batch_size // actor.ppo_mini_batch_size)
    mini = max(1, 8 // updates)
    out = [f"data.train_batch_size={mini * updates}", f"actor_rollout_ref.actor.ppo_mini_batch_size={mini}"]
    if not config.trainer.val_only:
        out.append(f"actor_rollout_ref.rollout.val_kwargs.n={min(rollout.val_kwargs.n, VAL_ANSWERS)}")
    if "overlong_buffer_cfg" in (config.reward.get("reward_kwargs") or {}):
        out.append("reward.reward_kwargs.overlong_buffer_cfg.len=16")  # of the twin's 32 tokens
    return out


def _files(config: Any, folder: Path) -> list[str]:
    """Write the small files; returns the overrides that name them."""
    limit = 700  # characters, below check/twin.yaml's data.max_prompt_length
    out = []
    for key, count in (("train_files", TRAIN_ROWS), ("val_files", VAL_ROWS)):
        named = config.data[key]
        paths = [named] if isinstance(named, str) else named
        small = [_small(Path(path), folder, count, limit, sums=key == "train_files") for path in paths]
        out.append(f"data.{key}=[{','.join(small)}]")
    return out


def _small(source: Path, folder: Path, count: int, limit: int, sums: bool) -> str:
    """The first rows of a file that are short enough, and one that is not: the recipe's length filter drops it."""
    import pyarrow.parquet as pq

    from .files import write_atomically

    if not source.is_file():
        cure = f"the head of the recipe's file has the command that writes it (its first rows are enough: --max_rows {count})"
        raise TwinError(f"{source}: no such file; {cure}")
    table = pq.read_table(source)
    lengths = [sum(len(m["content"]) for m in prompt) for prompt in table.column("prompt").to_pylist()]
    short = [i for i, length in enumerate(lengths) if length <= limit][:count]
    if not short:
        raise TwinError(f"{source}: no prompt of at most {limit} characters; give another file")
    long = [i for i, length in enumerate(lengths) if length > 2 * limit][:1]
    rows = table.take(short).to_pylist()
    if sums:
        rows = _as_sums(rows)
    rows += table.take(long).to_pylist() if long else []
    target = folder / f"{source.parent.name}_{source.name}"
    made = type(table).from_pylist(rows, schema=table.schema)
    write_atomically(target, lambda path: pq.write_table(made, path))
    return str(target)


def _as_sums(rows: list[dict]) -> list[dict]:
    """The same rows about the tiny model's sums: problem, ground truth and recorded answers are replaced, nothing else."""
    from .quickstart.three_ways import marked, stream

    rng = random.Random(0)
    for row, problem in zip(rows, islice(stream(0), len(rows)), strict=True):
        row["prompt"] = [{**row["prompt"][-1], "content": problem.question}]
        if row["reward_model"]["ground_truth"]:
            row["reward_model"]["ground_truth"] = problem.sum_digits  # as the model writes it, units first
        extra = row.get("extra_info") or {}
        if extra.get("chosen"):
            extra |= {"chosen": marked(problem.written("C")), "rejected": marked(problem.with_slips("C", rng, 1.0))}
    return rows


def differences(whole: Any, twin: Any) -> dict[str, tuple[str, str]]:
    """Every key whose value differs as it was written (what follows it by interpolation is not repeated).

    Sections of another engine, which only one of the two has, are one entry each.
    """
    from omegaconf import OmegaConf

    def leaves(config: Any) -> dict[str, str]:
        values = flatten(OmegaConf.to_container(config, resolve=False))
        own = {k: v for k, v in values.items() if v != {} and not k.startswith("critic.")}  # no recipe has a critic
        return {k: text(v) for k, v in own.items() if not k.endswith("_target_")}  # it follows the engine

    before, after = leaves(whole), leaves(twin)
    out = {key: (before[key], after[key]) for key in before if key in after and before[key] != after[key]}
    for mine, other in ((before, after), (after, before)):
        sections: dict[str, dict[str, str]] = {}
        for key in mine:
            if key not in other:
                sections.setdefault(".".join(key.split(".")[:3]), {})[key] = mine[key]
        for section, values in sections.items():
            shown = values if len(values) <= 3 else {f"{section}.*": f"{len(values)} settings"}
            out |= {key: (value, NOT_SET) if mine is before else (NOT_SET, value) for key, value in shown.items()}
    return dict(sorted(out.items()))


def main(argv: list[str] | None = None) -> int:
    """Print a twin's command and what it does not keep; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m frpo_verl twin", description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", help="a name of `python -m frpo_verl paths`")
    parser.add_argument("overrides", nargs="*", help="what is typed beside it: method=NAME name=NAME ...")
    args = parser.parse_args(argv)
    try:
        twin = plan(args.recipe, args.overrides)
    except TwinError as error:
        print(f"twin: {error}", file=sys.stderr)
        return 2
    print("not kept (the recipe's value -> the twin's):")
    for key, (before, after) in twin.changed.items():
        print(f"  {key}: {before} -> {after}")
    if not MODEL.is_dir():
        print(f"{MODEL} is not there yet: `python -m frpo_verl.quickstart.ways_model --marked --out {MODEL}` makes it")
    print(f"run it (its folder is {twin.run_dir}):")
    print(f"  VERL_PLATFORM=cpu python {shlex.join(twin.command)}")
    return 0
