"""A Qwen3-architecture model of about half a million parameters, warmed up until it solves a fifth of the problems.

``build(out, data)`` makes the tokenizer and the model, trains it by supervised learning on fresh problems of the data's
levels (never a test problem), stops as soon as the chance of a right answer on a validation split reaches ``target``,
and renames the finished folder into place. ``python -m frpo_verl.quickstart.tiny_model --out DIR --data DIR`` does it
from the shell. A folder that already holds the model for the same settings and data is left as it is.

The folder is an ordinary one: AutoModelForCausalLM / AutoTokenizer ``.from_pretrained`` and verl load it.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from . import arithmetic
from .model_folder import digest_of, finished_folder
from .warm_start import Learner, answer_nll, make_model, progress_bar, read_rows, sample_answers

FORMAT = 1  # raise it when the same settings would give another model


@dataclass(frozen=True)
class Settings:
    """All that decides the result, besides the data. ``target`` is the pass@1 at temperature 1 where training stops."""

    hidden_size: int = 96
    n_layers: int = 3
    n_heads: int = 3
    n_kv_heads: int = 3
    head_dim: int = 32
    intermediate_size: int = 256
    init_std: float = 0.1
    max_positions: int = 4096
    seed: int = 0
    target: float = 0.2
    max_steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    weight_decay: float = 0.01
    slips: float = 0.4  # share of the training examples with a wrong digit: what a careful answer has to unlearn
    check_every: int = 20  # four times as often from a quarter of the target on
    validation_size: int = 256

    def __post_init__(self):
        if not 0.0 < self.target < 1.0:
            raise ValueError(f"target={self.target}: give a pass@1 between 0 and 1")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}: give a number >= 1")


def with_slip(problem: arithmetic.Problem, rng: random.Random, chance: float) -> str:
    """The written-out answer; with probability ``chance`` one digit of one partial sum is wrong.

    What follows is reckoned from the wrong sum, so that each line still is the line before plus the next term.
    """
    sums = list(problem.partial_sums)
    if rng.random() < chance:
        line = rng.randrange(len(sums))
        digits = str(sums[line])
        place = rng.randrange(len(digits))
        wrong = rng.choice([d for d in "0123456789" if d != digits[place] and (place or d != "0")])
        error = int(digits[:place] + wrong + digits[place + 1 :]) - sums[line]
        sums[line:] = [s + error for s in sums[line:]]
    return arithmetic.write_out([str(s) for s in sums])


def exact_pass_at_1(model, tokenizer, problems) -> float:
    """Mean probability, at temperature 1, of exactly the written-out right answer.

    No sampling, hence no sampling error; a lower bound of pass@1, since a wrong partial sum may still end right.
    """
    import torch

    with torch.no_grad():
        nll, _ = answer_nll(model, tokenizer, problems, [p.solution for p in problems])
    return nll.sum(-1).neg().exp().mean().item()


def count_right(model, tokenizer, problems, samples: int = 1, seed: int = 0, max_new_tokens: int = 24) -> list[int]:
    """Right final answers of each problem among ``samples`` from ``generate`` at temperature 1."""
    answers = sample_answers(model, tokenizer, problems, max_new_tokens, samples, seed)
    return [
        sum(text.rpartition("#### ")[2] == p.answer for text in texts)
        for p, texts in zip(problems, answers, strict=True)
    ]


def sampled_pass_at_1(model, tokenizer, problems, samples: int = 1, seed: int = 0) -> float:
    """Share of right final answers, see ``count_right``."""
    return sum(count_right(model, tokenizer, problems, samples, seed)) / (samples * len(problems))


def warm_up(model, tokenizer, settings: Settings, levels, exclude, progress: bool = True) -> dict:
    """Train ``model`` in place on fresh problems until validation pass@1 reaches ``settings.target``.

    ``exclude`` holds the keys of problems that must not be trained on (the test split). Validation problems are drawn
    here, apart from both. Returns what was measured. Raises RuntimeError when ``max_steps`` ends below half the target.
    """
    validation = arithmetic.sample_distinct("validation", settings.validation_size, levels, settings.seed, exclude)
    problems = arithmetic.stream(settings.seed, levels, set(exclude) | {p.key for p in validation})
    slip_rng = random.Random(f"slips/{settings.seed}")
    learner = Learner(model, tokenizer, settings)
    began = time.monotonic()
    pass_at_1 = 0.0
    model.train()
    with progress_bar(progress) as bar:
        for step in range(1, settings.max_steps + 1):
            batch = list(islice(problems, settings.batch_size))
            learner.step(batch, [with_slip(p, slip_rng, settings.slips) for p in batch])
            bar.update()
            every = settings.check_every if pass_at_1 < settings.target / 4 else max(1, settings.check_every // 4)
            if step % every == 0 or step == settings.max_steps:
                pass_at_1 = exact_pass_at_1(model, tokenizer, validation)
                bar.set_postfix_str(f"loss {learner.loss:.3f}, pass@1 {pass_at_1:.3f} of {settings.target:g}")
                if pass_at_1 >= settings.target:
                    break
    model.eval()
    if pass_at_1 < settings.target / 2:
        raise RuntimeError(
            f"warm-up: pass@1 is {pass_at_1:.3f} after max_steps={settings.max_steps}, wanted {settings.target}: "
            "raise max_steps or choose easier levels"
        )
    return {
        "steps": learner.steps,
        "seconds": round(time.monotonic() - began, 1),
        "loss": round(learner.loss, 4),
        "validation_exact_pass_at_1": round(pass_at_1, 4),
        "validation_sampled_pass_at_1": round(sampled_pass_at_1(model, tokenizer, validation, 4, settings.seed), 4),
    }


def read_problems(path: str | os.PathLike) -> list[arithmetic.Problem]:
    """The problems of one parquet file that `python -m frpo_verl data arithmetic` wrote."""
    return [arithmetic.from_question(row["question"], int(row["level"])) for row in read_rows(path, "arithmetic")]


def settings_hash(settings: Settings, train: list, test: list) -> str:
    """Digest of all that decides the result: the settings, the levels and the problems that are held out."""
    return digest_of(
        format=FORMAT,
        settings=asdict(settings),
        levels=sorted({p.level for p in train + test}),
        held_out=sorted(p.key for p in test),
    )


def build(
    out: str | os.PathLike,
    data: str | os.PathLike,
    settings: Settings | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict:
    """Make the model folder ``out`` for ``data`` (a folder with train.parquet and test.parquet); return its stamp.

    The folder appears complete or not at all. It is reused when it was made with the same settings for the same data,
    unless ``force``. The stamp holds the settings and what was measured; ``reused`` says whether the work was skipped.
    """
    settings = settings or Settings()
    train, test = read_problems(Path(data) / "train.parquet"), read_problems(Path(data) / "test.parquet")
    levels = sorted({p.level for p in train + test})

    def make(tokenizer):
        model = make_model(settings, tokenizer)
        measured = warm_up(model, tokenizer, settings, levels, {p.key for p in test}, progress)
        return model, {"settings": asdict(settings), "levels": levels, **measured}

    return finished_folder(Path(out), settings_hash(settings, train, test), make, force)


def data_beside(out: Path) -> Path:
    """The folder `data` beside the model's; the default problems are written there unless they are there."""
    folder = out.parent / "data"
    if not (folder / "test.parquet").exists():
        from ..data import cli as data

        if data.main(["arithmetic", "--local_save_dir", str(folder)]):
            raise RuntimeError(f"{folder}: no problems to train on")
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m frpo_verl.quickstart.tiny_model", description="Make and warm up the tiny quickstart model."
    )
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument(
        "--data", default=None, help="folder with train.parquet and test.parquet; default: made beside --out"
    )
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--target", type=float, default=Settings.target, help="pass@1 at which the warm-up stops")
    parser.add_argument("--max_steps", type=int, default=Settings.max_steps)
    parser.add_argument("--force", action="store_true", help="make it again even if it is up to date")
    args = parser.parse_args(argv)
    try:
        settings = Settings(seed=args.seed, target=args.target, max_steps=args.max_steps)
        stamp = build(args.out, args.data or data_beside(Path(args.out)), settings, force=args.force)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    print(
        f"{args.out}: {stamp['parameters']:,} parameters, {stamp['steps']} warm-up steps in {stamp['seconds']} s, "
        f"pass@1 {stamp['validation_sampled_pass_at_1']:.3f} on validation problems"
        + (" (up to date, reused)" if stamp["reused"] else "")
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
