"""The page: one HTML file that needs nothing from anywhere, rendered by Jinja2 with autoescape."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from frpo_verl.evaluation.figures import number

from .charts import draw, legend
from .curves import SMOOTH_FROM
from .facts import gather
from .panels import sections
from .rules import Breach, Rule
from .samples import SHADES, shown_problems, token_answers
from .subjects import Subject
from .verdict import Conclusion

TEMPLATES = Path(__file__).with_name("templates")
SUBJECTS_WITH_ANSWERS = 6
NO_TOKENS = "no log-ratios of tokens: no answers/STEP.jsonl in the run's folder; answers_dir=RUN/answers writes them"
NO_ANSWERS = "no answers: no validation dumps (trainer.validation_data_dir)"

#: reloads the page while a run goes on, unless the reader has stopped it; the choice lasts as long as the tab
RELOAD = """
const box = document.getElementById("reload"), seconds = Number(box.dataset.seconds);
try { box.checked = sessionStorage.getItem("reload") !== "off"; } catch (error) {}
box.addEventListener("change", () => {
  try { sessionStorage.setItem("reload", box.checked ? "on" : "off"); } catch (error) {}
});
setInterval(() => { if (box.checked) location.reload(); }, 1000 * seconds);
"""


def _answers(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Of each subject its name, problems, shaded answers, and what is missing."""
    out = []
    problems, answers = (4, 4) if len(subjects) == 1 else (1, 2)
    for subject in subjects[:SUBJECTS_WITH_ANSWERS]:
        run = subject.runs[0]
        examples, tokens = shown_problems(run, problems), token_answers(run.answers, answers)
        notes = [*([] if examples else [NO_ANSWERS]), *([] if tokens else [NO_TOKENS])]
        out.append({"name": subject.name, "examples": examples, "tokens": tokens, "notes": notes})
    return out


def render(
    subjects: Sequence[Subject],
    verdict: Conclusion | None,
    warnings: dict[Rule, list[Breach]],
    title: str | None,
    notes: Sequence[str],
    reload: float | None,
) -> str:
    """The page of one run, of one group, or of several; for a run that has not begun no subject and no verdict.

    The heading is by default the name, or the names; `notes` are lines on what could not be read.
    """
    runs = [run for subject in subjects for run in subject.runs]
    names = ", ".join(subject.name for subject in subjects)
    steps = sorted({f(subject.last_step for subject in subjects) for f in (min, max)}) if subjects else []
    return _page(
        "page.html.j2",
        title or (names if len(names) < 80 else f"{names[:77]}…") or "waiting for the first step",
        reload,
        several=len(subjects) > 1,
        steps=" to ".join(map(str, steps)),
        subjects=subjects,
        keys=legend(subject.name for subject in subjects),
        smooth_from=SMOOTH_FROM,
        facts=gather(subjects),
        verdict=verdict,
        warnings=warnings,
        sections=sections(subjects) if subjects else [],
        answers=_answers(subjects),
        answers_left_out=max(0, len(subjects) - SUBJECTS_WITH_ANSWERS),
        shades=SHADES,
        notes=[*notes, *(f"{run.name}: {note}" for run in runs for note in [*run.notes, *run.remarks])],
    )


def render_index(title: str, header: Sequence[str], entries: Sequence[dict], reload: float | None = None) -> str:
    """The page of a folder of runs; an entry: name and note, or name, address and cells."""
    return _page("index.html.j2", title, reload, header=header, entries=entries)


def _page(template: str, title: str, reload: float | None, **content: object) -> str:
    """A page with what all pages have: every text is escaped unless it is Markup, a name that is not there is an error."""
    loader = FileSystemLoader(TEMPLATES)
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters["number"] = number
    env.filters["svg"] = lambda chart: Markup(draw(chart))  # matplotlib escapes what it is given
    return env.get_template(template).render(
        title=title,
        made=time.strftime("%Y-%m-%d %H:%M"),
        reload=reload,
        script=Markup(RELOAD),
        script_hash=base64.b64encode(hashlib.sha256(RELOAD.encode()).digest()).decode(),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        **content,
    )
