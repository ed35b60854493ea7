"""verl's own configuration with our recipes on the search path, composed as main_ppo composes it."""

from pathlib import Path

import verl.trainer
from hydra import compose, initialize_config_dir


def compose_ppo(*overrides: str):
    """The DictConfig that `python -m verl.trainer.main_ppo OVERRIDES` starts with."""
    folder = Path(verl.trainer.__file__).parent / "config"
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        return compose(config_name="ppo_trainer", overrides=list(overrides))
