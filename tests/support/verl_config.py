"""verl's own configuration with our recipes on the search path, composed as main_ppo composes it, and quickly.

Hydra reads, parses and merges some forty files for each composition, and OmegaConf parses an interpolation whenever it is
read. Within one process these files stay as they are: each is parsed once here, those in front of the recipe are merged
once, and each interpolation is parsed once. `compose_plainly` does without; test_verl_config.py holds the two together.
"""

import functools
import pickle
from pathlib import Path

import omegaconf.base
import pytest
import verl.trainer
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin.upstream import compose_config

FOLDER = Path(verl.trainer.__file__).parent / "config"
PARSED: dict[tuple, bytes] = {}  # search path, file -> what Hydra reads; pickled, since Hydra changes what it is given
MERGED: dict[tuple, bytes] = {}  # search path, files in front of the recipe -> what they merge to

omegaconf.base.parse = functools.cache(omegaconf.base.parse)


def _places(repository) -> tuple[str, ...]:
    return tuple(source.path for source in repository.get_sources())


class Repository(ConfigRepository):
    """Parses each file once."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        key = (*_places(self), config_path)
        if key not in PARSED:
            PARSED[key] = pickle.dumps(super().load_config(config_path))
        return pickle.loads(PARSED[key])


class Loader(ConfigLoaderImpl):
    """Merges what stands in front of the recipe once; a file named by this merge's key stands for it afterwards."""

    def __init__(self, config_search_path):
        super().__init__(config_search_path)
        self.repository = Repository(config_search_path)

    def _compose_config_from_defaults_list(self, defaults, repo):
        first = next((i for i, d in enumerate(defaults) if d.config_path.startswith("recipe/")), len(defaults))
        key = (*_places(repo), repr(defaults[:first]))
        if key not in MERGED:
            MERGED[key] = pickle.dumps(super()._compose_config_from_defaults_list(defaults[:first], repo))
        return super()._compose_config_from_defaults_list([ResultDefault(config_path=key), *defaults[first:]], repo)

    def _load_single_config(self, default, repo):
        if default.config_path in MERGED:
            return ConfigResult(
                provider="", path="", config=pickle.loads(MERGED[default.config_path]), header={"package": None}
            )
        return super()._load_single_config(default, repo)


compose_plainly = compose_config


def compose_ppo(*overrides: str):
    """The same in a third of the time."""
    with initialize_config_dir(config_dir=str(FOLDER), version_base=None):
        hydra = GlobalHydra.instance().hydra
        hydra.config_loader = Loader(hydra.config_loader.config_search_path)
        return compose(config_name="ppo_trainer", overrides=list(overrides))


def validated(*overrides: str):
    """The configuration after verl's own check, which the plugin's goes before."""
    config = compose_ppo(*overrides)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    return config


def stopped(*overrides: str) -> str:
    """The one line that this configuration ends with."""
    with pytest.raises(ConfigError) as error:
        validated(*overrides)
    assert "\n" not in str(error.value)
    return str(error.value)
