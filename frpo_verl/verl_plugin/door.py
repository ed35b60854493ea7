"""Is the plugin where a command of ours needs it? Asked by Hydra's search path, before anything starts.

verl opens the door when it is imported; where it does not, the names are known in this process only, if at all, and the run
would die in a worker after its models are loaded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from .. import methods
from ..settings import ConfigError
from .paths import method_names, recipe_names
from .run import section_keys


def names_ours(word: str) -> bool:
    """Whether an argument of the command line is a name of ours: a section, a recipe, or a row of the table."""
    key, _, value = word.lstrip("+").partition("=")
    if any(f"{key}.".startswith(f"{section}.") for section in section_keys()):
        return True
    if key in ("recipe", "method"):
        return value in (recipe_names() if key == "recipe" else method_names())
    if key in (methods.KINDS["local_kl"], "algorithm.kl_penalty"):
        return _is_local_kl(value)
    return any(key == typed and methods.find(kind, value) is not None for kind, typed in methods.KINDS.items())


def _is_local_kl(value: str) -> bool:
    try:
        return methods.local_kl(value) is not None
    except ConfigError:  # ours, and wrong: the checks say how
        return True


def refuse_closed(loaded: bool, typed: Iterable[str]) -> None:
    """End a command that types names of ours for a verl that cannot or does not load the plugin.

    Args:
        loaded: whether importing verl has loaded the plugin.
        typed: the command's arguments; one without a name of ours is left alone.

    Raises:
        SystemExit: with one line that says what to do.
    """
    if "verl" not in sys.modules or not any(map(names_ours, typed)):
        return
    from .health import too_old

    line = too_old()
    if line is None and not loaded:
        line = (
            f"verl does not load the plugin (VERL_USE_EXTERNAL_PLUGINS={os.getenv('VERL_USE_EXTERNAL_PLUGINS', 'auto')}): "
            "unset that variable, or set VERL_USE_EXTERNAL_MODULES=frpo_verl"
        )
    if line is not None:
        raise SystemExit(f"frpo_verl: {line}")
