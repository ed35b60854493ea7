"""The quickstart's model: a quarter of a million parameters that write sums in three ways, most of them wrongly.

``build(out, data)`` makes the tokenizer and the model, trains it by supervised learning on fresh problems (never a test
problem): first all three ways without a mistake, until each succeeds, then the habits of `three_ways.Habits`.
``python -m frpo_verl.quickstart.ways_model --out DIR --data DIR`` does it from the shell. A folder that already holds
the model for the same settings and data is left as it is.

The folder is an ordinary one: AutoModelForCausalLM / AutoTokenizer ``.from_pretrained`` and verl load it.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path

from . import three_ways, warm_start
from .model_folder import digest_of, finished_folder
from .warm_start import Learner, answer_nll, make_model, progress_bar, read_rows

FORMAT = 1  # raise it when the same settings would give another model


@dataclass(frozen=True)
class Settings:
    """All that decides the result, besides the data."""

    hidden_size: int = 64
    n_layers: int = 3
    n_heads: int = 4
    n_kv_heads: int = 4
    head_dim: int = 16
    intermediate_size: int = 256
    init_std: float = 0.1
    max_positions: int = 4096
    seed: int = 0
    target: float = 0.9  # chance that each way is written without a mistake, at temperature 1, before the habits begin
    max_steps: int = 800  # of the first part
    habit_steps: int = 80
    habits: three_ways.Habits = field(default_factory=three_ways.Habits)
    batch_size: int = 96
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    weight_decay: float = 0.01
    check_every: int = 20
    validation_size: int = 64

    def __post_init__(self):
        if not 0.0 < self.target < 1.0:
            raise ValueError(f"target={self.target}: give a probability between 0 and 1")
        if self.max_steps < 1 or self.habit_steps < 1:
            raise ValueError(f"max_steps={self.max_steps}, habit_steps={self.habit_steps}: give numbers >= 1")


def success_by_way(model, tokenizer, problems) -> dict[str, tuple[float, float]]:
    """way -> (probability that an answer begins with it, chance that it then is exactly right), means over problems.

    From the model's own probabilities at temperature 1, without sampling.
    """
    import torch

    found = {}
    for way in three_ways.WAYS:
        with torch.no_grad():
            nll, mask = answer_nll(model, tokenizer, problems, [p.written(way) for p in problems])
        nll = nll.double()
        first = nll.gather(1, mask.int().argmax(1, keepdim=True))[:, 0]
        found[way] = (first.neg().exp().mean().item(), (first - nll.sum(-1)).exp().mean().item())
    return found


def sample_answers(model, tokenizer, problems, samples: int = 1, seed: int = 0) -> list[list[str]]:
    """``samples`` answers to each problem at temperature 1, long enough for every way."""
    longest = max(three_ways.longest_answer(p.digits, len(p.terms)) for p in problems)
    return warm_start.sample_answers(model, tokenizer, problems, longest, samples, seed)


def count_right(model, tokenizer, problems, samples: int = 1, seed: int = 0) -> list[int]:
    """Right answers to each problem among ``samples`` of them."""
    answers = sample_answers(model, tokenizer, problems, samples, seed)
    return [sum(three_ways.is_right(text, p) for text in texts) for p, texts in zip(problems, answers, strict=True)]


def warm_up(model, tokenizer, settings: Settings, exclude, shape: tuple[int, int], progress: bool = True) -> dict:
    """Train ``model`` in place: all ways without a mistake until each succeeds, then with the habits.

    ``exclude`` holds the keys of problems that must not be trained on (the test split), ``shape`` digits and number of
    terms. Validation problems are drawn here, apart from both. Returns what was measured. Raises RuntimeError when
    ``max_steps`` ends the first part below half the target.
    """
    validation = three_ways.sample_distinct("validation", settings.validation_size, settings.seed, exclude, *shape)
    problems = three_ways.stream(settings.seed, set(exclude) | {p.key for p in validation}, *shape)
    rng = random.Random(f"ways/{settings.seed}")
    learner = Learner(model, tokenizer, settings)

    def learn(habits: three_ways.Habits | None, share: float | None = None) -> None:
        batch = list(islice(problems, settings.batch_size))
        ways = rng.choices(three_ways.WAYS, habits and habits.shares, k=len(batch))
        slips = {way: habits.slip(way, shape[0]) if habits else 0.0 for way in three_ways.WAYS}
        learner.step(batch, [p.with_slips(way, rng, slips[way]) for p, way in zip(batch, ways, strict=True)], share)

    began = time.monotonic()
    worst = 0.0
    model.train()
    with progress_bar(progress) as bar:
        for step in range(1, settings.max_steps + 1):
            learn(None)
            bar.update()
            if step % settings.check_every == 0 or step == settings.max_steps:
                worst = min(right for _, right in success_by_way(model, tokenizer, validation).values())
                bar.set_postfix_str(f"loss {learner.loss:.3f}, hardest way right {worst:.2f} of {settings.target:g}")
                if worst >= settings.target:
                    break
        if worst < settings.target / 2:
            raise RuntimeError(
                f"warm-up: the hardest way is right with {worst:.3f} after max_steps={settings.max_steps}, wanted "
                f"{settings.target}: raise max_steps"
            )
        for i in range(settings.habit_steps):
            learn(settings.habits, 1 - 0.95 * i / settings.habit_steps)
            bar.update()
            bar.set_postfix_str(f"loss {learner.loss:.3f}, habits")
    model.eval()
    ways = success_by_way(model, tokenizer, validation)
    return {
        "steps": learner.steps,
        "seconds": round(time.monotonic() - began, 1),
        "loss": round(learner.loss, 4),
        "ways": {way: [round(x, 4) for x in pair] for way, pair in ways.items()},
        "validation_pass_at_1": round(sum(share * right for share, right in ways.values()), 4),
    }


def read_problems(path: str | os.PathLike) -> list[three_ways.Problem]:
    """The problems of one parquet file that `python -m frpo_verl data three_ways` wrote."""
    return [three_ways.from_question(row["question"]) for row in read_rows(path, "three_ways")]


def settings_hash(settings: Settings, train: list, test: list) -> str:
    """Digest of all that decides the result: the settings, the problems' shape and those that are held out."""
    return digest_of(
        format=FORMAT,
        settings=asdict(settings),
        shape=shape_of(train + test),
        held_out=sorted(p.key for p in test),
    )


