"""docs/seams.md has one row for each place of verl that is touched, in the part where it belongs."""

import re
from pathlib import Path

from frpo_verl.verl_plugin.hooks import VERSIONS
from frpo_verl.verl_plugin.seams import TABLE as SEAMS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "seams.md").read_text()


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of the table under a heading, backticks removed."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]


def place(entry) -> str:
    return f"{entry.module}{'.' + entry.name if entry.name else ''}".removeprefix("verl.")


def test_every_wrapped_function_has_its_row():
    assert [row[0] for row in rows("Wrapped functions")] == [place(e) for e in SEAMS if e.name and not e.only_cpu]


def test_every_registration_has_its_row():
    expected = [(place(e), e.does.rpartition(":")[2]) for e in SEAMS if not e.name and not e.only_cpu]
    assert [row[:2] for row in rows("Registrations")] == expected


def test_what_belongs_to_the_processor_stands_apart():
    expected = [(place(e), e.does.rpartition(":")[2]) for e in SEAMS if e.only_cpu]
    assert [row[:2] for row in rows("Only with `VERL_PLATFORM=cpu`")] == expected


def test_the_versions_that_the_page_names_are_the_known_ones():
    assert re.findall(r"\(verl ([\d., ]+)\)", PAGE) == [", ".join(VERSIONS)]
