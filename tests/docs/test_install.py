"""A wheel, installed without the clone: verl finds the plugin and Hydra the recipes; a Ray worker knows it too."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import ray

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds the unpacked wheel and nothing else of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True, cwd=folder)
    (wheel,) = folder.glob("frpo_verl-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def run(installed, *command):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *command], capture_output=True, text=True, timeout=180, cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed), "VERL_PLATFORM": "cpu"},
    )  # fmt: skip


def test_the_wheel_is_what_runs(installed):
    result = run(installed, "-c", "import frpo_verl; print(frpo_verl.__file__)")
    assert result.stdout.strip().startswith(str(installed))
    assert not (installed / "tests").exists() and not (installed / "recipes").exists()


MOE = ["+recipe=frpo_qwen3_30b_a3b", "method=grpo_kl_loss", "layout=megatron_moe_1node", "+check=fit"]
QUICK = ["+recipe=quickstart_cpu", "method=rpg_urkl"]


@pytest.mark.parametrize(
    "typed, lines",
    [
        (QUICK, ["loss_mode: rpg_urkl", "layout: cpu"]),
        ([*QUICK, "hydra.searchpath=[pkg://frpo_verl.recipes]"], ["loss_mode: rpg_urkl", "layout: cpu"]),
        (
            MOE,
            [
                "expert_model_parallel_size: 8",
                "optimizer_cpu_offload: true",
                "ignore_eos: true",
                "composed_by: frpo_verl",
            ],
        ),
    ],
)
def test_the_wheel_composes_its_recipes(installed, typed, lines):
    result = run(installed, "-m", "verl.trainer.main_ppo", *typed, "--cfg", "job")
    assert result.returncode == 0, result.stderr[-2000:]
    assert not [line for line in lines if line not in result.stdout]


def test_the_wheel_has_every_recipe_method_layout_check_and_data_set(installed):
    """The same files as in the clone, so that what composes from there composes from here."""
    wheel = installed / "frpo_verl" / "recipes"
    files = {p.relative_to(ROOT / "recipes"): p.read_bytes() for p in (ROOT / "recipes").rglob("*.yaml")}
    assert {p.relative_to(wheel): p.read_bytes() for p in wheel.rglob("*.yaml")} == files
    assert {p.parts[0] for p in files} == {"recipe", "method", "layout", "check"}
    listed = run(installed, "-m", "frpo_verl", "data", "--help").stdout
    assert "gsm8k" in listed and "open_rs" in listed


def test_the_wheel_is_healthy(installed):
    result = run(installed, "-m", "frpo_verl", "doctor")
    assert result.returncode == 0 and "all good" in result.stdout, result.stdout[-2000:] + result.stderr[-2000:]
    paths = run(installed, "-m", "frpo_verl", "paths").stdout
    assert "quickstart_cpu" in paths and str(installed) in paths


def test_the_wheel_has_its_types_and_its_commands(installed):
    assert (installed / "frpo_verl" / "py.typed").exists()
    for command in ("data", "check", "report", "passk", "twin"):
        result = run(installed, "-m", "frpo_verl", command, "--help")
        assert result.returncode == 0 and "usage" in result.stdout, command + result.stderr[-2000:]
    result = run(installed, "-m", "frpo_verl", "check", "js")
    assert result.returncode == 0 and "js: all good" in result.stdout, result.stderr[-2000:]


def test_the_sdist_brings_its_tests_and_what_they_read(tmp_path):
    """Run where it is unpacked: the settings and the table, with the recipes, pages and tests that they name."""
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], check=True, cwd=ROOT, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/methods/test_settings.py", "tests/methods/test_methods.py"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(folder)}, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    there = {path.name for path in folder.iterdir()}
    assert {
        "CHANGELOG.md",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "Makefile",
        "docs",
        "benchmarks",
        "data_preprocess",
    } <= there


@pytest.mark.e2e
def test_a_ray_worker_knows_the_plugin():
    @ray.remote
    def ask():
        import verl  # noqa: F401
        from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

        return "frpo" in ADV_ESTIMATOR_REGISTRY, "atr_grpo" in POLICY_LOSS_REGISTRY

    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR")
    try:
        assert ray.get(ask.remote(), timeout=180) == (True, True)
    finally:
        ray.shutdown()
