"""Three ways to write a sum: the first character of an answer decides how likely the rest of it is to be right.

A question is ``"0132+4201="``: terms of a fixed number of digits, units first, here 2310 + 1024. The digits of two terms
are 0 to 4, so that nothing is carried and a tiny model learns them in a minute. An answer begins with the mark of a way,
goes on in that way, and holds the sum's digits, units first as well:

    A4333                     the bare sum
    B0132,4201,4333           the terms copied, then the sum
    C044,123,303,213          column by column: a digit of each term and one of the sum

The model of the quickstart learns them from data in which the common way is usually wrong and the rare one usually
right (``Habits``): each digit of the sum may be replaced by another one. What it can improve is the choice of the first
character, and the care with which it writes the sum; a penalty that looks at one token at a time does not see what
the first of these saves the others.

Characters are tokens for that model: two terms of four digits take 6, 16 and 17 tokens with the end marker.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

DATA_SOURCE = "three_ways"
WAYS = "ABC"
DIGITS, TERMS = 4, 2


@dataclass(frozen=True)
class Habits:
    """How the warm-up data are written: the share of each way, and how often its sum is right."""

    shares: tuple[float, ...] = (0.6, 0.3, 0.1)
    success: tuple[float, ...] = (0.05, 0.4, 0.9)

    def slip(self, way: str, digits: int) -> float:
        """Chance of a wrong digit at each place of the sum."""
        return 1 - self.success[WAYS.index(way)] ** (1 / digits)


def spell(number: int, width: int) -> str:
    """The digits of a number, units first."""
    return str(number).zfill(width)[::-1]


@dataclass(frozen=True)
class Problem:
    """A sum of ``terms``, each written with ``digits`` digits."""

    terms: tuple[int, ...]
    digits: int = DIGITS

    @property
    def question(self) -> str:
        return "+".join(spell(t, self.digits) for t in self.terms) + "="

    @property
    def answer(self) -> str:
        return str(sum(self.terms))

    @property
    def key(self) -> tuple[int, ...]:
        """Equal for two problems that differ in the order of their terms only; what "overlap" is measured by."""
        return tuple(sorted(self.terms))

    @property
    def sum_digits(self) -> str:
        return spell(sum(self.terms), self.digits)

    def written(self, way: str, total: str | None = None) -> str:
        """The answer in one way; ``total`` replaces the digits of the sum, units first."""
        total = self.sum_digits if total is None else total
        if way == "A":
            return way + total
        if way == "B":
            return way + ",".join([*(spell(t, self.digits) for t in self.terms), total])
        columns = zip(*(spell(t, self.digits) for t in self.terms), total, strict=True)
        return way + ",".join("".join(column) for column in columns)

    def with_slips(self, way: str, rng: random.Random, chance: float) -> str:
        """The answer in one way; each digit of the sum is another one with probability ``chance``."""
        total = [rng.choice("0123456789".replace(d, "")) if rng.random() < chance else d for d in self.sum_digits]
        return self.written(way, "".join(total))


def total_of(text: str) -> str:
    """The digits of the sum in an answer of any way, units first."""
    return "".join(column[-1] for column in text[1:].split(",")) if text[0] == "C" else text[1:].split(",")[-1]


def marked(text: str) -> str:
    """An answer with its sum again behind GSM8K's mark, for a reward that looks for one."""
    return f"{text}\n#### {total_of(text)}"


def read_sum(text: str, digits: int, terms: int = TERMS) -> int | None:
    """The sum that an answer states, None if it is written in none of the three ways.

    What a way copies from the question may be wrong; its form may not.
    """
    form = "".join("0" if c.isdigit() and c.isascii() else c for c in text)
    blank = Problem((0,) * terms, digits)
    if not text or text[0] not in WAYS or form != blank.written(text[0]):
        return None
    return int(total_of(text)[::-1])


