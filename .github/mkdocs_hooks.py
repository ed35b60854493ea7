"""What the site has beside docs/: CONTRIBUTING and CHANGELOG of the repository, and a page of the API.

`api.md` is written from the package: each module of `frpo_verl.core` and the modules that the pages import from, in
mkdocstrings' form. Links between docs/ and the repository's own pages are turned to where those stand on the site.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ("CONTRIBUTING.md", "CHANGELOG.md")
MODULES = ("methods.table", "methods.settings", "evaluation", "rewards.math", "report")


def on_files(files, config):
    for name in BESIDE:
        text = (ROOT / name).read_text().replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown, page, **_):
    return re.sub(rf"\]\((?:\.\./)+({'|'.join(BESIDE)})", r"](\1", markdown)


def _api() -> str:
    core = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "frpo_verl" / "core").rglob("*.py")
        if not path.name.startswith("_")
    )
    named = [*core, *(f"frpo_verl.{name}" for name in MODULES)]
    return "# Python API\n\n" + "\n".join(f"::: {name}\n" for name in named)
