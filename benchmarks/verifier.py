r"""Accuracy and throughput of frpo_verl.rewards.math beside math-verify and the verifiers that come with verl.

    python benchmarks/verifier.py --data DIR [--out FILE.json] [--only accuracy|throughput|hostile]

Accuracy: every verifier on five labelled sets of tests/support/labelled: verifier_pairs (answers), verifier_upstream (the tests of
Math-Verify, verl and TRL; answers and responses), verifier_adversarial (mutations; the label is
the mutation's), verifier_probe
(answers and responses of kinds that the others do not have) and verifier_heldout (written before the rules that they try). An
answer is given in the form that the verifier looks for (`\boxed{}`, for math_dapo "Answer:"), a response as it is.
Throughput: answers judged per second by 8 threads, warm, the best of 3 runs, this verifier and verl's math_verify, each in a
process of its own: GSM8K test and AIME24/AMC23 (numeric) and the non-rational problems of MATH500, each with one right and one
wrong response a problem (the data set's own solution; the same with another problem's answer); each set twice: with the answer
as it is written in the data set, and respelled as \frac{2(...)}{2}, so that equal text does not help.
Hostile: each answer of tests/support/hostile_answers.py at the default deadline. DIR holds gsm8k/test.jsonl and
eval/{math500,aime24,amc23}.jsonl.
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import records

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
from hostile_answers import HOSTILE, STUBBORN  # noqa: E402

LABELLED = ROOT / "tests" / "support" / "labelled"
THREADS = 8
REPEATS = 3
SETS = ("verifier_pairs", "verifier_upstream", "verifier_adversarial", "verifier_probe", "verifier_heldout")
VERIFIERS = ("frpo_verl", "math-verify", "math_verify", "math_dapo", "prime_math")
LIMIT = 900  # seconds for one verifier on one set


def boxed(text):
    return "Therefore the answer is $\\boxed{" + text + "}$."


def load(name):
    """Return a function (response, ground truth, data source) -> bool and the form in which it wants an answer."""
    if name == "frpo_verl":
        from frpo_verl.rewards.math import compute_score

        return (lambda response, gold, source: compute_score(source, response, gold)["acc"] == 1.0), boxed
    if name == "math-verify":
        from math_verify import parse, verify

        return (lambda response, gold, _: verify(parse(f"${gold}$"), parse(response))), boxed
    if name == "math_verify":
        from verl.utils.reward_score.math_verify import compute_score

        return (lambda response, gold, _: compute_score(response, gold) == 1.0), boxed
    if name == "math_dapo":
        from verl.utils.reward_score.math_dapo import compute_score

        return (lambda response, gold, _: bool(compute_score(response, gold)["acc"])), (lambda text: f"Answer: {text}")
    from verl.utils.reward_score.prime_math import compute_score

    return (lambda response, gold, _: bool(compute_score(response, gold)[0])), boxed


def child_main(name, rows_file, threads):
    """Judge the rows of a file; print {"verdicts", "seconds"}; the parent ends this process and all below it."""
    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))  # not every verifier bounds its memory
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["FRPO_VERL_VERIFY_WORKERS"] = "4"  # as many processes as verl's math_verify uses
    judge, form = load(name)
    job = json.loads(Path(rows_file).read_text())
    texts = [form(row["answer"]) if row["answer"] is not None else row["response"] for row in job["rows"]]
    rows = [(t, row["gold"], row.get("source", "benchmark")) for t, row in zip(texts, job["rows"], strict=True)]

    def safe(row):
        try:
            return judge(*row)
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:100]

    with ThreadPoolExecutor(threads) as executor:
        # start and warm every worker process, on answers that are not part of the measurement
        pairs = [p for p in read(LABELLED / "verifier_pairs.jsonl") if p["kind"] != "issue"]
        list(executor.map(safe, [(form(p["pred"]), p["gold"], "benchmark") for p in pairs][:200]))
        start = time.perf_counter()
        shares = [rows[i::threads] for i in range(threads)]  # a task for each answer would cost more than a number does
        judged = list(executor.map(lambda share: [safe(row) for row in share], shares)) if threads > 1 else []
        verdicts = [judged[i % threads][i // threads] for i in range(len(rows))] if judged else [safe(r) for r in rows]
        result = {"verdicts": verdicts, "seconds": time.perf_counter() - start}
        print("RESULT" + json.dumps(result), flush=True)
        time.sleep(3600)  # some pools can't end by themselves once an answer hangs: the parent ends the whole group


def run(name, rows, threads=THREADS):
    """Judge rows in a process of its own; returns (verdicts or None, seconds)."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"rows": rows}, file)
        file.flush()
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        child = subprocess.Popen(
            [sys.executable, __file__, "--child", name, "--rows", file.name, "--threads", str(threads)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env, start_new_session=True,
        )  # fmt: skip
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(LIMIT)
        try:
            for line in child.stdout:
                if line.startswith("RESULT"):
                    result = json.loads(line[len("RESULT") :])
                    return result["verdicts"], result["seconds"]
        finally:
            signal.alarm(0)
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
    return None, float(LIMIT)


def accuracy():
    report = {}
    for label in SETS:
        labelled = read(LABELLED / f"{label}.jsonl")
        rows = [{"answer": r.get("pred", r.get("answer")), "source": r.get("data_source", "benchmark"),
                 "gold": r["gold"], "response": r.get("response")} for r in labelled]  # fmt: skip
        for name in VERIFIERS:
            # some of them limit their time by signals, which work in the main thread only
            verdicts, seconds = run(name, rows, threads=1)
            if verdicts is None:
                report[f"{label} {name}"] = {"error": f"no result after {LIMIT} s"}
                continue
            judged = list(zip(labelled, (v is True for v in verdicts), strict=True))
            wrong = [(r, v) for r, v in judged if v != r.get("by_rule", r["equal"])]
            result = {
                "rows": len(rows), "right": len(rows) - len(wrong), "false_right": sum(v for _, v in wrong),
                "false_wrong": sum(not v for _, v in wrong), "right_by_source": sum(v == r["equal"] for r, v in judged),
                "raised": sum(isinstance(v, str) for v in verdicts), "seconds": round(seconds, 2),
                "misses": [r for r, _ in wrong],
            }  # fmt: skip
            report[f"{label} {name}"] = result
            numbers = ", ".join(f"{key} {value}" for key, value in result.items() if key != "misses")
            print(f"{label:20s} {name:12s} {numbers}", flush=True)
        for miss in report[f"{label} frpo_verl"].get("misses", []):
            print(f"  missed: {miss}")
    return report


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def sets(data):
    rng = random.Random(0)
    from frpo_verl.rewards.compare import compare
    from frpo_verl.rewards.exact import read_number
    from frpo_verl.rewards.spelling import normalize

    def rational(text):
        number = read_number(normalize(text))
        return number is not None and set(number.form) <= {(1, 0, 0)}

    def rows(problems, wrong):
        """One right and one wrong response a problem; the wrong one gives another answer of the set."""
        out = []
        for text, gold in problems:
            out.append({"response": text, "gold": gold, "answer": None, "expect": True})
            other = rng.choice([g for g in wrong if compare(g, gold) is not True])
            out.append({"response": text + "\nNo. " + boxed(other), "gold": gold, "answer": None, "expect": False})
        return out

    gsm = [(row["answer"], row["answer"].rsplit("####", 1)[1].strip()) for row in read(data / "gsm8k" / "test.jsonl")]
    contest = [
        (r["problem"], str(r["answer"])) for name in ("aime24", "amc23") for r in read(data / "eval" / f"{name}.jsonl")
    ]
    numeric = [(text[:2000] + "\n" + boxed(gold), gold) for text, gold in gsm + contest]
    math500 = [(row["solution"], row["answer"]) for row in read(data / "eval" / "math500.jsonl")]
    symbolic = [(text, gold) for text, gold in math500 if not rational(gold)]
    algebra = [
        (t, g) for t, g in symbolic if not any(mark in g for mark in (",", "=", "text", "pm", "begin", "_", "cup"))
    ]

    def respelled(problems):
        texts = [(t + "\nThat is " + boxed(rf"\frac{{2({g.replace(',', '')})}}{{2}}"), g) for t, g in problems]
        return rows(texts, [g for _, g in problems])

    return {
        "numeric": rows(numeric, [g for _, g in numeric]),
        "numeric, respelled": respelled(rng.sample(numeric, min(400, len(numeric)))),
        "MATH500 symbolic": rows(symbolic, [g for _, g in symbolic]),
        "MATH500 symbolic, respelled": respelled(algebra),
    }


def throughput(data):
    report, names = {}, ("frpo_verl", "math_verify")
    for label, rows in sets(data).items():
        report[label] = found = {"rows": len(rows)}
        # in turns, the fastest of the repeats counts: other programs may be running
        tries = [(name, *run(name, rows)) for _ in range(REPEATS) for name in names]
        for name in names:
            verdicts, seconds = min((t[1:] for t in tries if t[0] == name), key=lambda t: t[1])
            right = verdicts and sum((v is True) == row["expect"] for v, row in zip(verdicts, rows, strict=True))
            found[name] = {"seconds": round(seconds, 3), "per_second": round(len(rows) / seconds, 1), "right": right}
        this, verls = (found[name] for name in names)
        found["ratio"] = round(verls["seconds"] / this["seconds"], 1)
        more = "at least " if verls["right"] is None else ""
        print(f"{label:28s} {len(rows):5d} answers: this {this['per_second']:9.1f}/s ({this['right']} right), verl's math_verify "
              f"{verls['per_second']:7.1f}/s ({verls['right']} right): {more}{found['ratio']}x", flush=True)  # fmt: skip
    return report


def hostile():
    """Every hostile answer against a numeric and a symbolic ground truth at the default deadline of 5 s."""
    from frpo_verl.rewards.math import compute_score

    compute_score("hostile", boxed("(x-1)(x+1)"), "x^2-1")
    process, slowest, accepted = psutil.Process(), ("", 0.0), []
    before = process.memory_info().rss
    for gold in (r"\sqrt{2}", r"x^2+\sin x"):
        for name, text in {**HOSTILE, **STUBBORN}.items():
            start = time.perf_counter()
            accepted += [name] * int(compute_score("hostile", boxed(text), gold)["acc"])
            slowest = max(slowest, (f"{name} for {gold}", round(time.perf_counter() - start, 2)), key=lambda p: p[1])
    report = {
        "answers": 2 * len({**HOSTILE, **STUBBORN}), "accepted": accepted, "slowest": slowest,
        "grown_mb": round((process.memory_info().rss - before) / 2**20, 1),
    }  # fmt: skip
    print("hostile", report, flush=True)
    return report


def main():
    parser = records.parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=("accuracy", "throughput", "hostile"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=THREADS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child_main(args.child, args.rows, args.threads)
    report = {"cores": len(os.sched_getaffinity(0)), "threads": THREADS}
    steps = {"accuracy": accuracy, "throughput": lambda: throughput(args.data), "hostile": hostile}
    report |= {name: step() for name, step in steps.items() if args.only in (None, name)}
    if args.out:
        records.write(args.out, report)


if __name__ == "__main__":
    main()
