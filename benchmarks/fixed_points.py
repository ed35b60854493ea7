"""Where each KL placement's expected gradient ends, and how noisy its estimate is, for answers of 6 to 8,192 tokens; exact.

    python benchmarks/fixed_points.py                    # no sampling; the tables of docs/results/fixed_points.md

Everything is on "commit" (automaton.py): the first token chooses one of three ways (reference .7, .25, .05); each further token
is right or spoils the answer; the ways succeed with .05, .2, .6 under the reference, whatever the length.

Bias. `future`, `sequence` and `reward` lead to the best policy, pi ~ ref exp(scale r / beta). `local` (a k2 loss) leads to the
policy with pi ~ ref exp(scale Q / beta) at every state, Q the chance of success under pi itself; a k3 loss to the one
where scale Q - beta (1 - ref/pi) is the same for every action. Both by dynamic programming from the last token. scale is 1
with a mean baseline. Divided by the standard deviation of a group, it is E[std] / (p (1 - p)) at the pass rate p that
the policy itself has, and the objective is the utility that has this slope.

Noise. A policy is a table of logits, so the squared gradient of an answer is sum_t W_t^2 |e_a - pi(s_t)|^2, and its mean needs
the first two moments of the KL before and after each token, given the state: forward and backward sums. Shown is the mean
squared gradient over that of the reward's part alone, at the same policy.

Drift. A second table takes tokens that have nothing to do with the reward, each with the same KL to the reference: what
remains of the noise when an answer's KL grows with its length, as a language model's does; and the KL of a token from which it
is a tenth of the reward's.

KL in the reward. Answers of six classes (three ways, right or wrong), all groups enumerated. Where rewards are all equal the
fused advantage divided by the standard deviation is -(KL_i - mean) / std, whatever beta: a fourth table shows what the KL
really weighs, and the share of the squared gradient that such groups hold.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import records
from automaton import Automaton, best_policy, commit, ends_at, slope_of, tilt

from frpo_verl.files import write_atomically

START, SUCCESS = np.array([0.7, 0.25, 0.05]), np.array([0.05, 0.2, 0.6])
RATE = float(START @ SUCCESS)
LENGTHS = (6, 24, 96, 384, 1536, 8192)
BETAS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
GROUPS = (5, 16)

# -------------------------------------------------------------------------------------------------------- bias


def reached(length: int, beta: float, method: str) -> tuple[float, float]:
    """(pass rate, KL of an answer) where `local` or the k3 loss ends on "commit", rewards of scale 1."""
    chances, kl = ends_at(START, SUCCESS, length, np.ones(3), beta, method)
    return float(chances.sum()), kl


def best(x: float) -> tuple[float, float]:
    """(pass rate, KL) of the policy ~ ref exp(x r), whatever the length."""
    p = 1 / (1 + (1 - RATE) / RATE * math.exp(-x))
    rest = (1 - RATE) / RATE * math.exp(-x) * p
    return p, p * math.log(p / RATE) + (rest * math.log(rest / (1 - RATE)) if rest > 0 else 0.0)


def regret(length: int, beta: float, method: str, group: int | None) -> float:
    """J* - J of the fixed point; group None: mean baseline.

    A mean that holds the answer itself takes 1/G of the reward: `future` is shown with it, in groups of 5."""
    if group is None:
        rate, kl = best((1 - 1 / GROUPS[0]) / beta) if method == "future" else reached(length, beta, method)
        p, d = best(1 / beta)
        return p - beta * d - (rate - beta * kl)
    grid, utility, slope = slope_of(group)

    def settle(policy: Callable[[float], tuple[float, float]]) -> tuple[float, float]:
        scale = float(np.interp(RATE, grid, slope))
        for _ in range(60):
            rate, kl = policy(scale)
            scale = 0.5 * scale + 0.5 * float(np.interp(rate, grid, slope))
        return rate, kl

    def objective(rate: float, kl: float) -> float:
        return float(np.interp(rate, grid, utility)) - beta * kl

    top = max(objective(*best(scale / beta)) for scale in np.geomspace(0.1, 16, 400))
    if method == "future":
        return top - objective(*settle(lambda scale: best(scale / beta)))
    return top - objective(*settle(lambda scale: reached(length, beta / scale, method)))


def bias_table() -> str:
    rows = []
    for name, group in (("mean", None), ("std, group of 5", 5), ("std, group of 16", 16)):
        for beta, method in itertools.product(BETAS, ("future", "local", "k3 loss")):
            lengths = LENGTHS if group is None or beta == 0.01 else LENGTHS[:-2]
            cells = [f"{max(0.0, regret(n, beta, method, group)):.4f}" if n in lengths else "" for n in LENGTHS]
            rows.append([name, f"{beta:g}", method, *cells])
    return records.table(["advantages", "beta", "method", *(f"{n:,}" for n in LENGTHS)], rows)


# -------------------------------------------------------------------------------------------------------- noise


def advantage_moments(group: int, rate: float, by_std: bool) -> dict[str, np.ndarray]:
    """Of an answer's advantage given its own reward (0, 1): mean, square, and mean times the others' share right."""
    others = np.arange(group)  # how many of the other group - 1 are right
    weight = np.array([math.comb(group - 1, k) * rate**k * (1 - rate) ** (group - 1 - k) for k in others])
    found: dict[str, list[float]] = {"mean": [], "square": [], "with_share": []}
    for reward in (0, 1):
        total = others + reward
        advantage = reward - total / group
        if by_std:
            std = np.sqrt(total * (group - total) / group / (group - 1))
            advantage = advantage / (std + 1e-6)
        for key, value in (("mean", 1.0), ("square", advantage), ("with_share", others / (group - 1))):
            found[key].append(float((weight * advantage * value).sum()))
    return {key: np.array(value) for key, value in found.items()}


METHODS = ("local", "k3 loss", "future", "future, position", "sequence", "sequence, position")


def squared_gradient(a: Automaton, log_pi: np.ndarray, beta: float, group: int, by_std: bool) -> dict[str, float]:
    """E sum_t W_t^2 |e_a - pi(s_t)|^2 of every method, and of the reward's part alone ("reward only")."""
    states = len(a.following)
    log_ref = np.log(a.reference)
    # backwards, from a state: chance right, E S, E S^2, E S r, with S the sum of log pi/ref over the tokens to come
    back = [np.stack([a.reward, *np.zeros((3, states))])]
    for step in log_pi[::-1]:
        d, after = step - log_ref, back[-1][:, a.following]
        right, one, two, mixed = after
        moments = np.stack([right, one + d, two + 2 * d * one + d * d, mixed + d * right])
        back.append((np.exp(step) * moments).sum(-1))
    back = back[::-1]
    rate, whole, whole2, whole_r = (float(x) for x in back[0][:, 0])
    m = advantage_moments(group, rate, by_std)
    (low, high), (low2, high2), (low_s, high_s) = m["mean"], m["square"], m["with_share"]
    # forwards, in a state: its chance, and that times E P, E P^2, with P the sum over the tokens before
    here = np.zeros((3, states))
    here[0, 0] = 1
    totals = dict.fromkeys(("reward only", *METHODS), 0.0)
    for t, step in enumerate(log_pi):
        pi, d = np.exp(step), step - log_ref
        right, one, two, mixed = back[t + 1][:, a.following]
        s1, s2, sr = one + d, two + 2 * d * one + d * d, mixed + d * right  # KL-to-go, token included, given (s, a)
        chance, p1, p2 = (x[:, None] * pi for x in here)
        size = 1 - 2 * pi + (pi * pi).sum(-1, keepdims=True)  # |e_a - pi|^2
        a2 = low2 + (high2 - low2) * right

        def add(name, mean_a_reg, reg2, weight=chance, size=size, a2=a2):
            totals[name] += float((size * (weight * a2 - 2 * beta * mean_a_reg + beta**2 * reg2)).sum())

        mean_a = low + (high - low) * right
        add("reward only", 0 * chance, 0 * chance)
        add("local", chance * mean_a * d, chance * d * d)
        local3 = 1 - np.exp(-d)
        add("k3 loss", chance * mean_a * local3, chance * local3**2)
        a_s = low * s1 + (high - low) * sr  # E[A S | s, a]
        add("future", chance * a_s, chance * s2)
        # the whole sum: P + S
        a_w = p1 * mean_a + chance * a_s
        w1, w2 = p1 + chance * s1, p2 + 2 * p1 * s1 + chance * s2
        add("sequence", a_w, w2)
        share_a = low_s + (high_s - low_s) * right  # E[A share of others right | s, a]
        for name, a_reg, reg1, reg2, mu, mu2, mu_r in (
            ("future, position", chance * a_s, chance * s1, chance * s2, *(float(here[0] @ x) for x in back[t][1:])),
            ("sequence, position", a_w, w1, w2, whole, whole2, whole_r),
        ):
            of_right, of_wrong = mu_r / rate, (mu - mu_r) / (1 - rate)  # E[S | right], E[S | wrong] over the others
            a_b = chance * (of_wrong * mean_a + (of_right - of_wrong) * share_a)  # E[A b]
            b2 = mu * mu + (mu2 - mu * mu) / (group - 1)
            add(name, a_reg - a_b, reg2 - 2 * reg1 * mu + chance * b2)
        nxt = np.zeros((3, states))
        for i, moment in enumerate((chance, p1 + chance * d, p2 + 2 * p1 * d + chance * d * d)):
            nxt[i] = np.bincount(a.following.ravel(), moment.ravel(), states)
        here = nxt
    return totals


