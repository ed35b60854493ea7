"""Puts the recipes on Hydra's search path: `python -m verl.trainer.main_ppo +recipe=NAME` needs no other flag.

An application that does not run verl is left as it is.
"""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class FrpoVerlRecipes(SearchPathPlugin):
    """Appends the package that holds `recipe/`, `method/`, `layout/` and `check/`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if "verl" not in sys.modules:
            return
        loaded = "frpo_verl" in sys.modules
        from frpo_verl.verl_plugin.door import refuse_closed

        refuse_closed(loaded, sys.argv[1:])
        search_path.append(provider="frpo_verl", path="pkg://frpo_verl.recipes")