def shape_of(problems: list[three_ways.Problem]) -> tuple[int, int]:
    """Digits and number of terms; ValueError if the problems differ in them."""
    shapes = {(p.digits, len(p.terms)) for p in problems}
    if len(shapes) != 1:
        raise ValueError(f"the data hold problems of {len(shapes)} shapes (digits, terms): the warm-up wants one")
    return shapes.pop()


def build(
    out: str | os.PathLike,
    data: str | os.PathLike,
    settings: Settings | None = None,
    force: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> dict:
    """Make the model folder ``out`` for ``data`` (a folder with train.parquet and test.parquet); return its stamp.

    The folder appears complete or not at all. It is reused when it was made with the same settings for the same data,
    on whatever ``device``, unless ``force``. The stamp holds the settings and what was measured; ``reused`` says
    whether the work was skipped.
    """
    settings = settings or Settings()
    train, test = read_problems(Path(data) / "train.parquet"), read_problems(Path(data) / "test.parquet")

    def make(tokenizer):
        model = make_model(settings, tokenizer).to(device)
        measured = warm_up(model, tokenizer, settings, {p.key for p in test}, shape_of(train + test), progress)
        return model, {"settings": asdict(settings), **measured}

    return finished_folder(Path(out), settings_hash(settings, train, test), make, force)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m frpo_verl.quickstart.ways_model", description="Make and warm up the tiny quickstart model."
    )
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument("--data", required=True, help="folder with train.parquet and test.parquet")
    for f in fields(Settings):
        if f.name != "habits":
            parser.add_argument(f"--{f.name}", type=type(f.default), default=f.default, help=f"({f.default})")
    parser.add_argument("--device", default="cpu", help="where it is trained (cpu)")
    parser.add_argument("--force", action="store_true", help="make it again even if it is up to date")
    args = parser.parse_args(argv)
    try:
        settings = Settings(**{f.name: getattr(args, f.name) for f in fields(Settings) if f.name != "habits"})
        stamp = build(args.out, args.data, settings, force=args.force, device=args.device)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    print(
        f"{args.out}: {stamp['parameters']:,} parameters, {stamp['steps']} warm-up steps in {stamp['seconds']} s, "
        f"pass@1 {stamp['validation_pass_at_1']:.3f} on validation problems"
        + (" (up to date, reused)" if stamp["reused"] else "")
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
