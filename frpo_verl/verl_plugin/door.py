"""Are plugin and recipes where a command of ours needs them? Asked before anything starts.

verl opens the door when it is imported; where it does not, the names are known in this process only, if at all, and the run
would die in a worker after its models are loaded. Hydra finds the recipes by `hydra_plugins`, a namespace that distributions
share, unless one of them closes it by an `__init__.py`: the recipes are then put on its search path from here.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable

from .. import methods
from ..methods.settings import ConfigError
from .health import too_old
from .hooks import say
from .paths import config_names
from .run import section_keys


def names_ours(word: str) -> bool:
    """Whether an argument of the command line is a name of ours: a section, a recipe, or a row of the table."""
    key, _, value = word.lstrip("+").partition("=")
    if any(f"{key}.".startswith(f"{section}.") for section in section_keys()):
        return True
    if key in ("recipe", "method"):
        return value in config_names(key)
    if key in (methods.KINDS["local_kl"], "algorithm.kl_penalty"):
        return _is_local_kl(value)
    return any(key == typed and methods.find(kind, value) is not None for kind, typed in methods.KINDS.items())


def _is_local_kl(value: str) -> bool:
    try:
        return methods.find_local_kl(value) is not None
    except ConfigError:  # ours, and wrong: the checks say how
        return True


def refuse_closed(loaded: bool, typed: Iterable[str]) -> None:
    """End a command that types names of ours for a verl that cannot or does not load the plugin.

    Args:
        loaded: whether importing verl has loaded the plugin.
        typed: the command's arguments; one without a name of ours is left alone.

    Raises SystemExit: with one line that says what to do.
    """
    if "verl" not in sys.modules or not any(map(names_ours, typed)):
        return
    line = too_old()
    if line is None and not loaded:
        line = (
            f"verl does not load the plugin (VERL_USE_EXTERNAL_PLUGINS={os.getenv('VERL_USE_EXTERNAL_PLUGINS', 'auto')}): "
            "unset that variable, or set VERL_USE_EXTERNAL_MODULES=frpo_verl"
        )
    if line is not None:
        raise SystemExit(f"frpo_verl: {line}")


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
        say(warning(path))
