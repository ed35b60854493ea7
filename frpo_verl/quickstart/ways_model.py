"""The tiny model: a quarter of a million parameters that write sums in three ways, most of them wrongly.

``build(out, data)`` makes the tokenizer and the model, trains it by supervised learning on fresh problems (never a test
problem): first all three ways without a mistake, until each succeeds, then the habits of `three_ways.Habits`.
``python -m frpo_verl.quickstart.ways_model --out DIR --data DIR`` does it from the shell. A folder that already holds
the model for the same settings and data is left as it is.

The folder is an ordinary one: AutoModelForCausalLM / AutoTokenizer ``.from_pretrained`` and verl load it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..files import read_json, write_atomically
from . import three_ways
from .tokenizer import load_tokenizer, write_tokenizer
from .warm_start import Learner, answer_nll, make_model

FORMAT = 1  # raise it when the same settings would give another model
STAMP = "tiny_model.json"


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
    marked: bool = False  # each answer ends with its sum behind GSM8K's mark: what the recipes' rewards read
    batch_size: int = 96
    learning_rate: float = 3e-3
    warmup_steps: int = 40
    weight_decay: float = 0.01
    check_every: int = 20
    validation_size: int = 64

    @property
    def finish(self) -> Callable[[str], str]:
        """What is done with an answer that is written in one of the ways."""
        return three_ways.marked if self.marked else str


def answer_log_probs(
    model: Any, tokenizer: Any, problems: Sequence[three_ways.Problem], finish: Callable[[str], str] = str
) -> dict[str, tuple[Any, Any]]:
    """way -> log-probabilities (N,) of its mark and of the whole right answer at temperature 1, without sampling."""
    import torch

    found = {}
    for way in three_ways.WAYS:
        with torch.no_grad():
            nll, mask = answer_nll(model, tokenizer, problems, [finish(p.written(way)) for p in problems])
        nll = nll.double()
        found[way] = nll.gather(1, mask.int().argmax(1, keepdim=True))[:, 0].neg(), nll.sum(1).neg()
    return found


def success_by_way(*args: Any) -> dict[str, tuple[float, float]]:
    """way -> (probability that an answer begins with it, chance that it then is exactly right), means over problems."""
    found = answer_log_probs(*args)
    return {way: (mark.exp().mean().item(), (whole - mark).exp().mean().item()) for way, (mark, whole) in found.items()}


def chances(*args: Any) -> list[list[float]]:
    """(N, 3) chance of the right answer, as it is written in each way."""
    import torch

    return torch.stack([whole.exp() for _, whole in answer_log_probs(*args).values()], 1).tolist()


def warm_up(
    model: Any,
    tokenizer: Any,
    settings: Settings,
    exclude: set[tuple[int, ...]],
    shape: tuple[int, int],
    progress: bool,
) -> dict:
    """Train ``model`` in place: all ways without a mistake until each succeeds, then with the habits.

    ``exclude`` holds the keys of problems that must not be trained on (the test split), ``shape`` digits and number of
    terms. Validation problems are drawn here, apart from both. Returns what was measured. Raises RuntimeError when
    ``max_steps`` ends the first part below half the target.
    """
    from tqdm import tqdm

    validation = three_ways.sample_distinct("validation", settings.validation_size, settings.seed, exclude, *shape)
    problems = three_ways.stream(settings.seed, set(exclude) | {p.key for p in validation}, *shape)
    rng = random.Random(f"ways/{settings.seed}")
    learner = Learner(model, tokenizer, settings)

    def learn(habits: three_ways.Habits | None, share: float | None = None) -> None:
        batch = list(islice(problems, settings.batch_size))
        ways = rng.choices(three_ways.WAYS, habits.shares if habits else None, k=len(batch))
        slips = {way: habits.slip(way, shape[0]) if habits else 0.0 for way in three_ways.WAYS}
        texts = [settings.finish(p.with_slips(way, rng, slips[way])) for p, way in zip(batch, ways, strict=True)]
        learner.step(batch, texts, share)
        bar.update()

    began = time.monotonic()
    worst = 0.0
    model.train()
    # no total: the first part stops at a success, not at a number of steps
    look = {"desc": "warm-up", "unit": " steps", "leave": False, "mininterval": 1.0, "dynamic_ncols": True}
    with tqdm(disable=not progress, **look) as bar:
        for step in range(1, settings.max_steps + 1):
            learn(None)
            if step % settings.check_every == 0 or step == settings.max_steps:
                ways = success_by_way(model, tokenizer, validation, settings.finish)
                worst = min(right for _, right in ways.values())
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
            bar.set_postfix_str(f"loss {learner.loss:.3f}, habits")
    model.eval()
    ways = success_by_way(model, tokenizer, validation, settings.finish)
    return {
        "steps": learner.steps,
        "seconds": round(time.monotonic() - began, 1),
        "loss": round(learner.loss, 4),
        "ways": {way: [round(x, 4) for x in pair] for way, pair in ways.items()},
        "validation_pass_at_1": round(sum(share * right for share, right in ways.values()), 4),
    }


def read_problems(path: str | os.PathLike) -> list[three_ways.Problem]:
    """The problems of one parquet file that `python -m frpo_verl data three_ways` wrote.

    Raises:
        FileNotFoundError: with the command that writes the file.
    """
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with `python -m frpo_verl data three_ways`")
    rows = pq.read_table(path, columns=["extra_info"]).column("extra_info").to_pylist()
    return [three_ways.from_question(row["question"]) for row in rows]


def settings_hash(settings: Settings, train: list, test: list) -> str:
    """Digest of all that decides the result: the settings, the problems' shape and those that are held out."""
    held_out = sorted(p.key for p in test)
    decides = {"format": FORMAT, "settings": asdict(settings), "shape": shape_of(train + test), "held_out": held_out}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def shape_of(problems: list[three_ways.Problem]) -> tuple[int, int]:
    """Digits and number of terms; ValueError if the problems differ in them."""
    shapes = {(p.digits, len(p.terms)) for p in problems}
    if len(shapes) != 1:
        raise ValueError(f"the data hold problems of {len(shapes)} shapes (digits, terms): the warm-up wants one")
    return shapes.pop()


