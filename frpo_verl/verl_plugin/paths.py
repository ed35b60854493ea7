"""`python -m frpo_verl paths`: what to type to reach the parts of an installed frpo_verl."""

from __future__ import annotations

import argparse
from pathlib import Path

import frpo_verl

from .. import methods


def config_names(group: str) -> list[str]:
    """What can be typed for a group of the recipes: `+recipe=`, `method=`, `layout=` or `+check=`."""
    folder = Path(frpo_verl.__file__).parent / "recipes" / group
    return sorted(p.stem for p in folder.glob("*.yaml") if not (group == "recipe" and p.stem.endswith("_base")))


def main(argv: list[str] | None = None) -> int:
    """Print recipes, methods and the paths that verl's configuration takes."""
    parser = argparse.ArgumentParser(prog="python -m frpo_verl paths", description=main.__doc__)
    parser.add_argument("--methods", action="store_true", help="print the table of methods (markdown) and nothing else")
    if parser.parse_args(argv).methods:
        print(methods.markdown(), end="")
        return 0
    root = Path(frpo_verl.__file__).resolve().parent
    print(f"package          {root}")
    print(f"recipes          {(root / 'recipes').resolve()}")
    for typed in ("+recipe=", "method=", "layout=", "+check="):
        print(f"  {typed:14s} {' '.join(config_names(typed.strip('+=')))}")
    print("  without the search-path plugin: 'hydra.searchpath=[pkg://frpo_verl.recipes]'")
    print("reward function  reward.custom_reward_function.path=pkg://frpo_verl.rewards.math")
    print("                 reward.custom_reward_function.name=compute_score")
    return 0
