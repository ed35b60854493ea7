"""Finite automata whose best policy is known exactly, under both kinds of advantages.

Problem "commit": the first token chooses one of three ways (reference: .7, .25, .05); each further token is right, with
the way's own probability, or spoils the answer for good. An answer in the three ways succeeds with .05, .2, .6 under the
reference, whatever the horizon. Problem "random": 8 states, 4 actions, moves and reference drawn at random, reward 1 for
ending in one of two states.

Regret is J* - J, exact for both policies. With a mean baseline J = P(right) - beta KL(pi || ref), and J* comes from

    V_T(s) = r(s),   V_t(s) = beta log sum_a ref(a|s) exp( V_{t+1}(s') / beta )

Divided by the group's standard deviation, P(right) is replaced by the utility U(P) that this division ascends in groups
of 16, U'(p) = E[std] / (p (1 - p)), and J* is the best over the policies that are optimal for rewards lambda r.

A mean that includes the answer itself shrinks the reward's part by 15/16, and with it the balance to beta: the
floor is the regret of the best policy for beta * 16/15, what remains for ever of an unbiased placement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

GROUP = 16


@dataclass(frozen=True)
class Automaton:
    """Next states (S, A), reference (S, A), reward of ending in a state (S,); every walk starts in state 0."""

    following: np.ndarray
    reference: np.ndarray
    reward: np.ndarray


def commit(horizon: int) -> Automaton:
    success, first = np.array([0.05, 0.2, 0.6]), (0.7, 0.25, 0.05)
    right = success ** (1 / (horizon - 1))
    following = np.array([[1, 2, 3], [1, 4, 4], [2, 4, 4], [3, 4, 4], [4, 4, 4]])
    ways = [[p, (1 - p) / 2, (1 - p) / 2] for p in right]
    return Automaton(following, np.array([first, *ways, [0.4, 0.3, 0.3]]), np.array([0.0, 1, 1, 1, 0]))


def random_automaton(seed: int) -> Automaton:
    rng = np.random.default_rng(1000 + seed)
    states, actions = 8, 4
    following = rng.integers(0, states, (states, actions))
    reference = 0.9 * rng.dirichlet(np.ones(actions), states) + 0.1 / actions
    reward = np.zeros(states)
    reward[rng.choice(states, 2, replace=False)] = 1
    return Automaton(following, reference, reward)


def make(problem: str, horizon: int, seed: int) -> Automaton:
    return commit(horizon) if problem == "commit" else random_automaton(seed)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def best_policy(a: Automaton, horizon: int, beta: float, scale: float = 1.0) -> tuple[np.ndarray, float]:
    """log pi* (T, S, A) for reward `scale * r`, and its value in state 0, by soft dynamic programming."""
    value, policy = scale * a.reward, []
    for _ in range(horizon):
        exponent = np.log(a.reference) + value[a.following] / beta
        top = exponent.max(-1, keepdims=True)
        normaliser = top + np.log(np.exp(exponent - top).sum(-1, keepdims=True))
        policy.append(exponent - normaliser)
        value = beta * normaliser[:, 0]
    return np.stack(policy[::-1]), float(value[0])


def evaluate(a: Automaton, log_pi: np.ndarray) -> tuple[float, float, float, list[float]]:
    """P(right), KL to the reference and entropy of a whole answer, and the first token's probabilities; exact."""
    at, kl, entropy = np.zeros(len(a.reward)), 0.0, 0.0
    at[0] = 1
    for step in log_pi:
        moves = at[:, None] * np.exp(step)
        kl += float((moves * (step - np.log(a.reference))).sum())
        entropy -= float((moves * step).sum())
        at = np.bincount(a.following.ravel(), moves.ravel(), len(at))
    return float(at @ a.reward), kl, entropy, np.exp(log_pi[0, 0]).tolist()


def slope_of(group: int, points: int = 4001) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid of pass rates, the utility that division by a group's standard deviation ascends, and its slope."""
    p, k = np.linspace(0, 1, points), np.arange(group + 1)
    choose = np.array([math.comb(group, i) for i in k])
    # the gradient is that of the mean over answers of (r - mean)/std * score: squares with 1/G, divides by the sample std
    std = np.sqrt(k / group * (1 - k / group) * (group - 1) / group)
    middle = (p[1:] + p[:-1]) / 2
    chance = choose * middle[:, None] ** k * (1 - middle[:, None]) ** (group - k)
    slope = (chance * std).sum(-1) / (middle * (1 - middle))
    return p, np.concatenate([[0], np.cumsum(slope * np.diff(p))]), np.interp(p, middle, slope)


