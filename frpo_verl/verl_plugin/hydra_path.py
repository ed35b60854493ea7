"""Hydra finds the recipes by `hydra_plugins`, a namespace that distributions share, unless one of them closes it.

A `hydra_plugins/__init__.py` of somebody else hides the plugins of all others. The recipes are then put on Hydra's search
path from here.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable


def hidden_by() -> str | None:
    """The file that hides the recipes from Hydra, None where they can be found."""
    try:
        plugins = importlib.import_module("hydra_plugins")
    except ImportError:
        return None  # there is none, or Hydra cannot import it either
    found = any(module.name == "frpo_verl" for module in pkgutil.iter_modules(plugins.__path__))  # as Hydra looks
    return None if found else plugins.__file__


def warning(path: str) -> str:
    """What a hidden namespace does, and the cure."""
    return (
        f"{path} hides the Hydra plugins of every other distribution: the recipes are found all the same, other plugins are "
        "not; delete that file (hydra_plugins is a namespace, it has none) or uninstall what brought it"
    )


def show_recipes(typed: Iterable[str]) -> None:
    """Put hidden recipes on Hydra's search path; a command that types one is told.

    Args:
        typed: the command's arguments.
    """
    path = hidden_by()
    if path is None:
        return
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class FrpoVerlRecipes(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.append(provider="frpo_verl", path="pkg://frpo_verl.recipes")

    Plugins.instance().register(FrpoVerlRecipes)
    if any(word.lstrip("+").startswith(("recipe=", "method=", "layout=")) for word in typed):
        print(f"frpo_verl: {warning(path)}", file=sys.stderr, flush=True)
