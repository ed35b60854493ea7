"""The configuration that a run was started with, from the files that Hydra leaves behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HIDDEN = "(hidden)"
#: folders below a run's folder where Hydra's .hydra may stand, the likely ones first
PLACES = (".", "hydra", "*", "hydra/*", "outputs/*/*")
#: settings that say where a run writes, or what it is called: no difference between two runs
OF_THE_FOLDER = ("run_dir", "trainer.project_name", "trainer.experiment_name", "trainer.default_local_dir")

_SECRET = re.compile(
    r"(^|[._])(api_?key|access_?key|secret|secret_key|password|passwd|auth_?token|hf_token|token)$", re.I
)  # fmt: skip
_SEED = re.compile(r"(^|[._])seed$")


@dataclass(frozen=True)
class Configuration:
    """``values``: dotted key -> value of the resolved configuration; ``choices``: Hydra's groups, such as
    recipe -> NAME; ``overrides``: what was typed behind main_ppo. One without values, where none was found, is false."""

    values: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.values)

    def get(self, *keys: str) -> Any:
        """The first of the keys that is there and not null."""
        return next((self.values[key] for key in keys if self.values.get(key) is not None), None)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "c": [2]} -> {"a.b": 1, "c": [2]}; secrets by their name are hidden."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: HIDDEN if tree is not None and _SECRET.search(prefix) else tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _load_yaml(file: Path) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(file.read_text(encoding="utf-8", errors="replace"), Loader=loader)


def read_configuration(file: Path) -> Configuration:
    """Read `.hydra/config.yaml` and, beside it, what Hydra chose and what was typed.

    Raises ValueError with one line where the file is no YAML mapping.
    """
    import yaml
    from omegaconf import OmegaConf

    try:
        tree = _load_yaml(file)
        if not isinstance(tree, Mapping):
            raise ValueError(f"{file}: no configuration in it")
        config = OmegaConf.create(dict(tree))
        try:
            values = flatten(OmegaConf.to_container(config, resolve=True))
        except Exception:  # a resolver of the user's, a variable of another machine: as it is written
            values = flatten(OmegaConf.to_container(config, resolve=False))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file}: not YAML ({' '.join(str(error).split())[:120]})") from None
    choices, overrides = {}, []
    try:
        hydra = _load_yaml(file.with_name("hydra.yaml"))["hydra"]
        choices = {k: str(v) for k, v in hydra["runtime"]["choices"].items() if "/" not in k and "@" not in k}
        overrides = [str(text) for text in hydra["overrides"]["task"]]
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        pass  # the choices are a help; the configuration stands without them
    parts = [text.partition("=") for text in overrides]
    shown = [key + equals + (HIDDEN if equals and _SECRET.search(key) else value) for key, equals, value in parts]
    return Configuration(values, choices, shown)


def find_configuration(folder: Path) -> tuple[Configuration, list[str]]:
    """(the newest configuration of the run in ``folder``, a note where there is none or it cannot be read).

    Looked for below the folder itself, then in Hydra's own place, outputs/DAY/TIME of the current folder, among the
    runs that name the folder as theirs.
    """
    folder, start = folder.resolve(), Path.cwd()
    note = "no configuration: .hydra/config.yaml is neither in the run's folder nor in outputs/ here"
    inside = {file for place in PLACES for file in folder.glob(f"{place}/.hydra/config.yaml")}
    for file in sorted(inside, key=lambda f: f.stat().st_mtime_ns, reverse=True):
        try:
            return read_configuration(file), []
        except (ValueError, OSError) as error:
            note = f"left out the configuration: {error}"
    for file in sorted(start.glob("outputs/*/*/.hydra/config.yaml"), reverse=True)[:50]:
        try:
            if folder.name not in file.read_text(encoding="utf-8", errors="replace"):
                continue  # parsing takes a hundred times as long
            config = read_configuration(file)
        except (ValueError, OSError):
            continue
        named = [config.get(key) for key in ("run_dir", "trainer.project_name", "trainer.default_local_dir")]
        paths = [(start / str(value)).resolve() for value in named if value]
        if any(path == folder or folder in path.parents for path in paths):
            return config, []
    return Configuration(), [note]


def comparable(config: Configuration, seeds: bool = True) -> dict[str, Any]:
    """The settings without those that only say where the run writes; with ``seeds`` False without seeds as well."""
    home = str(config.get("run_dir") or "")
    return {
        key: value.replace(home, "RUN") if home and isinstance(value, str) else value
        for key, value in config.values.items()
        if key not in OF_THE_FOLDER and (seeds or not _SEED.search(key))
    }
