"""What came out of a run, or which of several runs is ahead, in sentences with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from frpo_verl.evaluation import confidence_interval

from .charts import number
from .collect import source_label
from .subjects import Curve, Subject, at_end, pool
from .warnings import Warning

GOOD, BAD, OPEN = "good", "bad", "open"


@dataclass
class Verdict:
    """``kind``: good | bad | open; ``headline`` and ``sentences`` are text; ``header`` and ``rows`` compare subjects."""

    kind: str
    headline: str
    sentences: list[str] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class _Change:
    """A held-out measure at the first and the last validation with the ends of its interval, and the difference with its
    own, where there are such."""

    label: str
    steps: tuple[int, int]
    before: float
    after: float
    ends: tuple[tuple[float, float], tuple[float, float]] | None
    share: bool  # shown in percent
    gap: tuple[float, float] | None = None
    over: str = ""  # what the interval of the difference is over

    def shown(self, after: bool) -> str:
        """The value with its interval."""
        value = self.after if after else self.before
        ends = self.ends[after] if self.ends else None
        if self.share:
            return _percent(value, ends)
        return number(value) + (f" [{number(ends[0])}, {number(ends[1])}]" if ends else "")

    @property
    def difference(self) -> str:
        """After minus before."""
        gap = self.after - self.before
        return f"{100 * gap:+.1f} points" if self.share else f"{'+' if gap >= 0 else ''}{number(gap)}"

    @property
    def apart(self) -> bool | None:
        """Whether the interval of the difference leaves 0 out."""
        return None if self.gap is None else self.gap[0] > 0 or self.gap[1] < 0


def paired(first: dict[str, float], second: dict[str, float]) -> tuple[float, float, int] | None:
    """(low, high, problems): 95 % interval over the problems that both have, of second minus first on the same one."""
    common = sorted(set(first) & set(second))
    if len(common) < 2:
        return None
    gaps = np.array([[second[p] - first[p]] for p in common])
    low, high = confidence_interval(gaps)
    return float(low[0]), float(high[0]), len(common)


def _with_gap(change: _Change | None, subject: Subject, source: str) -> _Change | None:
    """The change with the interval of its difference: over problems for one run, over the runs for a group."""
    if change is None:
        return None
    first, last = change.steps
    if len(subject.runs) == 1:
        shares = subject.runs[0].shares
        found = paired(*(shares.get(step, {}).get(source, {}) for step in (first, last)))
        if found:
            change.gap, change.over = found[:2], f"the same {found[2]} problems"
        return change
    gaps = []
    for run in subject.runs:
        means = [list(run.shares.get(step, {}).get(source, {}).values()) for step in (first, last)]
        if all(means):
            gaps.append(Curve([0], [float(np.mean(means[1]) - np.mean(means[0]))]))
    if len(gaps) == len(subject.runs):
        difference = pool(gaps)
        change.gap, change.over = (difference.low[0], difference.high[0]), f"{len(gaps)} runs"
    return change


def _change(label: str, c: Curve | None) -> _Change | None:
    if c is None or len(c) < 2:
        return None
    ends = ((c.low[0], c.high[0]), (c.low[-1], c.high[-1])) if c.low and c.high else None
    share = min(c.values) >= 0 and max(c.values) <= 1
    return _Change(label, (c.steps[0], c.steps[-1]), c.values[0], c.values[-1], ends, share)


def _percent(value: float, ends: tuple[float, float] | None = None) -> str:
    interval = f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else ""
    return f"{100 * value:.1f}{interval} %"


def _main_measure(subject: Subject, only: str | None = None) -> _Change | None:
    """The first data source's mean@n from the dumps, else verl's held-out reward, else None; of `only` if that is given."""
    for source in subject.sources() if only is None else [only]:
        name = subject.mean_metric(source)
        change = _change(f"{name} on {source_label(subject.runs[0], source)}", subject.validation(source, name or ""))
        change = _with_gap(change, subject, source)
        if change is not None:
            return change
    for source in _held_out_sources(subject) if only is None else [only]:
        change = _change(f"held-out reward on {source}", subject.held_out(source))
        if change is not None:
            return change
    return None


def _held_out_sources(subject: Subject) -> list[str]:
    return sorted({s for run in subject.runs for s in run.held_out})


def _common_source(subjects: Sequence[Subject]) -> str | None:
    """The first data source by which all of them can be measured."""
    ways = [
        [s for s in subject.sources() if _main_measure(subject, s)]
        or [s for s in _held_out_sources(subject) if _main_measure(subject, s)]
        for subject in subjects
    ]
    return next((s for s in ways[0] if all(s in other for other in ways)), None)


def _measure_sentence(change: _Change) -> str:
    text = (
        f"{change.label}: {change.shown(False)} at step {change.steps[0]}, "
        f"{change.shown(True)} at step {change.steps[1]} ({change.difference})."
    )
    if change.gap is not None:
        low, high = (100 * end for end in change.gap)
        text += f" Over {change.over} the difference is from {low:+.1f} to {high:+.1f} points"
        text += "." if change.apart else ": it may be chance."
    return text


def _pass_sentence(subject: Subject) -> str | None:
    for source in subject.sources():
        ks = subject.ks(source)
        if len(ks) < 2:
            continue
        many = _change("", subject.validation(source, f"pass@{ks[-1]}"))
        if many is not None:
            return (
                f"pass@{ks[-1]}, what the model can find in {ks[-1]} tries: {_percent(many.before)} before, "
                f"{_percent(many.after)} after ({many.difference})."
            )
    return None


def _training_sentences(subject: Subject) -> list[str]:
    out = []
    reward = subject.curve("critic/score/mean", "critic/rewards/mean")
    if reward is not None and len(reward) > 1:
        out.append(
            f"Training reward: {number(reward.values[0])} at the first step, {number(at_end(reward))} at the end."
        )
    kl = subject.curve("frpo/kl_to_ref/k1", "actor/reward_kl_penalty", "actor/kl_loss")
    go = at_end(subject.curve("frpo/kl_to_go/first_token/mean"))
    if kl is not None:
        whole = f", {number(go)} nats over a whole answer" if go is not None else ""
        out.append(f"Distance from the reference at the end: {number(at_end(kl))} nats a token{whole}.")
    entropy = subject.curve("actor/entropy", "actor/entropy_loss")
    if entropy is not None and len(entropy) > 1:
        out.append(
            f"Entropy: {number(entropy.values[0])} nats a token at the first step, {number(at_end(entropy))} at the end."
        )
    return out


def _warned(warnings: Sequence[Warning]) -> str:
    if not warnings:
        return "No warning."
    titles = list(dict.fromkeys(w.rule.title for w in warnings))
    return f"{len(titles)} warning{'s' if len(titles) > 1 else ''} below: {'; '.join(titles)}."


def of_one(subject: Subject, warnings: Sequence[Warning]) -> Verdict:
    """The verdict on one run or one group."""
    change = _main_measure(subject)
    if change is None:
        headline = "Not decided: there are no two validations to compare."
        kind = OPEN
    elif change.apart is False:
        headline = f"No change that can be told from chance after {subject.last_step} steps."
        kind = OPEN
    elif change.after > change.before:
        headline = f"The policy got better: {change.difference} on held-out problems."
        kind = GOOD
    elif change.after < change.before:
        headline = f"The policy got worse: {change.difference} on held-out problems."
        kind = BAD
    else:
        headline, kind = "Nothing changed on held-out problems.", OPEN
    sentences = [_measure_sentence(change)] if change else []
    sentences += filter(None, [_pass_sentence(subject)])
    sentences += _training_sentences(subject)
    return Verdict(kind, headline, [*sentences, _warned(warnings)])


def _overlap(
    subjects: Sequence[Subject], ahead: str, behind: str, best: _Change, second: _Change, source: str
) -> tuple[bool, str | None]:
    """(whether two subjects cannot be told apart at their last validation, the sentence with the numbers)."""
    runs = [next(s for s in subjects if s.name == name).runs for name in (behind, ahead)]
    if all(len(members) == 1 for members in runs):
        tables = [
            members[0].shares.get(c.steps[1], {}).get(source, {})
            for members, c in zip(runs, (second, best), strict=True)
        ]
        if all(tables) and not set(tables[0]) & set(tables[1]):
            return True, "They have no held-out problem in common."
        found = paired(*tables)
        if found:
            low, high, problems = found
            text = (
                f"Over the same {problems} problems {ahead} is from {100 * low:+.1f} to {100 * high:+.1f} points above."
            )
            return low <= 0, text
    if best.ends and second.ends:
        overlap = best.ends[1][0] <= second.ends[1][1]
        return overlap, f"Their 95 % intervals {'overlap' if overlap else 'have nothing in common'}."
    return True, "There is no interval to tell them apart by."


def _price(ahead: Subject, behind: Subject, best: _Change, second: _Change) -> tuple[float | None, list[str]]:
    """How many times the KL of the second the first one took, and sentences: both KLs, and the objective of both."""
    kls = [at_end(subject.curve("frpo/kl_to_go/first_token/mean")) for subject in (ahead, behind)]
    if kls[0] is None or kls[1] is None:
        return None, []
    text = [f"KL of an answer to the reference: {ahead.name} {number(kls[0])}, {behind.name} {number(kls[1])} nats."]
    settings = [run.config for subject in (ahead, behind) for run in subject.runs if run.config]
    betas = {float(beta) for c in settings if (beta := c.get("algorithm.frpo.kl_coef"))}
    if len(betas) == 1:
        (beta,) = betas
        first, other = (number(c.after - beta * kl) for c, kl in zip((best, second), kls, strict=True))
        text.append(
            f"What kl_coef={beta:g} weighs, held-out mean less {beta:g} times the KL: {ahead.name} {first}, "
            f"{behind.name} {other}."
        )
    return kls[0] / kls[1] if kls[1] > 1e-4 else None, text


def of_several(subjects: Sequence[Subject], warnings: Sequence[Warning]) -> Verdict:
    """Which subject is ahead on the held-out problems, and whether that can be told from chance."""
    changes = {subject.name: _main_measure(subject) for subject in subjects}
    measured = [subject for subject in subjects if changes[subject.name] is not None]
    sentences = []
    source = _common_source(measured) if len(measured) > 1 else None
    if source is not None:
        changes |= {subject.name: _main_measure(subject, source) for subject in measured}
    ranked = sorted((c.after, name) for name, c in changes.items() if c is not None)[::-1]
    if len(ranked) < 2:
        headline, kind = "Not decided: fewer than two of them have two validations.", OPEN
    elif source is None:
        headline, kind = "Not comparable: they were validated on different data sets.", OPEN
        sentences += [f"{name}: {c.label} {c.shown(True)}." for name, c in changes.items() if c is not None]
    else:
        best, second = (changes[name] for _, name in ranked[:2])
        overlap, why = _overlap(subjects, ranked[0][1], ranked[1][1], best, second, source)
        if best.after == second.after:
            headline, kind = f"{ranked[0][1]} and {ranked[1][1]} are equal on the held-out problems.", OPEN
        elif overlap:
            headline, kind = f"{ranked[0][1]} and {ranked[1][1]} cannot be told apart on the held-out problems.", OPEN
        else:
            headline, kind = f"{ranked[0][1]} is ahead on the held-out problems.", GOOD
        sentences += [why] if why else []
        found = [next(s for s in subjects if s.name == name) for _, name in ranked[:2]]
        times, text = _price(*found, best, second)
        if kind == GOOD and times is not None and times > 1.1:
            gap = f"{100 * (best.after - second.after):.1f} points" if best.share else number(best.after - second.after)
            headline, kind = f"{ranked[0][1]} is ahead by {gap} at {times:.1f} times the KL.", OPEN
        sentences += text
        sentences.insert(
            0, f"Last validation, {best.label}: {ranked[0][1]} {best.shown(True)}; {ranked[1][1]} {second.shown(True)}."
        )
        if len({c.steps[1] for c in changes.values() if c}) > 1:
            sentences.append("Their last validations are at different steps: compare with care.")
    lost = [name for name, c in changes.items() if c is None]
    if lost:
        sentences.append(f"Without two validations: {', '.join(lost)}.")
    header = [
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
    rows = [_row(subject, changes[subject.name], source) for subject in subjects]
    return Verdict(kind, headline, [*sentences, _warned(warnings)], header, rows)


def _row(subject: Subject, change: _Change | None, common: str | None) -> list[str]:
    passes = "–"
    for source in [common] if common in subject.sources() else subject.sources()[:1]:
        ks = subject.ks(source)
        c = subject.validation(source, f"pass@{ks[-1]}") if ks else None
        if c is not None:
            passes = f"pass@{ks[-1]} {_percent(c.values[-1], (c.low[-1], c.high[-1]) if c.low and c.high else None)}"
    return [
        subject.name,
        str(len(subject.runs)),
        str(subject.last_step),
        change.shown(False) if change else "–",
        change.shown(True) if change else "–",
        passes,
        number(at_end(subject.curve("frpo/kl_to_ref/k1", "actor/reward_kl_penalty", "actor/kl_loss"))),
        number(at_end(subject.curve("actor/entropy", "actor/entropy_loss"))),
        number(at_end(subject.curve("response_length/mean"))),
    ]


def decide(subjects: Sequence[Subject], warnings: Sequence[Warning]) -> Verdict:
    """The verdict on what the page shows."""
    return of_one(subjects[0], warnings) if len(subjects) == 1 else of_several(subjects, warnings)
