"""Tables of cases as text, a row a line: `what is typed -> what is then said`; an indented line goes on with its row."""

import re
from pathlib import Path


def cases(text: str) -> list[tuple[str, str]]:
    """[(what is typed, what is said)]; "" is said where a row has no arrow; lines that begin with # are comments."""
    lines = re.sub(r"\n +", " ", text.strip()).splitlines()
    cells = [line.partition("->") for line in lines if line and not line.startswith("#")]
    return [(typed.strip(), said.strip()) for typed, _, said in cells]


def says(line: str, said: str) -> bool:
    """Whether a line has each of the pieces between the three dots; ^ stands for its beginning, $ for its end."""
    line = f"^{line}$"
    return all(piece in line for piece in said.split(" ... ")) and "\n" not in line


def tables(name: str, **stands_for: str) -> dict[str, list[tuple[str, str]]]:
    """`cases/NAME.txt`: the cases under each `[heading]`. A WORD stands for a text: by a line `WORD = TEXT`, or given here."""
    found: dict[str, str] = {}

    def whole(text: str) -> str:
        return re.sub(r"\b[A-Z][A-Z_]+\b", lambda word: stands_for.get(word[0], word[0]), text)

    heading = ""
    for line in (Path(__file__).parent / "cases" / f"{name}.txt").read_text().splitlines():
        if named := re.fullmatch(r"([A-Z][A-Z_]+) = (.*)", line):
            stands_for[named[1]] = whole(named[2])
        elif headed := re.match(r"\[(\w+)\]", line):
            heading = headed[1]
        else:
            found[heading] = found.get(heading, "") + whole(line) + "\n"
    return {heading: cases(text) for heading, text in found.items() if heading}
