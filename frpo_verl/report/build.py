"""Page, picture and figures of the runs that were read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from frpo_verl.evaluation import DumpError
from frpo_verl.files import write_atomically

from .collect import Run, RunError, as_json, load_run

logger = logging.getLogger("frpo_verl.report")

PAGE = "report.html"


def build(
    runs: Sequence[Run],
    page: Path,
    picture: Path,
    figures: Path,
    *,
    title: str | None = None,
    notes: Sequence[str] = (),
    grouped: bool = False,
    named: bool = False,
    reload: float | None = None,
) -> None:
    """Write the three files; only the page where there is no run.

    Args:
        page, picture, figures: the .html, the .png and the .json.
        title: heading of page and picture.
        notes: lines on what could not be read.
        grouped: runs of one kind become one line; ``named``: those of one name, where names were given.
        reload: seconds after which the page reloads itself.
    """
    from .page import render
    from .plot import draw, save
    from .subjects import alone, group
    from .verdict import decide
    from .warnings import find_warnings

    subjects = group(runs, named) if grouped else alone(runs)
    write_atomically(page, render(subjects, title, notes, reload).encode(errors="replace"))  # half a surrogate pair
    if not runs:
        return
    labels = {id(run): subject.name for subject in subjects for run in subject.runs}
    save(draw(runs, title, [labels[id(run)] for run in runs]), picture)
    warnings = find_warnings(runs)
    verdict = decide(subjects, warnings)
    content = {
        "runs": [as_json(run) for run in runs],
        "groups": {subject.name: [run.name for run in subject.runs] for subject in subjects},
        "verdict": [verdict.headline, *verdict.sentences],
        "warnings": [
            {"run": w.run, "warning": w.rule.key, "number": w.number, "threshold": w.rule.threshold} for w in warnings
        ],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(figures, text.encode(errors="backslashreplace"))


def write_report(folder: str | Path) -> Path | None:
    """Write RUN/report.html, .png and .json at the end of a run; returns the page, or None with a warning in the log.

    Never raises: a training that has succeeded must not fail for its report.
    """
    page = Path(folder) / PAGE
    try:
        build([load_run(folder)], page, page.with_suffix(".png"), page.with_suffix(".json"))
    except (RunError, DumpError) as error:
        logger.warning("no report: %s", error)
        return None
    except Exception:
        logger.warning("no report of %s", folder, exc_info=True)
        return None
    return page
