"""A folder of runs as one page: a line a run, linked to the run's own page."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from frpo_verl.evaluation.figures import number, percent
from frpo_verl.files import write_atomically

from .build import PAGE, build
from .collect import VALIDATION_FOLDERS, RunError, TrainingRun, load_run, metric_files
from .facts import method, steps_of
from .loggers import EVENTS
from .quantities import KL, REWARD
from .rules import find_breaches
from .subjects import Subject

DEPTH = 4  # folders below the one that is asked for
HEADER = ("run", "method", "recipe", "steps", "last pass@1", "reward at the end", "KL, nats a token", "warnings")


def _is_run(folder: Path) -> bool:
    return bool(metric_files(folder)) or any((folder / name).is_dir() for name in VALIDATION_FOLDERS)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """The runs in a folder, those of TensorBoard's files alone as well; nothing is looked for inside of a run."""
    if _is_run(folder) or any(folder.glob(EVENTS)):
        yield folder
    elif depth:
        try:
            inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        except OSError:  # not ours to read
            return
        for place in inner:
            yield from _below(place, depth - 1)


def find_runs(folder: Path) -> list[Path]:
    """The folders of runs below one that is no run itself, by name; [] where there is none, or it is one."""
    if not folder.is_dir() or _is_run(folder):
        return []
    found = list(_below(folder, DEPTH))
    return found if len(found) > 1 or any(map(_is_run, found)) else []  # its own event files may be in a folder of it


@dataclass
class Index:
    """The page of a folder of runs, and which of their pages are up to date."""

    folder: Path
    page: Path  # the index
    title: str | None = None
    data: Sequence[Path] | None = None  # parquet files of data.val_files
    reload: float | None = None  # seconds after which pages reload themselves
    _known: dict[Path, tuple[object, TrainingRun]] = field(default_factory=dict)

    def write(self) -> list[tuple[str, int]]:
        """Write the pages of the runs whose files have changed, and the index; returns (name, last step) of each run."""
        from .page import render_index

        entries, found = [], []
        for folder in find_runs(self.folder):
            name = folder.relative_to(self.folder).as_posix()
            try:
                run = self._run(folder, name)
            except RunError as error:
                entries.append({"name": name, "note": str(error)})
                continue
            entries.append(self._entry(run))
            found.append((name, run.last_step))
        html = render_index(self.title or f"runs in {self.folder.name}", HEADER, entries, self.reload)
        write_atomically(self.page, html.encode(errors="replace"))
        return found

    def _run(self, folder: Path, name: str) -> TrainingRun:
        """A run, read and its page written again where a file of it has changed."""
        state = [(p, p.stat().st_mtime_ns) for kind in ("*.jsonl", EVENTS) for p in sorted(folder.rglob(kind))]
        if folder not in self._known or self._known[folder][0] != state:
            run = load_run(folder, self.data, name)
            build([run], folder / PAGE, reload=self.reload)
            self._known[folder] = state, run
        return self._known[folder][1]

    def _entry(self, run: TrainingRun) -> dict[str, Any]:
        """The line of a run, and where its page is from here."""
        subject = Subject(run.name, [run])
        sources = subject.sources()
        passes = [
            percent(c.values[-1], c.ends(-1)) + (f" ({subject.label(source)})" if len(sources) > 1 else "")
            for source in sources
            if (c := subject.validation(source, "pass@1"))
        ]
        cells = [
            method(run.config) if run.config else "–",
            run.config.choices.get("recipe", "–"),
            steps_of(run),
            ", ".join(passes) or "–",
            *(number(subject.curve(*quantity.names).at_end()) for quantity in (REWARD, KL)),
            "; ".join(rule.title for rule in find_breaches([run])) or "none",
        ]
        return {
            "name": run.name,
            "address": quote(os.path.relpath(run.folder / PAGE, self.page.parent)),
            "cells": cells,
        }
