r"""Make tests/support/labelled/verifier_adversarial.jsonl: ground truths of every type, mutated into something equal and into something
different. The label is that of the mutation, no verifier is asked.

    python benchmarks/verifier_adversarial.py [--out FILE.jsonl]
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path

from frpo_verl.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]

NUMBERS = [Fraction(7, 3), Fraction(-5, 8), Fraction(22, 7), Fraction(3, 4), Fraction(17, 6)]
INTEGERS = [12, -7, 1080, 32349, 100]
SURDS = [(2, 3), (5, 2), (1, 7)]  # a sqrt(b)
UNITS = [
    ("J", "kJ", "joules"), ("km", "nm", "kilometers"), ("cm", "mm", "centimeters"), ("kg", "g", "kilograms"),
    ("m/s", "km/h", "meters per second"), ("hours", "minutes", "hr"), ("cm^2", "cm^3", "square centimeters"),
    ("dollars", "euros", "USD"), ("inches", "feet", "in"), ("mL", "L", "milliliters"),
]  # fmt: skip
NOT_UNITS = ("halves", "tenths", "squared", "dozen", "or two", "and a half", "hundredths", "cubed", "thirds", "or 6")
FORMULAS = [  # ground truth, equal, different
    ("x^2-1", ["(x-1)(x+1)", "-1+x^2", "x \\cdot x - 1"], ["x^2+1", "(x-1)^2", "x-1", "X^2-1"]),
    ("a_n", ["a_{n}", "{a}_{n}"], ["a", "n", "a_{n+1}", "a_m"]),
    ("F_{30}", ["F_{ 30 }"], ["F", "30", "F_{3}", "F_{29}"]),
    ("\\frac{n(n+1)}{2}", ["\\frac{n^2+n}{2}", "\\frac{1}{2}n(n+1)"], ["\\frac{n(n-1)}{2}", "n(n+1)", "\\frac{n^2+1}{2}"]),
    ("2^{n+1}", ["2 \\cdot 2^n", "2^n+2^n"], ["2^n", "2^{n-1}", "2n+1"]),
    ("\\sqrt{x}+y", ["y+\\sqrt{x}", "y + x^{1/2}"], ["\\sqrt{x+y}", "\\sqrt{y}+x", "\\sqrt{x}"]),
    ("\\cos 2x", ["1-2\\sin^2 x", "\\cos(2x)"], ["2\\cos x", "\\cos x", "1-\\sin^2 x"]),
    ("3R^2", ["3 R^{2}", "R^2 \\cdot 3"], ["3r^2", "3R", "R^2"]),
    ("(a-x)^{6000}", ["(x-a)^{6000}", "(-x+a)^{6000}"], ["(a+x)^{6000}", "(a-x)^{5999}"]),
    ("\\frac{1}{x+1}", ["(x+1)^{-1}", "\\frac{2}{2x+2}"], ["\\frac{1}{x-1}", "\\frac{1}{x}+1"]),
    ("e^{2}", ["e \\cdot e", "(e)^2", "7.389056"], ["2e", "e^3", "7.38"]),
    ("\\log_2 3", ["\\frac{\\ln 3}{\\ln 2}"], ["\\log_3 2", "\\log 3", "\\frac{3}{2}"]),
]  # fmt: skip
SOLVED = [  # variable, value, restatements
    ("x", "5", ["2x=10", "x-5=0", "x+1=6", "x^2=25"]), ("y", "2x+3", ["y-2x=3", "2x-y+3=0", "2y=4x+6"]),
    ("n", "\\frac{3}{4}", ["4n=3", "n-\\frac{3}{4}=0"]), ("t", "-2", ["t+2=0", "-t=2", "3t=-6"]),
]  # fmt: skip
RANGES = [  # solved inequality, other spellings, restatements, other ranges
    ("x > 2", ["2 < x", "(2,\\infty)", "x \\in (2, +\\infty)"], ["x-2>0", "2x>4", "-x<-2"], ["x \\ge 2", "x<2", "[2,\\infty)", "y>2"]),
    ("-1 < x \\le 4", ["4 \\ge x > -1", "(-1,4]", "x \\in (-1, 4]"], ["-2<2x\\le 8", "0<x+1\\le 5"], ["[-1,4)", "(-1,4)", "-1<x<4"]),
    ("[0, 9)", ["0 \\le x < 9", "\\left[0,9\\right)"], ["0\\le 2x<18"], ["(0,9)", "[0,9]", "\\{0,9\\}", "0,9", "[0,8)"]),
    ("(-\\infty, 2) \\cup (3, \\infty)", ["x<2 \\text{ or } x>3", "(3,\\infty)\\cup(-\\infty,2)"], ["x-2<0 \\text{ or } x-3>0"],
     ["(-\\infty,2]\\cup[3,\\infty)", "(-\\infty,3)\\cup(2,\\infty)", "(-\\infty,2)"]),
]  # fmt: skip


def both(kind, gold, equal, wrong):
    """[(kind, ground truth, answer, equal)]"""
    return [(kind, gold, answer, True) for answer in equal] + [(kind, gold, answer, False) for answer in wrong]


def rows():
    """Yield (kind, ground truth, answer, equal)."""
    for q in NUMBERS:
        gold = f"\\frac{{{q.numerator}}}{{{q.denominator}}}"
        n, d = q.numerator, q.denominator
        equal = [f"{n}/{d}", f"\\dfrac{{{3 * n}}}{{{3 * d}}}", f"x={gold}", f"{n} \\div {d}", f"{2 * n}/{2 * d}"]
        wrong = [f"\\frac{{{d}}}{{{n}}}", f"{n + 1}/{d}", f"{-n}/{d}", f"{n}", f"{n},{d}", f"({n},{d})", f"{n}/{d}+x"]
        decimal = f"{float(q):.8f}"
        (equal if Fraction(decimal) == q or d in (3, 6, 7) else wrong).append(decimal)
        wrong.append(f"{float(q):.2f}" if Fraction(f"{float(q):.2f}") != q else f"{float(q) + 0.01:.3f}")
        wrong += [f"{n}={n + 1}/{d}", f"{gold}={gold}+1", f"{gold}\\text{{ or }}{n}"]
        yield from both("fraction", gold, equal, wrong)
    for n in INTEGERS:
        equal = [f"{n:,}", f"{n}.0", f"{n:,}".replace(",", "{,}"), f"{n:,}".replace(",", "\\,"), f"{2 * n}/2"]
        equal += [f"x={n}", f"{n - 1}+1", f"{n}\\text{{ dollars}}", f"\\$ {n}" if n > 0 else f"({n})"]
        wrong = [f"{n}0", f"{n}.5", f"{n}x", f"{n}={n + 1}", f"x={n - 1}={n}", f"{n},{n + 1}", f"\\{{{n}, 0\\}}"]
        wrong += [f"{n}!", f"{n}\\text{{ (not {n + 1})}}", f"\\phantom{{{n}}}", f"{n}_{{13}}"]
        wrong += [f"{n} \\text{{ or }} {n + 1}", f"{n}i"]
        wrong += [f"{n}\\text{{ {word}}}" for word in NOT_UNITS[:6]]
        if n >= 1000:
            wrong += [f"{n // 1000}, {n % 1000:03d}", f"({n // 1000},{n % 1000:03d})"]
        yield from both("integer", str(n), equal, wrong)
    for a, b in SURDS:
        gold = (str(a) if a != 1 else "") + f"\\sqrt{{{b}}}"
        exact = a * b**0.5
        equal = [
            f"\\sqrt{{{a * a * b}}}", f"{a}*sqrt({b})", f"\\frac{{{a * b}}}{{\\sqrt{{{b}}}}}", f"{exact:.7f}",
            f"{a}\\cdot {b}^{{1/2}}",
        ]  # fmt: skip
        wrong = [
            f"\\sqrt{{{b + 1}}}", f"{a + 1}\\sqrt{{{b}}}", f"{exact:.2f}", f"{a}{b}", f"-{gold}", f"\\pm {gold}",
            f"{gold} + n",
        ]  # fmt: skip
        yield from both("radical", gold, equal, wrong)
    for unit, other, long in UNITS:
        gold = f"25\\text{{ {unit}}}"
        equal = ("25", f"25 {long}", f"25\\,\\mathrm{{{unit}}}", f"25.0\\text{{ {unit}}}")
        yield from both("unit", gold, equal, (f"25\\text{{ {other}}}", f"26\\text{{ {unit}}}", f"250\\text{{ {unit}}}"))
    for word in NOT_UNITS:
        yield "unit", "8", f"8 {word}", False
    for gold, equal, wrong in (
        ("5\\text{ PM}", ["5 p.m.", "5 pm"], ["5 AM", "5\\text{ a.m.}", "6 PM"]),
        ("20^\\circ\\text{C}", ["20°C", "20 ^{\\circ} \\mathrm{C}"], ["20^\\circ\\text{F}", "20\\text{ rad}", "21°C"]),
        ("30^\\circ", ["30", "30 degrees", "30°"], ["30\\text{ radians}", "31^\\circ", "30°C"]),
        ("\\$5", ["5", "5\\text{ dollars}", "\\$5.00"], ["5€", "£5", "5\\text{ cents}", "¥5"]),
    ):
        yield from both("unit", gold, equal, wrong)
    for gold, equal, wrong in FORMULAS:
        yield from both(
            "formula", gold, [gold, f"w={gold}", *equal], [*wrong, f"{gold}, {wrong[0]}", f"{gold}={wrong[0]}"]
        )
    for name, value, restated in SOLVED:
        gold = f"{name}={value}"
        yield from both("solved", gold, (value, f"{value}={name}", f"{name} = {value}", f"\\({name}={value}\\)"), ())
        curve = "x" in value  # an equation in two variables may be written in any form, one in one is to be solved
        yield from (("solved", gold, a, curve) for a in restated)
        yield from both("solved", gold, (), (f"z={value}", f"{name}={value}+1", name))
    for gold, equal, restated, other in RANGES:
        yield from both("range", gold, [gold, *equal], [*restated, *other])
    for x, y in ((1, 2), (99, 503), (-3, 4)):
        for kind, gold, equal, wrong in (
            ("tuple", f"({x},{y})", (f"({x}, {y})", f"\\left({x},{y}\\right)", f"(x,y)=({x},{y})", f"({x}.0,{y})"),
             (f"({y},{x})", f"{x},{y}", f"\\{{{x},{y}\\}}", f"({x},{y},0)", f"({x})", f"[{x},{y}]", f"{x}{y}", f"({x},{y + 1})")),
            ("list", f"{x}, {y}", (f"{y}, {x}", f"\\{{{x},{y}\\}}", f"{x} \\text{{ and }} {y}", f"{y}\\text{{ or }}{x}"),
             (f"{x}", f"{x}, {y}, 7", f"{x}, {y + 1}", f"({y},{x})", f"{x}+{y}")),
            ("set", f"\\{{{x},{y}\\}}", (f"{y}, {x}", f"\\{{{y},{x}\\}}", f"\\{{{x},{y},{x}\\}}"),
             (f"({x},{y})", f"\\{{{x}\\}}", f"[{x},{y}]", f"\\{{{x},{y},0\\}}")),
            ("names", f"x={x}, y={y}", (f"y={y}, x={x}", f"x={x} \\text{{ and }} y={y}"),
             (f"{y},{x}", f"y={x}, x={y}", f"x={x}", f"({y},{x})", f"x={x}, z={y}")),
            ("names", f"(x,y)=({x},{y})", (f"({x},{y})", f"x={x}, y={y}", f"y={y}, x={x}", f"(y,x)=({y},{x})"),
             (f"({y},{x})", f"x={y}, y={x}", f"{y},{x}", f"(y,x)=({x},{y})")),
        ):  # fmt: skip
            yield from both(kind, gold, equal, wrong)
    for matrix, equal, wrong in (
        ("\\begin{pmatrix}2&4\\\\6&8\\end{pmatrix}", ["2\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{bmatrix} 2 & 4 \\\\ 6 & 8 \\end{bmatrix}",
         "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}+\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"],
         ["\\begin{vmatrix}2&4\\\\6&8\\end{vmatrix}", "\\begin{pmatrix}2&6\\\\4&8\\end{pmatrix}", "3\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "-8",
          "\\begin{pmatrix}2&4\\end{pmatrix}", "2,4,6,8"]),
        ("\\begin{pmatrix}1\\\\-2\\\\3\\end{pmatrix}", ["\\begin{bmatrix}1\\\\-2\\\\3\\end{bmatrix}", "\\begin{pmatrix}1.0\\\\-4/2\\\\3\\end{pmatrix}"],
         ["\\begin{pmatrix}1&-2&3\\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\\\3\\end{pmatrix}", "\\{1,-2,3\\}"]),
    ):  # fmt: skip
        yield from both("matrix", matrix, [matrix, *equal], wrong)
    for gold, equal, wrong in (
        ("4210_5", ["4210_{5}", "4210_{\\text{five}}"], ["4210", "5", "4210_6", "4201_5", "555", "421_5"]),
        ("101_2", ["101_{2}"], ["101", "5", "101_3", "2", "1010_2"]),
        ("7:32", ["\\frac{7}{32}", "7 : 32"], ["32:7", "7", "7:33", "7,32"]),
        ("\\text{Evelyn}", ["evelyn", "\\textbf{Evelyn}", "Evelyn."], ["Carla", "E", "Evelyn or Carla", "not Evelyn"]),
        ("\\text{(C)}", ["C", "(c)", "\\text{C}"], ["(D)", "B", "\\text{A or C}", "3"]),
        ("\\text{even}", ["even", "Even"], ["odd", "2", "uneven", "even or odd"]),
        ("50\\%", ["50", "0.5", "\\frac{1}{2}", "50 percent"], ["0.5\\%", "5", "500\\%", "51\\%"]),
        ("\\infty", ["+\\infty"], ["-\\infty", "0", "\\frac{1}{0}"]),
        ("0", ["0.0", "-0", "\\frac{0}{5}"], ["\\frac{1}{\\infty}", "\\emptyset", "\\{0\\}", "x", "\\phantom{0}"]),
        ("2+3i", ["3i+2", "2+3 i"], ["2-3i", "3+2i", "5", "2+3"]),
        ("1 \\pm \\sqrt{2}", ["1+\\sqrt{2}, 1-\\sqrt{2}", "1-\\sqrt2 \\text{ and } 1+\\sqrt2"], ["1+\\sqrt{2}", "1", "\\pm \\sqrt{2}"]),
        ("x^2+y^2=1", ["y^2+x^2=1", "2x^2+2y^2=2"], ["1", "x^2+y^2", "x^2-y^2=1", "x^2+y^2=2"]),
        ("f(x)=2x+1", ["f(x)=1+2x", "2x+1", "f(x) = 2x + 1"], ["f(x)=2x", "g(x)=2x+1", "f(x)", "2x"]),
        ("1.25", ["1.250", "5/4", "1\\frac14"], ["1.2500001", "1.249999", "1.3", "1,25,0"]),
        ("1.234567", ["1.2345670"], ["1.2345671", "1.23457", "1.23456"]),
    ):  # fmt: skip
        yield from both("other", gold, equal, wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    home = ROOT / "tests" / "support" / "labelled"
    parser.add_argument("--out", type=Path, default=home / "verifier_adversarial.jsonl")
    args = parser.parse_args()
    made = dict.fromkeys(rows())
    lines = [json.dumps({"kind": k, "gold": g, "answer": a, "equal": e}, ensure_ascii=False) for k, g, a, e in made]
    write_atomically(args.out, "\n".join(lines) + "\n")
    equal = sum(e for _, _, _, e in made)
    print(f"{len(made)} rows: {equal} equal, {len(made) - equal} different")


if __name__ == "__main__":
    main()