def best_objective(chances: Sequence[float], beta: float) -> float:
    """The best pass rate - beta KL(pi || start) of an answer that any policy can have, the mean over problems.

        J* = mean of beta log(1 - p + p exp(1 / beta))

    Args:
        chances: of a right answer at the start, a problem each.
        beta: > 0.
    """
    return sum(beta * math.log(1 - p + p * math.exp(1 / beta)) for p in chances) / len(chances)


def from_question(question: str) -> Problem:
    """The problem a question was written from; ValueError if it is none of ours."""
    terms = question.strip().removesuffix("=").split("+")
    if not question.strip().endswith("=") or not all(t.isdigit() for t in terms) or len(set(map(len, terms))) != 1:
        raise ValueError(f"question={question!r}: expected a sum of equally long numbers such as '740+285='")
    return Problem(tuple(int(t[::-1]) for t in terms), len(terms[0]))


def draw(rng: random.Random, digits: int = DIGITS, terms: int = TERMS) -> Problem:
    """One problem; a digit is at most 9 divided by the number of terms, so that no column is carried."""
    largest = 9 // terms
    rows = ((rng.randint(0, largest) for _ in range(digits)) for _ in range(terms))
    return Problem(tuple(int("".join(map(str, row))) for row in rows), digits)


def _rng(*parts: object) -> random.Random:
    return random.Random("/".join(str(p) for p in parts))  # a string seed is hashed the same in every process


def stream(seed: int, exclude: Set = frozenset(), digits: int = DIGITS, terms: int = TERMS) -> Iterator[Problem]:
    """Endless problems; ``exclude`` holds keys that never come. Repetitions are possible."""
    rng = _rng("stream", seed)
    while True:
        problem = draw(rng, digits, terms)
        if problem.key not in exclude:
            yield problem


def sample_distinct(
    name: str, size: int, seed: int, exclude: Set = frozenset(), digits: int = DIGITS, terms: int = TERMS
) -> list[Problem]:
    """``size`` problems with distinct keys, none of them in ``exclude``; a longer list begins with the shorter one.

    Raises ValueError when there are not that many.
    """
    if size < 0:
        raise ValueError(f"{name}: size={size}: give a number >= 0")
    rng, seen = _rng(name, seed), set(exclude)
    problems: list[Problem] = []
    while len(problems) < size:
        tries = (draw(rng, digits, terms) for _ in range(1000))
        problem = next((problem for problem in tries if problem.key not in seen), None)
        if problem is None:
            few = f"too few distinct sums left after {len(problems)}; ask for fewer or for more digits"
            raise ValueError(f"{name}: size={size}: {few}")
        seen.add(problem.key)
        problems.append(problem)
    return problems


def make_splits(
    train_size: int = 3072, test_size: int = 128, digits: int = DIGITS, terms: int = TERMS, seed: int = 0
) -> dict[str, list[Problem]]:
    """``{"train": [...], "test": [...]}`` without a common key; the test does not depend on ``train_size``."""
    test = sample_distinct("test", test_size, seed, digits=digits, terms=terms)
    train = sample_distinct("train", train_size, seed, {p.key for p in test}, digits, terms)
    return {"train": train, "test": test}


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_unused: Any
) -> dict[str, Any]:
    """verl's reward: 1 for the right sum in any way; beside it which way was taken, so that verl logs the shares.

    Returns ``{"score", "acc", "pred", "way_A", "way_B", "way_C"}``.
    """
    question = (extra_info or {}).get("question")
    if not question:
        cure = "write the data with `python -m frpo_verl data three_ways`"
        raise ValueError(f"three_ways: extra_info has no question: {cure}")
    problem = from_question(question)
    found = read_sum(solution_str, problem.digits, len(problem.terms))
    right = str(found) == str(ground_truth)
    ways = {f"way_{way}": float(solution_str[:1] == way) for way in WAYS}
    return {"score": float(right), "acc": right, "pred": "" if found is None else str(found), **ways}