def utility() -> tuple[np.ndarray, np.ndarray]:
    """Grid of pass rates and U(p), U' = E[std] / (p (1 - p)), std of a group of GROUP (sample std, as verl takes it)."""
    return slope_of(GROUP)[:2]


def best_objective(a: Automaton, horizon: int, beta: float, by_std: bool) -> tuple[float, float]:
    """J*, and the floor: the regret that the group's own mean leaves (0 where the utility accounts for it)."""
    if not by_std:
        best = best_policy(a, horizon, beta)[1]
        rate, kl, *_ = evaluate(a, best_policy(a, horizon, beta * GROUP / (GROUP - 1))[0])
        return best, best - (rate - beta * kl)
    grid, u = utility()
    best = -math.inf
    for scale in np.geomspace(0.1, 16, 400):
        rate, kl, *_ = evaluate(a, best_policy(a, horizon, beta, scale)[0])
        best = max(best, float(np.interp(rate, grid, u)) - beta * kl)
    return best, 0.0


# ------------------------------------------------------------------------- where expected gradients end on commit


def tilt(ref: np.ndarray, q: np.ndarray, beta: float) -> np.ndarray:
    """pi ~ ref exp(q / beta)."""
    x = np.log(ref) + (q - q.max(-1, keepdims=True)) / beta
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def level(ref: np.ndarray, q: np.ndarray, beta: float) -> np.ndarray:
    """pi with q - beta (1 - ref/pi) the same for every action: beta ref / (c - q), c found by bisection."""
    top = q.max(-1, keepdims=True)
    low, high = np.zeros_like(top), np.full_like(top, beta + float(np.ptp(q)) + 1.0)  # c - top
    for _ in range(100):
        c = (low + high) / 2
        above = (beta * ref / np.maximum(c + top - q, 1e-300)).sum(-1, keepdims=True) > 1
        low, high = np.where(above, c, low), np.where(above, high, c)
    p = beta * ref / (high + top - q)
    return p / p.sum(-1, keepdims=True)


def two_level(right: np.ndarray, value: np.ndarray, beta: float) -> np.ndarray:
    """`level` for two actions worth `value` and 0: the root of v p^2 - (v - beta) p - beta right = 0, p of the first."""
    b = value - beta
    root = np.sqrt(b * b + 4 * value * beta * right)
    safe = np.maximum(value, 1e-300)
    return np.where(b > 0, (b + root) / (2 * safe), 2 * beta * right / np.maximum(root - b, 1e-300))


def two_tilt(right: np.ndarray, value: np.ndarray, beta: float) -> np.ndarray:
    """`tilt` for two actions worth `value` and 0: p of the first."""
    return 1 / (1 + (1 - right) / right * np.exp(-value / beta))


def ends_at(
    start: np.ndarray, success: np.ndarray, length: int, worth: np.ndarray, beta: float, method: str
) -> tuple[np.ndarray, float]:
    """(chance of a right answer in each way, KL of an answer) where a method's expected gradient is 0; right ones are worth `worth`.

    method: local, k3 loss; future (reverse KL, the KL to come subtracted from the value), forward (the same with KL(ref || pi)).
    """
    first, later = (tilt, two_tilt) if method in ("future", "local") else (level, two_level)
    right = success ** (1 / (length - 1))
    value, chance, kl = worth.copy(), np.ones(3), np.zeros(3)
    for _ in range(length - 1):  # from the last token; a spoiled answer is worth 0 and stays at the reference
        p = np.clip(later(right, value, beta), 1e-300, 1 - 1e-16)
        reverse = p * np.log(p / right) + (1 - p) * np.log((1 - p) / (1 - right))
        value, kl, chance = p * value, p * kl + reverse, p * chance
        if method == "future":
            value = value - beta * reverse
        elif method == "forward":
            value = value - beta * (right * np.log(right / p) + (1 - right) * np.log((1 - right) / (1 - p)))
    p = first(start, value, beta)
    return p * chance, float((p * np.log(np.maximum(p, 1e-300) / start)).sum() + p @ kl)
