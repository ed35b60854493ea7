"""What other parts of frpo_verl ask of verl without a run: its configuration, and its copy to HDFS."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def compose_config(*overrides: str) -> Any:
    """The configuration that `python -m verl.trainer.main_ppo OVERRIDES` starts with.

    Raises HydraException: the overrides do not compose.
    """
    import verl.trainer
    from hydra import compose, initialize_config_dir

    folder = Path(verl.trainer.__file__).resolve().parent / "config"
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        return compose(config_name="ppo_trainer", overrides=list(overrides))


def copy_to_hdfs(folder: Path, target: str) -> None:
    """Copy a local folder with verl's own tools. Raises ImportError: verl cannot be imported."""
    from verl.utils.hdfs_io import copy, makedirs

    makedirs(target)
    copy(src=str(folder), dst=target)
