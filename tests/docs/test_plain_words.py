"""The pages stay short and plain: limits in numbers, and a list of words."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob("docs/**/*.md"))
README = ROOT / "README.md"


def prose(page: Path) -> str:
    """What a reader reads: no code, no links' targets."""
    text = re.sub(r"^```.*?^```|^ {4,}.*$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"\]\([^)]*\)|`[^`]*`", "", text)


def test_the_readme_is_one_screen_and_the_pages_hold_so_many_words():
    assert len(README.read_text().splitlines()) <= 120
    assert sum(len(page.read_text().split()) for page in [README, *PAGES]) <= 22_000


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_words(page):
    text = prose(page)
    dialect = re.findall(r"\b(?:processors?|ours|by itself)\b", text, flags=re.IGNORECASE)
    assert not dialect, f"CPU, the plugin, automatically: {dialect}"
    bare = re.findall(r"(?<![\w.\\])\.\d+", text)
    assert not bare, f"numbers begin with 0: {bare}"


def test_the_readmes_caption_is_read_in_one_breath():
    (caption,) = re.findall(r"^!\[.*?\]\(.*?\)\n\n\*(.*?)\*$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(caption.split()) <= 40


def test_the_site_has_every_page_and_no_other():
    """`make docs` is strict about links; here: a page that is not in its navigation is found without mkdocs."""
    navigation = yaml.safe_load((ROOT / ".github/mkdocs.yml").read_text())["nav"]
    listed = {page for part in navigation for pages in part.values() for page in pages}
    on_disk = {str(page.relative_to(ROOT / "docs")) for page in PAGES}
    assert listed - {"CONTRIBUTING.md", "CHANGELOG.md", "api.md"} == on_disk


def test_the_modules_of_the_sites_api_exist():
    (named,) = re.findall(r"^MODULES = \((.*)\)$", (ROOT / ".github/mkdocs_hooks.py").read_text(), flags=re.MULTILINE)
    for name in re.findall(r'"([\w.]+)"', named):
        assert importlib.util.find_spec(f"frpo_verl.{name}") is not None, name
