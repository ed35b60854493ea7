"""The pages say what is so: examples run, names and files exist, commands compose, every page is in the index."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from verl_config import compose_ppo

from frpo_verl.verl_plugin.run import Run

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))])
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@by_page
def test_examples_run(page):
    failed, _ = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


@by_page
def test_what_is_imported_exists(page):
    for module, names in re.findall(r"from (frpo_verl[\w.]*) import ([\w, ]+)", page.read_text()):
        for name in names.replace(" ", "").split(","):
            found = importlib.import_module(module)
            assert hasattr(found, name) or importlib.import_module(f"{module}.{name}"), f"{module}.{name}"


@by_page
def test_files_that_are_named_exist(page):
    text = re.sub(r"^```diff.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)  # those make files
    named = re.findall(r"\b(?:frpo_verl|tests|benchmarks|recipes|data_preprocess)/[\w./]+\.(?:py|yaml|jsonl)\b", text)
    named = [name for name in named if "NAME" not in name]
    missing = sorted({name for name in named if not (ROOT / name).exists()})
    assert not missing, f"named and not there: {', '.join(missing)}"


@by_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{target}: no such file"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), flags=re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, f"{target}: no such heading"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_has_every_page():
    """docs/README.md, and docs/results/README.md for the results."""
    indexes = [p for p in (ROOT / "docs" / "README.md", ROOT / "docs" / "results" / "README.md") if p.exists()]
    linked = {
        (p.parent / link).resolve() for p in indexes for link in re.findall(r"\]\(([\w./]+\.md)\)", p.read_text())
    }
    pages = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "README.md"}
    assert not sorted(str(p.relative_to(ROOT)) for p in pages - linked)


def commands(page: Path) -> list[list[str]]:
    """The overrides of each main_ppo command of a page, its continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    found = []
    for line in re.findall(r"^ {4}.*verl\.trainer\.main_ppo(.*)$", text, flags=re.MULTILINE):
        line = re.sub(
            r"(?<= )\[[^\]]*\]|\.\.\.|--cfg .*", "", line.split("  #")[0]
        )  # [your verl config], ..., Hydra's own
        found.append([word for word in shlex.split(line) if "NAME" not in word and not word.startswith("--")])
    return found


@pytest.mark.slow
@by_page
def test_commands_compose_to_a_run_of_ours_or_of_verls(page):
    for overrides in commands(page):
        run = Run(compose_ppo(*overrides))
        assert all(settings is not None or method.section is None for method, settings in run.chosen)


def test_the_commands_are_found():
    assert sum(len(commands(page)) for page in PAGES) > 15
