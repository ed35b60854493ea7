"""`python -m frpo_verl doctor`: does verl in this environment know the plugin, and does the plugin know this verl?"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import warnings
from importlib import metadata

from .. import methods, verl_plugin
from . import door, health, hooks
from .cpu import vllm_cpu

PACKAGES = ("frpo-verl", "verl", "torch", "transformers", "ray", "hydra-core", "omegaconf", "wrapt", "math-verify")
_PROBE = (
    "import sys, verl; loaded = 'frpo_verl' in sys.modules; "
    "from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY as r; "
    "print('DOOR', int(loaded), int('frpo' in r))"
)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "-"


def rollout_engines() -> dict[str, str]:
    """What `actor_rollout_ref.rollout.name` can be in this environment: name -> the package that is there, or `-`."""
    build, vllm = _version(vllm_cpu.BUILD), _version("vllm")
    if build != "-":
        vllm = f"{build} ({vllm_cpu.BUILD}{'' if hooks.cpu_mode() else ', needs VERL_PLATFORM=cpu'})"
    hf = f"transformers {_version('transformers')}, in this plugin"
    return {"hf": hf, "vllm": vllm, "sglang": _version("sglang"), "trtllm": _version("tensorrt-llm")}


def _door() -> tuple[str, list[str]]:
    """By which door a fresh `import verl` loads the plugin, as seen in a process that imports nothing else; and problems."""
    command = [sys.executable, "-W", "ignore", "-c", _PROBE]
    result = subprocess.run(command, capture_output=True, text=True)
    line = next((row for row in result.stdout.splitlines() if row.startswith("DOOR")), None)
    doors = []
    if "frpo_verl" in os.getenv("VERL_USE_EXTERNAL_MODULES", "").split(","):
        doors.append("VERL_USE_EXTERNAL_MODULES=frpo_verl")
    if any(e.name == "frpo_verl" for e in metadata.entry_points(group="verl.plugins")):
        doors.append("entry point verl.plugins")
    text = " and ".join(doors) or "loaded"
    if line == "DOOR 1 1":
        return text, []
    if line is None:
        text = f"a fresh process could not import verl: {result.stderr.strip().splitlines()[-1:]}"
    elif line == "DOOR 1 0":
        text = f"{text}, but `frpo` is not registered"
    else:
        policy = os.getenv("VERL_USE_EXTERNAL_PLUGINS", "auto")
        text = (
            f"none: `import verl` does not load frpo_verl (VERL_USE_EXTERNAL_PLUGINS={policy}); install the package "
            "with pip, or set VERL_USE_EXTERNAL_MODULES=frpo_verl"
        )
    return text, [f"door: {text}"]


def _registered() -> list[str]:
    """Print every name of the table; returns those that verl does not know."""
    from verl.trainer.ppo import core_algos

    known = {"estimator": core_algos.ADV_ESTIMATOR_REGISTRY, "policy_loss": core_algos.POLICY_LOSS_REGISTRY}
    missing = []
    print("\nnames")
    for kind, registry in known.items():
        for method in methods.of_kind(kind).values():
            there = method.name in registry
            print(f"  {'ok     ' if there else 'MISSING'} {method.typed}")
            missing += [] if there else [f"{method.typed} is not registered"]
    return missing


def _touched_places() -> list[str]:
    """Print every touched place of verl; returns what is wrong with them, by their state and by the self-test."""
    from .selftest import driver

    print("\ntouched places of verl")
    for entry in hooks.SEAMS:
        status = entry.status
        if not entry.active:
            status = f"off (only with {entry.package or 'VERL_PLATFORM=cpu'})"
        elif status == "applied" and entry.name:
            status = f"known source ({', '.join(hooks.VERSIONS)})"
        print(f"  {entry.place}\n      {status}: {entry.reason}")
    failures = health.failures_of("driver")
    print(f"\nself-test          {'passes' if not failures else f'{len(failures)} of its checks fail'}")
    if not failures and driver.hands_batch_over():
        print(
            "batch              this verl hands it to estimators: the wrap of compute_advantage is there for metrics only"
        )
    return hooks.troubles() + [f"self-test: {failure}" for failure in failures]


def main(argv: list[str] | None = None) -> int:
    """Print what was found; exit status 1 when something would keep a run from working."""
    parser = argparse.ArgumentParser(prog="python -m frpo_verl doctor", description=main.__doc__)
    parser.parse_args(argv)

    print(f"versions\n  python           {sys.version.split()[0]}")
    for package in PACKAGES:
        print(f"  {package:16s} {_version(package)}")
    print("\nrollout engines")
    for name, found in rollout_engines().items():
        print(f"  {name:16s} {found}")
    missing = "verl is not installed; install it (pip install 'frpo-verl[cpu]' on a machine without a GPU)"
    if (problem := missing if _version("verl") == "-" else health.too_old()) is not None:
        print(f"\nproblem: {problem}")
        return 1

    (opened, problems), hiding = _door(), door.hidden_by()
    print(f"\ndoor               {opened}")
    print(f"platform           {'cpu (VERL_PLATFORM=cpu)' if hooks.cpu_mode() else 'as verl detects it'}")
    found = "on the search path of Hydra applications that run verl"
    print(f"recipes            {door.warning(hiding) if hiding else found}")
    if verl_plugin.failure:
        problems.append(f"the plugin did not load: {verl_plugin.failure}")
    else:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            hooks.import_all()
        problems += _registered() + _touched_places()

    print()
    for problem in problems:
        print(f"problem: {problem}")
    print("all good" if not problems else f"{len(problems)} problem(s)")
    return 1 if problems else 0
