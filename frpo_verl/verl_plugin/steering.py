"""Beta of this step: by a schedule, a function of the trainer's step, or steered to a target by the steps before.

A steered beta depends on the whole run, so every step's is kept beside the checkpoints (`FILE` in
trainer.default_local_dir, written whole). A run that resumes takes up the beta of its step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ..core.coefficient import steered
from ..files import write_atomically
from ..methods.settings import FrpoSettings
from .batch import Batch
from .hooks import say
from .run import current

FILE = "frpo_kl_coef.json"
METRIC = "frpo/kl_coef"
OBSERVED = "frpo/kl_to_go/first_token/mean"  # the KL of a response


@dataclass
class Steering:
    """The betas of a run by step, and the KLs seen in the newest one (a step may hold several batches)."""

    file: Path
    settings: FrpoSettings
    betas: dict[int, float]
    step: int = 0
    kls: list[float] = field(default_factory=list)

    def at(self, step: int) -> float:
        """Beta of a step."""
        if step != self.step:
            self.step, self.kls = step, []
            self.betas = {k: beta for k, beta in self.betas.items() if k <= step}
        return self.betas.setdefault(step, self.settings.kl_coef)

    def observe(self, kl: float) -> None:
        """The KL of a batch of this step: it decides the next step's beta, which is kept."""
        self.kls.append(kl)
        mean, target = sum(self.kls) / len(self.kls), self.settings.kl_target
        assert target is not None, "a run without a target is not steered"
        self.betas[self.step + 1] = steered(self.betas[self.step], mean, target, self.settings.kl_horizon)
        write_atomically(self.file, json.dumps({str(step): beta for step, beta in self.betas.items()}))


def of_step(view: Batch, settings: FrpoSettings) -> float:
    """Beta of the step whose advantages are computed."""
    if not settings.changes:
        return settings.kl_coef
    step = view.source.step if view.source is not None else None
    if step is None:
        key = "kl_target" if settings.kl_target is not None else "kl_coef_end"
        raise RuntimeError(f"algorithm.frpo.{key}: this trainer does not say which step it is; use verl's V1 trainer")
    if settings.kl_target is None:
        return settings.kl_coef_at(step)
    memory = (current() or view.run).memory
    known = memory.get(FILE)
    if known is None or known.settings != settings or known.step not in (step, step - 1):  # a run that resumes
        file = Path(view.run.get("trainer.default_local_dir", "checkpoints"), FILE)
        memory[FILE] = Steering(file, settings, _kept(view, file, step) if step > 1 else {})
    return memory[FILE].at(step)


def observe(view: Batch, settings: FrpoSettings) -> None:
    """Let the batch's KL steer the next step's beta, where there is a target."""
    if settings.kl_target is not None:
        (current() or view.run).memory[FILE].observe(view.metrics[OBSERVED])


def _kept(view: Batch, file: Path, step: int) -> dict[int, float]:
    """The betas beside the checkpoint that the run takes up."""
    if view.run.get("trainer.resume_mode") == "resume_path" and (path := view.run.get("trainer.resume_from_path")):
        file = Path(path).parent / FILE
    try:
        betas = {int(k): float(beta) for k, beta in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        betas = {}
    if step not in betas:
        say(
            f"algorithm.frpo.kl_target: {file} has no beta for step {step}; it starts at kl_coef="
            f"{view.run.get('algorithm.frpo.kl_coef', 0.01)}"
        )
    return betas
