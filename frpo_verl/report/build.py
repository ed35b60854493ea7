"""Page, picture and figures of the runs that were read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from frpo_verl.evaluation import DumpError
from frpo_verl.files import write_atomically

from .collect import RunError, TrainingRun, load_run

logger = logging.getLogger("frpo_verl.report")

PAGE = "report.html"


def build(
    runs: Sequence[TrainingRun],
    page: Path,
    picture: Path | None = None,
    *,
    title: str | None = None,
    notes: Sequence[str] = (),
    grouped: bool = False,
    named: bool = False,
    reload: float | None = None,
) -> None:
    """Write page, picture and figures (the page's name with .json); only the page where there is no run.

    Args:
        picture: default: the page's name with .png.
        title: heading of page and picture.
        notes: lines on what could not be read.
        grouped: runs of one kind become one line; ``named``: those of one name, where names were given.
        reload: seconds after which the page reloads itself.
    """
    from .facts import as_json
    from .page import render
    from .plot import draw
    from .rules import find_breaches
    from .subjects import subjects_of
    from .verdict import decide

    picture = picture or page.with_suffix(".png")
    subjects = subjects_of(runs, grouped, named)
    breaches = find_breaches(runs)
    verdict = decide(subjects, breaches) if runs else None
    html = render(subjects, verdict, breaches, title, notes, reload)
    write_atomically(page, html.encode(errors="replace"))  # half a surrogate pair
    if verdict is None:
        return
    figure = draw(subjects, title)
    write_atomically(picture, lambda temporary: figure.savefig(temporary, format=picture.suffix[1:]))
    content = {
        "runs": [as_json(run) for run in runs],
        "groups": {subject.name: [run.name for run in subject.runs] for subject in subjects},
        "verdict": [verdict.headline, *verdict.sentences],
        "warnings": [
            {"run": breach.run, "warning": rule.key, "number": breach.number, "threshold": rule.threshold}
            for rule, found in breaches.items()
            for breach in found
        ],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(page.with_suffix(".json"), text.encode(errors="backslashreplace"))


def write_report(folder: str | Path) -> Path | None:
    """Write RUN/report.html, .png and .json at the end of a run; returns the page, or None with a warning in the log.

    Never raises: a training that has succeeded must not fail for its report.
    """
    page = Path(folder) / PAGE
    try:
        build([load_run(folder)], page)
    except (RunError, DumpError) as error:
        logger.warning("no report: %s", error)
        return None
    except Exception:
        logger.warning("no report of %s", folder, exc_info=True)
        return None
    return page