def build(
    out: str | os.PathLike,
    data: str | os.PathLike | None = None,
    settings: Settings | None = None,
    force: bool = False,
    progress: bool = True,
    device: str = "cpu",
) -> dict:
    """Make the model folder ``out`` for ``data``, a folder with train.parquet and test.parquet (default: the default
    problems, without files); return its stamp.

    The folder appears complete or not at all. It is reused when it was made with the same settings for the same data,
    on whatever ``device``, unless ``force``. The stamp, also written to ``tiny_model.json``, holds the settings and what
    was measured; ``reused`` says whether the work was skipped.
    """
    out, settings = Path(out), settings or Settings()
    made = {} if data is not None else three_ways.make_splits()
    train, test = (made.get(name) or read_problems(Path(str(data)) / f"{name}.parquet") for name in ("train", "test"))
    digest = settings_hash(settings, train, test)
    stamp = read_json(out / STAMP) or {}
    if not force and stamp.get("hash") == digest and (out / "model.safetensors").is_file():
        return {**stamp, "reused": True}

    def fill(folder: Path) -> None:
        import torch
        from transformers.utils import logging

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
        torch.set_num_threads(min(torch.get_num_threads(), max(1, min(4, cores // 2))))  # small matrices gain no more
        folder.mkdir(exist_ok=True)
        write_tokenizer(folder)
        tokenizer = load_tokenizer(folder)
        model = make_model(settings, tokenizer).to(device)
        measured = warm_up(model, tokenizer, settings, {p.key for p in test}, shape_of(train + test), progress)
        held_out = [round(sum(row), 5) for row in chances(model, tokenizer, test, settings.finish)]
        logging.disable_progress_bar()  # transformers 5 shows one for the one file
        model.save_pretrained(folder)
        stamp = {"hash": digest, "parameters": sum(p.numel() for p in model.parameters()), "settings": asdict(settings)}
        stamp |= measured | {"held_out": held_out}
        (folder / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")

    write_atomically(out, fill)
    return {**read_json(out / STAMP), "reused": False}


def main(argv: list[str] | None = None) -> int:
    about = "Make and warm up the tiny quickstart model."
    parser = argparse.ArgumentParser(prog="python -m frpo_verl.quickstart.ways_model", description=about)
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument("--data", help="folder with train.parquet and test.parquet (the default problems)")
    parser.add_argument("--marked", action="store_true", help="answers end with `#### SUM`, as twins want it")
    parser.add_argument("--device", default="cpu", help="where it is trained (cpu)")
    parser.add_argument("--force", action="store_true", help="make it again even if it is up to date")
    args = parser.parse_args(argv)
    try:
        stamp = build(args.out, args.data, Settings(marked=args.marked), force=args.force, device=args.device)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    warm_up = f"{stamp['steps']} warm-up steps in {stamp['seconds']} s"
    passes = f"pass@1 {stamp['validation_pass_at_1']:.3f} on validation problems"
    reused = " (up to date, reused)" if stamp["reused"] else ""
    print(f"{args.out}: {stamp['parameters']:,} parameters, {warm_up}, {passes}{reused}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
