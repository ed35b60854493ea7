"""What lets verl's vLLM rollout use vLLM's build for CPUs; none of it needs vLLM."""

import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from frpo_verl.verl_plugin import doctor
from frpo_verl.verl_plugin.cpu import vllm_cpu


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Installs an empty distribution for this test; the finder is at work and leaves with it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if not isinstance(f, vllm_cpu.DistributionNames)])

    def install(name: str, version: str):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    vllm_cpu.name_distribution()
    return install


def test_the_build_for_processors_is_a_vllm_to_verl_and_to_vllm(site):
    site("vllm-cpu", "0.31.0")
    assert metadata.version("vllm") == "0.31.0+cpu"
    assert metadata.distribution("vllm").metadata["Name"] == "vllm-cpu"
    assert metadata.version("vllm-cpu") == "0.31.0"


def test_a_vllm_that_is_there_is_the_one_that_is_named(site):
    site("vllm-cpu", "0.31.0")
    site("vllm", "0.24.0")
    assert metadata.version("vllm") == "0.24.0"


def test_nothing_is_invented(site):
    site("something", "1.0")
    for name in ("vllm", "vllm-cpu", "absent"):
        with pytest.raises(metadata.PackageNotFoundError):
            metadata.version(name)
    assert [d.metadata["Name"] for d in metadata.distributions()] == ["something"]


def test_the_name_is_given_once(site):
    vllm_cpu.name_distribution()
    assert sum(isinstance(finder, vllm_cpu.DistributionNames) for finder in sys.meta_path) == 1


def test_a_layer_keeps_its_weights_beside_the_packed_ones():
    def dispatch_cpu_unquantized_gemm(layer, remove_weight):
        layer.packed = layer.weight
        if remove_weight:
            layer.weight = None

    module = SimpleNamespace(dispatch_cpu_unquantized_gemm=dispatch_cpu_unquantized_gemm)
    vllm_cpu.keep_weights(module)
    layer = SimpleNamespace(weight=[1.0])
    module.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)  # as vLLM's linear layers call it
    assert layer.weight == layer.packed == [1.0]


@pytest.mark.parametrize("platform, note", [("cpu", ""), ("", ", needs VERL_PLATFORM=cpu")])
def test_the_doctor_names_the_rollout_engines_that_are_there(site, monkeypatch, platform, note):
    monkeypatch.setenv("VERL_PLATFORM", platform)
    site("transformers", "5.0")
    assert doctor.rollout_engines() == {
        "hf": "transformers 5.0, in this plugin",
        "vllm": "-",
        "sglang": "-",
        "trtllm": "-",
    }
    site("vllm-cpu", "0.31.0")
    assert doctor.rollout_engines()["vllm"] == f"0.31.0 (vllm-cpu{note})"