def on_the_way(rate: float) -> float:
    """x at which the policy ~ ref exp(x r) succeeds with `rate`: one that every unbiased placement passes."""
    return math.log(rate / (1 - rate)) - math.log(RATE / (1 - RATE))


def noise_table() -> str:
    rows = []
    for rate, by_std, beta, group in itertools.product((0.5, 0.9), (False, True), (0.3, 0.01), GROUPS):
        for length in (6, 96, 8192):
            a = commit(length)
            log_pi, _ = best_policy(a, length, 1 / on_the_way(rate))
            found = squared_gradient(a, log_pi, beta, group, by_std)
            cells = [f"{found[m] / found['reward only']:.2f}" for m in METHODS]
            rows.append([f"{rate:g}", "std" if by_std else "mean", f"{beta:g}", group, f"{length:,}", *cells])
    return records.table(["pass rate", "advantages", "beta", "group", "tokens", *METHODS], rows)


# -------------------------------------------------------------------------------------------------------- drift


def token_variance(kl: float, ref: float = 0.9) -> float:
    """Variance of log pi/ref of one token of two symbols (reference .9, .1) whose KL is `kl`, pi below the reference."""
    low, high = 1e-9, ref
    for _ in range(200):
        p = (low + high) / 2
        d = np.log(np.array([p / ref, (1 - p) / (1 - ref)]))
        low, high = (p, high) if np.array([p, 1 - p]) @ d > kl else (low, p)
    return float(np.array([p, 1 - p]) @ d**2 - kl**2)


