"""Versions, device and commit of the environment that a run trains in: RUN/environment.json."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from frpo_verl.files import read_json, write_atomically

FILE = "environment.json"
PACKAGES = ("frpo-verl", "verl", "torch", "transformers", "vllm", "sglang", "ray", "tensordict", "TransferQueue")


def commit(folder: str | Path) -> str | None:
    """The commit that a folder is at, marked where files differ from it; None outside of a repository."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=5)
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    found = git("rev-parse", "HEAD")
    changed = " with changes" if found and git("status", "--porcelain", "--untracked-files=no") else ""
    return found[:12] + changed if found else None


def describe(folder: str | Path = ".") -> dict[str, Any]:
    """{"python", "system", "versions": {package: version}, "commit", "device"} of this process."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")  # not worth an import of seconds
    device = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "CPU"
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "commit": commit(folder),
        "device": device if torch is not None else None,
    }


def write_environment(run: str | Path, folder: str | Path = ".") -> Path:
    """Write RUN/environment.json: called by the process that starts the training, in its folder."""
    return write_atomically(Path(run) / FILE, json.dumps(describe(folder), indent=1) + "\n")


def read_environment(run: Path) -> dict[str, Any] | None:
    """What `write_environment` wrote; None where it is absent or broken."""
    content = read_json(run / FILE)
    return content if isinstance(content, dict) else None
