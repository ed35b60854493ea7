"""Answers made to hang, crash or bloat a verifier, by name, and random edits of honest ones; shared by the tests and
benchmarks/verifier.py."""

import random
import re

HOSTILE = {
    "python tower": "9**9**9", "caret tower": "9^9^9", "latex tower": "9^{9^{9^{9}}}", "factorial": "(10^7)!",
    "nested factorial": "((9!)!)!",
    "many factorials": "99!!!!",
    "tower of fives": r"\frac{5^{\left(5^{\left(5^{\left(5^5\right)}\right)} - 4\right)} - 5}{16}",
    "set of 3000": r"\{" + ",".join(map(str, range(3000))) + r"\}",
    "2000 fractions": r"\frac{1}{" * 2000 + "1" + "}" * 2000,
    "megabyte of digits": "1" * 1_000_000, "900 digits": "0." + "3" * 900, "open braces": "{" * 5000,
    "closing braces": "}" * 5000, "null bytes": "\x00" * 1000 + "1",
    "lone surrogates": "\ud800\udfff 7", "binomial": r"\binom{10000000}{5000000}",
    "long sum": r"\sum_{n=1}^{100000000} \frac{1}{n^2+\sqrt{2}}",
    "long product": r"\prod_{k=1}^{1000000} (k+\sqrt{2})", "expansion": r"(x+y+z+w+1)^{200}-\sqrt{2}",
    "integral": r"\int_0^1 \sin(\sin(\sin(x^x))) dx",
    "big exponent": "2^{1000000000}", "negative exponent": "2^{-10^{10}}",
    "nested logarithms": r"\log_{2^5}(\log_{2^4}(\log_{2^3}(\log_{2^2}(\log_{2^1}x))))",
    "nested roots": r"\sqrt{2+" * 200 + "2" + "}" * 200, "large angles": r"\sin(10^{400})^{\cos(10^{300})}",
    "5000 terms": "+".join(["1"] * 5000),
    "parentheses": "(" * 3000 + "1" + ")" * 3000,
    "matrix power": r"\begin{pmatrix}" + r"\\".join("&".join("1" * 60) for _ in range(60)) + r"\end{pmatrix}^{50}",
    "power chain": "x^" * 3000 + "x", "boxes": "\\boxed{" * 5000, "float exponent": "9e999999999",
    "gamma": r"\Gamma(10^{8})", "modulus": r"7^{7^{7^{7}}} \bmod 100",
    "roots of long numbers": "(" + "1" * 300 + ")^{1/3}+(" + "3" * 299 + ")^{1/5}",
    "minus signs": "-" * 100_000 + "1", "left right": r"\left(" * 900 + "1" + r"\right)" * 900,
    "commas": "," * 5000, "wide digits": "\U0001d7d7" * 5000, "million characters": "x+" * 500_000,
    "dots": "." * 200_000, "root index": r"\sqrt[1000000]{2^{999999}+1}",
}  # fmt: skip

# Made to get past the pre-filters of frpo_verl.rewards.guard.
STUBBORN = {
    "product of powers": r"(x^2+\sqrt{2})^{60}(x^3-\sqrt{5})^{60}(x^5+x+7)^{60}",
    "trigonometric powers": r"\tan(x)^{70}+\sin(x)^{64}\cos(y)^{62}-\sec(x)^{60}",
    "nested cosines": r"\cos(" * 30 + "x" + ")" * 30,
    "roots of roots": r"\sqrt{x+\sqrt{x+1+\sqrt{x+2+\sqrt{x+3+\sqrt{x+4+\sqrt{x+5+\sqrt{x^7}}}}}}}",
}  # fmt: skip

_PIECES = [*"0123456789+-*/^_={}()[],;:.!<>|&%$ '", "\\frac", "\\sqrt", "\\pi", "\\infty", "\\le", "\\cup", "\\in", "\\text{", "\\pm",
           "\\approx", " and ", " or ", "x", "i", "e", "n", "cm", "\\begin{pmatrix}", "\\end{pmatrix}", "\\\\", "°", "\\left(", "×"]  # fmt: skip


def fuzzed(answers, count, seed=0):
    """Return `count` pairs (ground truth, answer): honest pairs with one to six random edits of the answer.

    Args:
      answers: pairs (ground truth, answer).
      count: how many.
      seed: of the random edits.
    """
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        gold, answer = rng.choice(answers)
        tokens = re.findall(r"\\[A-Za-z]+|.", answer, re.DOTALL)[:80]
        for _ in range(rng.randint(1, 6)):
            at = rng.randint(0, len(tokens))
            kind = rng.randrange(4)
            if kind == 0:
                tokens.insert(at, rng.choice(_PIECES))
            elif kind == 1 and tokens:
                tokens.pop(at % len(tokens))
            elif kind == 2 and tokens:
                tokens[at % len(tokens)] = rng.choice(_PIECES)
            else:
                tokens[at:at] = tokens[at : at + rng.randint(1, 8)]
        out.append((gold, "".join(tokens)))
    return out