def drift(length: int, beta: float, kl: float, group: int) -> dict[str, float]:
    """Mean over the tokens of (beta * regulariser)^2, advantages of variance 1; every token has the same KL."""
    v, n = token_variance(kl), np.arange(1, length + 1)
    spread = 1 + 1 / (group - 1)
    values = {
        "local": v + kl**2, "future": float((v * n + (kl * n) ** 2).mean()), "future, position": float((v * n).mean()) * spread,
        "sequence": v * length + (kl * length) ** 2, "sequence, position": v * length * spread,
    }  # fmt: skip
    return {name: beta**2 * value for name, value in values.items()}


def drift_table(beta: float = 0.01, group: int = 16) -> str:
    names, rows = ("local", "future", "future, position", "sequence", "sequence, position"), []
    for length, kl in itertools.product((96, 1024, 8192), (1e-4, 1e-3, 1e-2, 1e-1)):
        found = drift(length, beta, kl, group)
        cells = [f"{1 + found[n]:.3f}" if found[n] < 10 else f"{1 + found[n]:.0f}" for n in names]
        rows.append([f"{length:,}", f"{kl:g}", f"{kl * length:g}", f"{beta * kl * length:g}", *cells])
    return records.table(["tokens", "KL a token", "KL of an answer", "beta KL", *names], rows)


