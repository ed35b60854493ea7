"""The table of the command, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from frpo_verl.evaluation.figures import number

from .collect import TrainingRun
from .facts import LAST_STEPS, results

LEGEND = (
    f"held-out: first and last validation; the rest: first step and mean of the last {LAST_STEPS}; "
    "entropy and KL in nats a token, length in tokens"
)


def show(runs: Sequence[TrainingRun], lines: Sequence[str] = ()) -> None:
    """A row a quantity: before, after and change for one run, `before → after` for several; then the notes and the lines."""
    console = Console()
    one = len(runs) == 1
    rows: dict[str, dict[int, tuple[float, float | None]]] = {}
    for i, run in enumerate(runs):
        for row in results(run):
            rows.setdefault(row["label"], {})[i] = (row["before"], row["after"])
    grid = Table()
    grid.add_column("")
    for column in ("before", "after", "change") if one else [run.name for run in runs]:
        grid.add_column(Text(column), justify="right", no_wrap=one)
    for label, by_run in rows.items():
        if one:
            before, after = by_run[0]
            change = None if after is None else after - before
            cells = [
                number(before),
                number(after),
                ("+" if change is not None and change >= 0 else "") + number(change),
            ]
        else:
            pairs = [by_run.get(i) for i in range(len(runs))]
            cells = [f"{number(pair[0])} → {number(pair[1])}" if pair else "–" for pair in pairs]
        grid.add_row(Text(label), *cells)
    steps = ", ".join(str(run.last_step) for run in runs)
    console.print(Text(f"{', '.join(run.name for run in runs)}: {steps} steps", style="bold"), soft_wrap=True)
    console.print(grid)
    console.print(Text(LEGEND, style="dim"), soft_wrap=True)
    for line in [*(f"{run.name}: {note}" for run in runs for note in run.notes), *lines]:
        console.print(Text(line), soft_wrap=True)
