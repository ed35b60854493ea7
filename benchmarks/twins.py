"""Two steps and a validation of every recipe on a CPU: its twin, through verl's main_ppo.

    python benchmarks/twins.py --raw FOLDER           # FOLDER/gsm8k, FOLDER/eval: data sets as they are published
    python benchmarks/twins.py --only rpg_qwen3_4b    # one of them; --only method=maxrl: by what is typed beside it

Makes the data files that the recipes name where they are missing, by data_preprocess/: from --raw where a set is there, else from
problems in the published form (sums for training sets, rows of the other benchmarks for evaluation sets). Then each twin
(`python -m frpo_verl twin`) is run, one after another; a run must end with status 0 and have logged what its page promises.
Writes docs/results/twins.json; `--table` prints it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import records

from frpo_verl import twin
from frpo_verl.data import cli as data
from frpo_verl.files import write_atomically
from frpo_verl.quickstart import __main__ as quickstart
from frpo_verl.quickstart import three_ways, ways_model
from frpo_verl.report.collect import metric_files, read_metrics

RESULTS = Path("docs/results")
DAPO_FORM = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
REFERENCE = ("frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3", "frpo/kl_to_go/first_token/mean", "frpo/zero_variance_groups")
SHARE = "frpo/regularizer_share"  # a ratio to the outcome's advantage: absent where no group has one
FRPO = (*REFERENCE, SHARE, "frpo/kl_by_position/q1", "frpo/log_ratio_clip_frac", "frpo/sign_flip_frac")
CLIPPED = ("actor/pg_clipfrac",)
CLIP = ("actor/ppo_kl", "actor/pg_clipfrac", "actor/pg_clipfrac_at_low", "actor/pg_clipfrac_at_high")
RPG = (*CLIP, "actor/rpg_kl")
F_GRPO = (*REFERENCE, "actor/f_grpo/margin", "actor/f_grpo/good_frac", "actor/f_grpo/v_clip_frac")
F_HAL = (*F_GRPO, "frpo/f_hal/on_policy_rows", "frpo/f_hal/chosen_rows", "frpo/f_hal/rejected_rows")

CRITIC = ("actor/pg_clipfrac", "critic/vf_loss", "actor/reward_kl_penalty")
TEACHER = twin.FOLDER / "teacher"  # untrained, smaller than the student, of its tokenizer
TAUGHT = [f"distillation.teacher_models.teacher_model.model_path={TEACHER}", "++ray_kwargs.ray_init.num_gpus=2"]

# recipe, what is typed beside it, metrics of a step that its page promises (evaluations have none)
CASES: list[tuple[str, list[str], tuple[str, ...]]] = [
    ("smoke", [], FRPO),
    ("smollm2_135m", [], FRPO),
    ("qwen3_1.7b_gsm8k", [], FRPO),
    ("frpo_qwen3_1.7b", [], FRPO),
    ("frpo_qwen3_1.7b", ["method=grpo_kl_loss"], REFERENCE),
    ("frpo_qwen3_1.7b", ["method=frpo_forward_k3"], FRPO),
    ("frpo_qwen3_1.7b", ["method=frpo_forward_kl"], FRPO),
    ("frpo_qwen3_1.7b", ["method=frpo_k3", "+algorithm.frpo.baseline=remaining"], FRPO),
    ("frpo_qwen3_1.7b", ["method=frpo_reward_to_go"], FRPO),
    ("frpo_qwen3_1.7b", ["method=gae_kl_reward"], CRITIC),
    ("frpo_qwen3_1.7b", ["method=corpo"], CLIPPED),
    ("frpo_qwen3_1.7b", ["method=maxrl"], CLIPPED),
    ("frpo_qwen3_1.7b", ["method=distillation", *TAUGHT], REFERENCE),
    ("frpo_qwen3_4b", [], FRPO),
    ("frpo_qwen3_8b", ["method=atr_grpo"], CLIP),
    ("frpo_qwen3_30b_a3b", [], FRPO),
    ("prl_qwen2.5_math_7b", [], FRPO),
    ("prl_qwen2.5_math_1.5b", ["method=prl_newline"], FRPO),
    ("rpg_qwen3_4b", [], RPG),
    ("rpg_qwen3_4b", ["method=dapo"], CLIPPED),
    ("rpg_qwen2.5_math_7b", [], RPG),
    ("f_grpo_qwen2.5_math_1.5b", [], F_GRPO),
    ("f_grpo_qwen2.5_math_7b", [], F_GRPO),
    ("f_hal_qwen2.5_math_7b", [], F_HAL),
    ("eval_math", ["name=quickstart"], ()),
    ("eval_aime", ["name=quickstart"], ()),
]


def sums(count: int, name: str) -> list[three_ways.Problem]:
    """Each set has its own: a dump tells sets apart by their problems."""
    seed = sum(name.encode()) if name in EVALUATION_SETS else 7
    return list(islice(three_ways.stream(seed), count))


def published_form(name: str, raw: Path | None, folder: Path) -> Path:
    """A file or folder with rows of a set as it is published: --raw's, or problems in that form."""
    known = {"gsm8k": "gsm8k", "math500": "eval", "aime24": "eval", "amc23": "eval"}
    if raw is not None and name in known and (raw / known[name]).is_dir():
        return raw / known[name]

    def solution(p: three_ways.Problem) -> str:
        return f"{p.written('C')}\n#### {p.answer}"

    makers = {
        "dapo_math_17k": lambda p: {
            "prompt": [{"role": "user", "content": DAPO_FORM.format(p.question)}],
            "reward_model": {"ground_truth": p.answer, "style": "rule"},
        },
        "numina_math_cot": lambda p: {"problem": p.question, "answer": p.answer},
        "limr": lambda p: {"prompt": p.question, "answer": p.answer},
        "open_rs": lambda p: {"problem": p.question, "solution": solution(p), "answer": p.answer, "level": "Easy"},
        "gsm8k": lambda p: {"question": p.question, "answer": solution(p)},
        "math500": lambda p: {"problem": p.question, "answer": p.answer, "solution": solution(p)},
        "aime24": lambda p: {"problem": p.question, "answer": p.answer, "id": 1},
        "aime25": lambda p: {"problem": p.question, "answer": p.answer},
        "amc23": lambda p: {"problem": p.question, "answer": float(p.answer)},
        "olympiad_bench": lambda p: {"question": p.question, "final_answer": [p.answer], "subject": "Math"},
        "minerva_math": lambda p: {"question": p.question, "answer": p.answer},
        "preference": lambda p: {"prompt": p.question, "chosen": solution(p), "rejected": f"#### {int(p.answer) + 1}"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    splits = ("train", "test") if name == "gsm8k" else ("train",) if name in TRAIN_SETS else ("test",)
    for split in splits:
        rows = [makers[name](p) for p in sums(96, name)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


SYSTEM = ["--system_prompt", r"Please reason step by step, and put your final answer within \boxed{}."]
EVALUATION_SETS = ("math500", "aime24", "aime25", "amc23", "olympiad_bench", "minerva_math")
TRAIN_SETS = ("dapo_math_17k", "numina_math_cot", "limr", "open_rs", "preference")
FILES = {  # folder below build/ -> name of the set, options
    "gsm8k": ("gsm8k", []),
    "dapo_math_17k": ("dapo_math_17k", []),
    "dapo_math_17k_english": ("dapo_math_17k", ["--english"]),
    "numina_math": ("numina_math_cot", SYSTEM),
    "limr": ("limr", []),
    "open_rs": ("open_rs", []),
    "eval/math500": ("math500", []),
    "eval/aime24": ("aime24", []),
    "eval/aime25": ("aime25", []),
    "eval/amc23": ("amc23", []),
    "eval/olympiad_bench": ("olympiad_bench", []),
    "eval/minerva_math": ("minerva_math", []),
    "f_hal": ("preference", ["--mix", "build/gsm8k/train.parquet", "--ratio", "0.25"]),
}


def make_files(raw: Path | None) -> None:
    """Every data file that a recipe names, where it is missing."""
    for name, (published, options) in FILES.items():
        target = Path("build") / name
        if not list(target.glob("*.parquet")):
            source = published_form(published, raw, Path("build/published") / published)
            status = data.main(
                [published, "--local_dataset_path", str(source), "--local_save_dir", str(target), *options]
            )
            if status:
                raise SystemExit(status)


def run(case: tuple[str, list[str], tuple[str, ...]]) -> dict:
    """One twin: its command, what it does not keep, its metrics, and what went wrong ("" if nothing did)."""
    recipe, overrides, promised = case
    made = twin.plan(recipe, overrides)
    folder = Path(made.run_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ray = Path("build/ray").absolute()
    ray.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with open(folder / "train.log", "wb") as log:
        process = subprocess.run(
            [sys.executable, *made.command, f"hydra.run.dir={folder}/hydra"],
            stdout=log, stderr=subprocess.STDOUT, env={**quickstart.environment(ray), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    seconds = time.monotonic() - started
    rows = read_metrics(metric_files(folder)) if process.returncode == 0 else {}
    return {
        "recipe": recipe,
        "typed": " ".join([f"+recipe={recipe}", *overrides]),
        "command": " ".join(made.command[2:]),
        "status": process.returncode,
        "seconds": round(seconds),
        "trouble": trouble(process.returncode, rows, promised, folder),
        "not_kept": made.changed,
        "metrics": {str(step): shown(row) for step, row in rows.items()},
    }


def shown(row: dict) -> dict:
    """A step's metrics without times and memory, which say nothing on a machine that others use."""
    return {k: float(f"{v:.5g}") for k, v in sorted(row.items()) if not k.startswith(("timing", "perf/"))}


def write_teacher() -> None:
    """The tiny model as it is before its warm-up, smaller."""
    from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer
    from frpo_verl.quickstart.warm_start import make_model

    if not TEACHER.exists():
        TEACHER.mkdir(parents=True)
        write_tokenizer(TEACHER)
        make_model(ways_model.Settings(hidden_size=32, n_layers=2), load_tokenizer(TEACHER)).save_pretrained(TEACHER)


def trouble(status: int, rows: dict[int, dict], promised: tuple[str, ...], folder: Path) -> str:
    if status:
        lines = (folder / "train.log").read_text(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if "Error" in line), f"exit status {status}")
    wanted = {0: (), 1: promised, 2: promised} if promised else {max(rows, default=0): ()}  # an evaluation has one step
    missing = [
        f"{name} at step {step}"
        for step, names in wanted.items()
        for name in names
        if name not in rows.get(step, {})
        and not (name == SHARE and rows.get(step, {}).get("frpo/zero_variance_groups") == 1)
    ]
    missing += [f"step {step}" for step in wanted if step not in rows]
    last = rows.get(max(wanted), {})
    if not any(name.startswith("val-core/") for name in last):
        missing.append("validation after the last step")
    if promised and not (folder / "checkpoints" / "latest_checkpointed_iteration.txt").exists():
        missing.append("checkpoint")
    return f"missing: {', '.join(missing)}" if missing else ""


def markdown(results: list[dict]) -> str:
    rows, keys = [], ("critic/score/mean", "frpo/kl_to_ref/k1", "actor/grad_norm")
    for r in results:
        last = r["metrics"].get("2", {})
        rows.append([f"`{r['typed']}` {r['trouble']}".strip(), *(f"{last[k]:.4g}" if k in last else "" for k in keys)])
    return records.table(["typed", "at step 2: score", "KL to reference (k1)", "gradient norm"], rows)


def main() -> int:
    parser = records.parser(__doc__)
    parser.add_argument("--raw", type=Path, default=None, help="folder with published data sets")
    parser.add_argument("--table", action="store_true", help="run nothing; print what the JSON holds")
    parser.add_argument("--only", nargs="+", help="these recipes, or what is typed beside them; others are kept")
    args = parser.parse_args()
    if args.table:
        print(markdown(json.loads((RESULTS / "twins.json").read_text())))
        return 0
    ways_model.build(twin.MODEL, settings=ways_model.Settings(marked=True))
    write_teacher()
    make_files(args.raw)
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / "twins.json"
    old = {r["typed"]: r for r in json.loads(file.read_text())} if file.exists() else {}
    for case in CASES:
        if args.only is None or {case[0], *case[1]} & set(args.only):
            result = run(case)
            old[result["typed"]] = result
            print(f"{result['typed']}: {result['trouble'] or 'ok'}, {result['seconds']} s", flush=True)
            order = [" ".join([f"+recipe={r}", *o]) for r, o, _ in CASES]
            results = [old[t] for t in order if t in old]
            write_atomically(file, "[\n" + ",\n".join(json.dumps(r) for r in results) + "\n]\n")
    return any(r["trouble"] for r in old.values())


if __name__ == "__main__":
    sys.exit(main())