def limit(length: int, method: str, beta: float = 0.01, group: int = 5, added: float = 0.1) -> float:
    """The KL of a token at which the noise that the regulariser adds is this share of the reward's; at most 5 nats."""
    low, high = 1e-6, 5.0
    for _ in range(50):
        kl = math.sqrt(low * high)
        low, high = (kl, high) if drift(length, beta, kl, group)[method] < added else (low, kl)
    return low


def limit_table() -> str:
    rows = [(f"{n:,}", *(f"{limit(n, m):.2g}" for m in ("future", "future, position"))) for n in (96, 1024, 8192)]
    return records.table(["tokens", "k1, future", "k1, future, position"], rows)


# ------------------------------------------------------------------------------------------------ the KL in the reward


def in_the_reward(rate: float, kl: float, beta: float, group: int, by_std: bool) -> dict[str, float]:
    """The KL in the reward on answers of six classes (three ways, right or wrong), by enumeration of all groups.

    The reference is right with `rate`; the policy is drawn towards right answers and towards the rare way until its KL is `kl`.
    The expected gradient is written as  x grad P(right) - y grad KL + rest; "beta": y / x. "equal": chance of a group of equal
    rewards; "share": what such groups hold of the squared gradient; "size": root of it over the reward's part alone.
    """
    ref = np.concatenate([START * rate, START * (1 - rate)])
    reward = np.repeat([1.0, 0.0], 3)
    pull = reward + np.tile([0.0, 0.3, 0.6], 2)
    low, high = 0.0, 200.0
    for _ in range(100):
        x = (low + high) / 2
        pi = tilt(ref, x * pull, 1.0)
        low, high = (x, high) if float(pi @ np.log(pi / ref)) < kl else (low, x)
    d = np.log(pi / ref)
    members = np.array(list(itertools.product(range(6), repeat=group)))
    chance = pi[members].prod(1)

    def advantages(scores: np.ndarray) -> np.ndarray:
        centred = scores - scores.mean(1, keepdims=True)
        return centred / (scores.std(1, ddof=1, keepdims=True) + 1e-6) if by_std else centred

    r = reward[members]
    equal = r.min(1) == r.max(1)
    first = members[:, 0]
    size = 1 - 2 * pi[first] + pi @ pi
    squares, alone = (chance * advantages(s)[:, 0] ** 2 * size for s in (r - beta * d[members], r))
    mean = np.bincount(first, chance * advantages(r - beta * d[members])[:, 0], 6)
    basis = np.stack([pi * (reward - pi @ reward), -pi * (d - pi @ d)], 1)
    x, y = np.linalg.lstsq(basis, mean, rcond=None)[0]
    return {
        "pass": float(pi @ reward), "beta": float(y / x), "equal": float(chance[equal].sum()),
        "share": float(squares[equal].sum() / squares.sum()), "size": float(squares.sum() / max(alone.sum(), 1e-300)) ** 0.5,
    }  # fmt: skip


def reward_table(group: int = 5) -> str:
    rows = []
    for by_std, beta in ((True, 0.1), (True, 0.01), (True, 0.001), (False, 0.01)):
        for kl, rate in itertools.product((0.01, 1.0), (0.001, 0.03, 0.3, 0.97)):
            f = in_the_reward(rate, kl, beta, group, by_std)
            cells = [
                f"{f['pass']:.3f}",
                f"{f['equal']:.3f}",
                f"{f['beta']:.3g}",
                f"{f['share']:.3f}",
                f"{f['size']:.2f}",
            ]
            rows.append(["std" if by_std else "mean", f"{beta:g}", f"{kl:g}", *cells])
    head = ("advantages", "beta", "KL", "pass rate", "equal groups", "what the KL weighs",
            "equal groups' share of the squared gradient", "gradient over the reward's alone")  # fmt: skip
    return records.table(head, rows)


def main() -> None:
    args = records.parser(__doc__, "build/fixed_points", kept=False).parse_args()
    tables = {
        "bias": bias_table,
        "noise": noise_table,
        "drift": drift_table,
        "limit": limit_table,
        "reward": reward_table,
    }
    for name, make in tables.items():
        text = make()
        write_atomically(args.out / f"{name}.md", text)
        print(f"{name}\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
