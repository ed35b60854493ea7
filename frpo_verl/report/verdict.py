"""What came out of a run, or which of several runs is ahead, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from frpo_verl.evaluation.figures import number, percent

from .changes import Change, change_of, common_source, last_gap, main_change
from .quantities import ENTROPY, KL, LENGTH, REWARD
from .rules import Breach
from .subjects import Subject, at_end

GOOD, BAD, OPEN = "good", "bad", "open"
KL_OF_AN_ANSWER = "frpo/kl_to_go/first_token/mean"
HEADER = [
    "",
    "runs",
    "steps",
    "held-out before",
    "held-out after",
    "pass@k after",
    "KL, nats a token",
    "entropy",
    "length",
]


@dataclass
class Conclusion:
    """``kind``: good | bad | open; ``headline`` and ``sentences`` are text; ``header`` and ``rows`` compare subjects."""

    kind: str
    headline: str
    sentences: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def decide(subjects: Sequence[Subject], breaches: Sequence[Breach]) -> Conclusion:
    """The verdict on what the page shows."""
    found = of_one(subjects[0]) if len(subjects) == 1 else of_several(subjects)
    titles = list(dict.fromkeys(breach.rule.title for breach in breaches))
    many = f"{len(titles)} warning{'s' if len(titles) > 1 else ''} below: {'; '.join(titles)}."
    found.sentences.append(many if titles else "No warning.")
    return found


def of_one(subject: Subject) -> Conclusion:
    """The verdict on one run or one group."""
    change = main_change(subject)
    if change is None:
        kind, headline = OPEN, "Not decided: there are no two validations to compare."
    elif change.apart is False:
        kind, headline = OPEN, f"No change that can be told from chance after {subject.last_step} steps."
    elif change.after > change.before:
        kind, headline = GOOD, f"The policy got better: {change.difference} on held-out problems."
    elif change.after < change.before:
        kind, headline = BAD, f"The policy got worse: {change.difference} on held-out problems."
    else:
        kind, headline = OPEN, "Nothing changed on held-out problems."
    sentences = [_measure_sentence(change)] if change else []
    return Conclusion(kind, headline, [*sentences, *_pass_sentence(subject), *_training_sentences(subject)])


def _measure_sentence(change: Change) -> str:
    text = (
        f"{change.label}: {change.shown(False)} at step {change.steps[0]}, "
        f"{change.shown(True)} at step {change.steps[1]} ({change.difference})."
    )
    if change.gap is not None:
        low, high = (100 * end for end in change.gap)
        text += f" Over {change.over} the difference is from {low:+.1f} to {high:+.1f} points"
        text += "." if change.apart else ": it may be chance."
    return text


def _pass_sentence(subject: Subject) -> list[str]:
    """Of the first data source with several k."""
    for source in subject.sources():
        ks = subject.ks(source)
        many = change_of("", subject.validation(source, f"pass@{ks[-1]}")) if len(ks) > 1 else None
        if many is not None:
            values = f"{percent(many.before)} before, {percent(many.after)} after ({many.difference})"
            return [f"pass@{ks[-1]}, what the model can find in {ks[-1]} tries: {values}."]
    return []


def _training_sentences(subject: Subject) -> list[str]:
    out = []
    reward, kl, entropy = (subject.curve(*quantity.names) for quantity in (REWARD, KL, ENTROPY))
    if reward is not None and len(reward) > 1:
        out.append(
            f"Training reward: {number(reward.values[0])} at the first step, {number(at_end(reward))} at the end."
        )
    if kl is not None:
        go = subject.at_end(KL_OF_AN_ANSWER)
        whole = f", {number(go)} nats over a whole answer" if go is not None else ""
        out.append(f"Distance from the reference at the end: {number(at_end(kl))} nats a token{whole}.")
    if entropy is not None and len(entropy) > 1:
        ends = f"{number(entropy.values[0])} nats a token at the first step, {number(at_end(entropy))} at the end"
        out.append(f"Entropy: {ends}.")
    return out


def of_several(subjects: Sequence[Subject]) -> Conclusion:
    """Which subject is ahead on the held-out problems, and whether that can be told from chance."""
    measured = {subject.name: change for subject in subjects if (change := main_change(subject)) is not None}
    source = common_source([s for s in subjects if s.name in measured]) if len(measured) > 1 else None
    if source is not None:
        changes = ((s.name, main_change(s, source)) for s in subjects if s.name in measured)
        measured = {name: change for name, change in changes if change is not None}
    if len(measured) < 2:
        found = Conclusion(OPEN, "Not decided: fewer than two of them have two validations.")
    elif source is None:
        each = [f"{name}: {c.label} {c.shown(True)}." for name, c in measured.items()]
        found = Conclusion(OPEN, "Not comparable: they were validated on different data sets.", each)
    else:
        found = _ranked(subjects, measured, source)
    lost = [subject.name for subject in subjects if subject.name not in measured]
    if lost:
        found.sentences.append(f"Without two validations: {', '.join(lost)}.")
    found.header, found.rows = HEADER, [_row(subject, measured.get(subject.name), source) for subject in subjects]
    return found


def _ranked(subjects: Sequence[Subject], changes: dict[str, Change], source: str) -> Conclusion:
    """The verdict on the first two by their last validation on a source."""
    names = [name for _, name in sorted((c.after, name) for name, c in changes.items())[::-1]]
    ahead, behind = (next(s for s in subjects if s.name == name) for name in names[:2])
    best, second = changes[ahead.name], changes[behind.name]
    overlap, why = last_gap(behind, ahead, (second, best), source)
    times, price = _price(ahead, behind, best, second)
    kind = OPEN
    if best.after == second.after:
        headline = f"{ahead.name} and {behind.name} are equal on the held-out problems."
    elif overlap:
        headline = f"{ahead.name} and {behind.name} cannot be told apart on the held-out problems."
    elif times is not None and times > 1.1:
        gap = f"{100 * (best.after - second.after):.1f} points" if best.share else number(best.after - second.after)
        headline = f"{ahead.name} is ahead by {gap} at {times:.1f} times the KL."
    else:
        kind, headline = GOOD, f"{ahead.name} is ahead on the held-out problems."
    values = f"{ahead.name} {best.shown(True)}; {behind.name} {second.shown(True)}"
    sentences = [f"Last validation, {best.label}: {values}.", why, *price]
    if len({c.steps[1] for c in changes.values()}) > 1:
        sentences.append("Their last validations are at different steps: compare with care.")
    return Conclusion(kind, headline, sentences)


def _price(ahead: Subject, behind: Subject, best: Change, second: Change) -> tuple[float | None, list[str]]:
    """How many times the KL of the second the first one took, and sentences: both KLs, and the objective of both."""
    first, other = (subject.at_end(KL_OF_AN_ANSWER) for subject in (ahead, behind))
    if first is None or other is None:
        return None, []
    text = [f"KL of an answer to the reference: {ahead.name} {number(first)}, {behind.name} {number(other)} nats."]
    settings = [run.config for subject in (ahead, behind) for run in subject.runs if run.config]
    betas = {float(beta) for c in settings if (beta := c.get("algorithm.frpo.kl_coef"))}
    if len(betas) == 1:
        (beta,) = betas
        values = (
            f"{ahead.name} {number(best.after - beta * first)}, {behind.name} {number(second.after - beta * other)}"
        )
        text.append(f"What kl_coef={beta:g} weighs, held-out mean less {beta:g} times the KL: {values}.")
    return first / other if other > 1e-4 else None, text


def _row(subject: Subject, change: Change | None, common: str | None) -> list[str]:
    passes = "–"
    for source in [common] if common in subject.sources() and common else subject.sources()[:1]:
        ks = subject.ks(source)
        c = subject.validation(source, f"pass@{ks[-1]}") if ks else None
        if c is not None:
            passes = f"pass@{ks[-1]} {percent(c.values[-1], c.ends(-1))}"
    return [
        subject.name,
        str(len(subject.runs)),
        str(subject.last_step),
        change.shown(False) if change else "–",
        change.shown(True) if change else "–",
        passes,
        *(number(subject.at_end(*quantity.names)) for quantity in (KL, ENTROPY, LENGTH)),
    ]
