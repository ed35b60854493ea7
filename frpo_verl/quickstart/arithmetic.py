"""A number and a few small ones to add to it, every partial sum written out: learnt in a minute on a CPU.

A question is ``"47+8+5+9="``. The answer holds every partial sum but the last on a line of its own, then the total
behind GSM8K's marker::

    55
    60
    #### 69

Characters are tokens for the model this is made for: an answer of the default levels has 14 to 17 of them with the end
marker, and no level has more than 21.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

DATA_SOURCE = "arithmetic"

#: level -> (how many numbers are added to the first, the largest of them); the first has two digits
LEVELS = {1: (3, 5), 2: (3, 7), 3: (3, 9), 4: (4, 9), 5: (3, 99)}
DEFAULT_LEVELS = (1, 2, 3)


@dataclass(frozen=True)
class Problem:
    """One sum: ``terms`` are its numbers in the order asked, ``level`` the row of LEVELS it was drawn from."""

    terms: tuple[int, ...]
    level: int

    @property
    def question(self) -> str:
        return "+".join(str(t) for t in self.terms) + "="

    @property
    def partial_sums(self) -> tuple[int, ...]:
        """Running sums from the second term on; the last one is the answer."""
        return tuple(accumulate(self.terms))[1:]

    @property
    def answer(self) -> str:
        return str(sum(self.terms))

    @property
    def solution(self) -> str:
        return write_out([str(s) for s in self.partial_sums])

    @property
    def key(self) -> tuple[int, ...]:
        """Equal for two problems that differ in the order of their terms only; what "overlap" is measured by."""
        return tuple(sorted(self.terms))


def write_out(partial_sums: Sequence[str]) -> str:
    """Answer text from the partial sums: one a line, the last behind ``#### ``."""
    return "\n".join([*partial_sums[:-1], f"#### {partial_sums[-1]}"])


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """The levels as a sorted tuple without repetitions; ValueError if there is none or one is unknown."""
    unknown = [level for level in levels if level not in LEVELS]
    if unknown or not levels:
        raise ValueError(f"levels={list(levels)}: give one or more of {sorted(LEVELS)}")
    return tuple(sorted(set(levels)))


def _rng(*parts: object) -> random.Random:
    return random.Random("/".join(str(p) for p in parts))  # a string seed is hashed the same in every process


def draw(rng: random.Random, level: int) -> Problem:
    """One problem of a level: the first term uniform over 10 .. 99, the others over 1 .. the level's largest."""
    n_added, largest = LEVELS[level]
    return Problem((rng.randint(10, 99), *(rng.randint(1, largest) for _ in range(n_added))), level)


def stream(seed: int, levels: Sequence[int], exclude: frozenset | set = frozenset()) -> Iterator[Problem]:
    """Endless problems, the levels in turn; ``exclude`` holds keys that never come. Repetitions are possible."""
    rng = _rng("stream", seed)
    levels = check_levels(levels)
    while True:
        for level in levels:
            problem = draw(rng, level)
            while problem.key in exclude:
                problem = draw(rng, level)
            yield problem


def sample_distinct(
    name: str, size: int, levels: Sequence[int], seed: int, exclude: frozenset | set = frozenset()
) -> list[Problem]:
    """``size`` problems with distinct keys, none of them in ``exclude``, the levels in turn.

    Deterministic in (name, seed, levels, exclude), and a longer list begins with the shorter one.
    Raises ValueError when a level cannot give that many.
    """
    if size < 0:
        raise ValueError(f"{name}: size={size}: give a number >= 0")
    rng = _rng(name, seed)
    levels = check_levels(levels)
    seen = set(exclude)
    problems = []
    for i in range(size):
        level = levels[i % len(levels)]
        for _ in range(1000):
            problem = draw(rng, level)
            if problem.key not in seen:
                break
        else:
            raise ValueError(
                f"{name}: size={size}: level {level} has too few distinct problems left after {i}; "
                "ask for fewer rows or add a higher level"
            )
        seen.add(problem.key)
        problems.append(problem)
    return problems


def make_splits(
    train_size: int = 3072, test_size: int = 128, levels: Sequence[int] = DEFAULT_LEVELS, seed: int = 0
) -> dict[str, list[Problem]]:
    """``{"train": [...], "test": [...]}`` without a common key; the test does not depend on ``train_size``."""
    test = sample_distinct("test", test_size, levels, seed)
    train = sample_distinct("train", train_size, levels, seed, exclude={p.key for p in test})
    return {"train": train, "test": test}


def from_question(question: str, level: int = 0) -> Problem:
    """The problem a question was written from; ValueError if it is none of ours."""
    body = question.strip()
    if not body.endswith("=") or not all(t.isdigit() for t in body[:-1].split("+")):
        raise ValueError(f"question={question!r}: expected a sum such as '12+34='")
    return Problem(tuple(int(t) for t in body[:-1].split("+")), level)
