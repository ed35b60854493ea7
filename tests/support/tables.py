"""Tables of cases as text, a row a line: `what is typed -> what is then said`; an indented line goes on with its row."""

import re


def cases(text: str) -> list[tuple[str, str]]:
    """[(what is typed, what is said)]; "" is said where a row has no arrow; lines that begin with # are comments."""
    lines = re.sub(r"\n +", " ", text.strip()).splitlines()
    cells = [line.partition("->") for line in lines if line and not line.startswith("#")]
    return [(typed.strip(), said.strip()) for typed, _, said in cells]


def says(line: str, said: str) -> bool:
    """Whether a line has each of the pieces between the three dots; ^ stands for its beginning, $ for its end."""
    line = f"^{line}$"
    return all(piece in line for piece in said.split(" ... ")) and "\n" not in line
