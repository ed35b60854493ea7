"""`python -m frpo_verl paths`: what to type to reach the parts of an installed frpo_verl."""

from __future__ import annotations

import argparse
from pathlib import Path

import frpo_verl

from .. import methods


def _group(name: str) -> list[str]:
    folder = Path(frpo_verl.__file__).parent / "recipes" / name
    return sorted(p.stem for p in folder.glob("*.yaml"))


def recipe_names() -> list[str]:
    """The names that `+recipe=NAME` takes."""
    return [name for name in _group("recipe") if not name.endswith("_base")]


def method_names() -> list[str]:
    """The names that `method=NAME` takes beside a recipe."""
    return _group("method")


def layout_names() -> list[str]:
    """The names that `layout=NAME` takes beside a recipe."""
    return _group("layout")


def check_names() -> list[str]:
    """The names that `+check=NAME` takes behind a recipe."""
    return _group("check")


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
    print(f"  +recipe=       {' '.join(recipe_names())}")
    print(f"  method=        {' '.join(method_names())}")
    print(f"  layout=        {' '.join(layout_names())}")
    print(f"  +check=        {' '.join(check_names())}")
    print("  without the search-path plugin: 'hydra.searchpath=[pkg://frpo_verl.recipes]'")
    print("reward function  reward.custom_reward_function.path=pkg://frpo_verl.rewards.math")
    print("                 reward.custom_reward_function.name=compute_score")
    return 0
