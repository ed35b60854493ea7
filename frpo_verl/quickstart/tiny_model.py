"""A Qwen3-architecture model of about half a million parameters, warmed up until it solves a fifth of the problems.

``build(out, data)`` makes the tokenizer and the model, trains it by supervised learning on fresh problems of the data's
levels (never a test problem), stops as soon as the chance of a right answer on a validation split reaches ``target``,
and renames the finished folder into place. ``python -m frpo_verl.quickstart.tiny_model --out DIR --data DIR`` does it
from the shell. A folder that already holds the model for the same settings and data is left as it is.

The folder is an ordinary one: AutoModelForCausalLM / AutoTokenizer ``.from_pretrained`` and verl load it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from frpo_verl.quickstart import arithmetic
from frpo_verl.quickstart.tokenizer import load_tokenizer, write_tokenizer

STAMP = "tiny_model.json"
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


# ----------------------------------------------------------------------------------------------------- model


def make_model(settings: Settings, tokenizer):
    """A freshly initialised Qwen3 in float32 for this tokenizer; deterministic in ``settings.seed``."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        num_key_value_heads=settings.n_kv_heads,
        head_dim=settings.head_dim,
        initializer_range=settings.init_std,
        max_position_embeddings=settings.max_positions,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen3ForCausalLM(config).float()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


# ---------------------------------------------------------------------------------------------------- warm-up


def template_parts(tokenizer) -> tuple[str, str, str]:
    """What the chat template puts before the question, between question and answer, and after the answer."""
    turns = [{"role": "user", "content": "\x01"}, {"role": "assistant", "content": "\x02"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    before, rest = text.split("\x01")
    between, after = rest.split("\x02")
    return before, between, after.rstrip("\n")


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


def encode_batch(tokenizer, parts, questions: list[str], answers: list[str]):
    """Right-padded ids (B, T) int64 and a mask (B, T) bool that is true on the answer and its end marker."""
    import torch

    before, between, after = parts
    n_prompt = [
        len(ids) for ids in tokenizer([before + q + between for q in questions], add_special_tokens=False)["input_ids"]
    ]
    texts = [before + q + between + a + after for q, a in zip(questions, answers, strict=True)]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id, dtype=torch.int64)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, n_prompt[i] : len(row)] = True
    return ids, mask


def token_nll(model, ids, mask):
    """Negative log-likelihood (B, T-1) of each next token, 0 where the target is masked."""
    import torch
    import torch.nn.functional as F

    # causal attention over right-padded rows: what stands behind a target cannot reach it, so no attention mask
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    nll = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none")
    return torch.where(mask[:, 1:], nll.view(ids.shape[0], -1), nll.new_zeros(()))


def exact_pass_at_1(model, tokenizer, problems) -> float:
    """Mean probability, at temperature 1, of exactly the written-out right answer.

    No sampling, hence no sampling error; a lower bound of pass@1, since a wrong partial sum may still end right.
    """
    import torch

    ids, mask = encode_batch(
        tokenizer, template_parts(tokenizer), [p.question for p in problems], [p.solution for p in problems]
    )
    with torch.no_grad():
        return token_nll(model, ids, mask).sum(-1).neg().exp().mean().item()


def count_right(model, tokenizer, problems, samples: int = 1, seed: int = 0, max_new_tokens: int = 24) -> list[int]:
    """Right final answers of each problem among ``samples`` from ``generate`` at temperature 1."""
    import torch

    before, between, _ = template_parts(tokenizer)
    prompts = tokenizer([before + p.question + between for p in problems], add_special_tokens=False)["input_ids"]
    width = max(len(row) for row in prompts)
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        out = model.generate(
            input_ids=ids.repeat_interleave(samples, 0),
            attention_mask=mask.repeat_interleave(samples, 0),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    texts = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
    right = [t.rpartition("#### ")[2] == problems[i // samples].answer for i, t in enumerate(texts)]
    return [sum(right[i : i + samples]) for i in range(0, len(right), samples)]


def sampled_pass_at_1(model, tokenizer, problems, samples: int = 1, seed: int = 0) -> float:
    """Share of right final answers, see ``count_right``."""
    return sum(count_right(model, tokenizer, problems, samples, seed)) / (samples * len(problems))


def warm_up(model, tokenizer, settings: Settings, levels, exclude, progress: bool = True) -> dict:
    """Train ``model`` in place on fresh problems until validation pass@1 reaches ``settings.target``.

    ``exclude`` holds the keys of problems that must not be trained on (the test split). Validation problems are drawn
    here, apart from both. Returns what was measured. Raises RuntimeError when ``max_steps`` ends below half the target.
    """
    import torch
    from tqdm import tqdm

    validation = arithmetic.sample_distinct("validation", settings.validation_size, levels, settings.seed, exclude)
    problems = arithmetic.stream(settings.seed, levels, set(exclude) | {p.key for p in validation})
    slip_rng = random.Random(f"slips/{settings.seed}")
    parts = template_parts(tokenizer)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.95),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / settings.warmup_steps))
    began = time.monotonic()
    pass_at_1, loss, step = 0.0, float("nan"), 0
    model.train()
    look = {"desc": "warm-up", "unit": " steps", "leave": False, "mininterval": 1.0, "dynamic_ncols": True}
    with tqdm(disable=not progress, **look) as bar:  # no total: it stops at a pass@1, not at a number of steps
        for step in range(1, settings.max_steps + 1):
            batch = list(islice(problems, settings.batch_size))
            answers = [with_slip(p, slip_rng, settings.slips) for p in batch]
            ids, mask = encode_batch(tokenizer, parts, [p.question for p in batch], answers)
            loss = token_nll(model, ids, mask).sum() / mask.sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()
            every = settings.check_every if pass_at_1 < settings.target / 4 else max(1, settings.check_every // 4)
            if step % every == 0 or step == settings.max_steps:
                pass_at_1 = exact_pass_at_1(model, tokenizer, validation)
                bar.set_postfix_str(f"loss {loss.item():.3f}, pass@1 {pass_at_1:.3f} of {settings.target:g}")
                if pass_at_1 >= settings.target:
                    break
    model.eval()
    if pass_at_1 < settings.target / 2:
        raise RuntimeError(
            f"warm-up: pass@1 is {pass_at_1:.3f} after max_steps={settings.max_steps}, wanted {settings.target}: "
            "raise max_steps or choose easier levels"
        )
    return {
        "steps": step,
        "seconds": round(time.monotonic() - began, 1),
        "loss": round(loss.item(), 4),
        "validation_exact_pass_at_1": round(pass_at_1, 4),
        "validation_sampled_pass_at_1": round(sampled_pass_at_1(model, tokenizer, validation, 4, settings.seed), 4),
    }


# ------------------------------------------------------------------------------------------------------ build


def read_problems(path: str | os.PathLike) -> list[arithmetic.Problem]:
    """The problems of one parquet file that data_preprocess/arithmetic.py wrote."""
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with data_preprocess/arithmetic.py --local_save_dir")
    rows = pq.read_table(path, columns=["extra_info"]).column("extra_info").to_pylist()
    return [arithmetic.from_question(row["question"], int(row["level"])) for row in rows]


def settings_hash(settings: Settings, train: list, test: list) -> str:
    """Digest of all that decides the result: the settings, the levels and the problems that are held out."""
    payload = {
        "format": FORMAT,
        "settings": asdict(settings),
        "levels": sorted({p.level for p in train + test}),
        "held_out": sorted(p.key for p in test),
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()[:16]


def up_to_date(out: str | os.PathLike, digest: str) -> bool:
    """Whether ``out`` holds a finished model made for this digest."""
    out = Path(out)
    try:
        stamp = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp.get("hash") == digest and (out / "model.safetensors").is_file()


def build(
    out: str | os.PathLike,
    data: str | os.PathLike,
    settings: Settings | None = None,
    force: bool = False,
    progress: bool = True,
) -> dict:
    """Make the model folder ``out`` for ``data`` (a folder with train.parquet and test.parquet); return its stamp.

    The folder appears complete or not at all. It is reused when it was made with the same settings for the same data,
    unless ``force``. The stamp (also written to ``tiny_model.json``) holds the settings and what was measured;
    ``reused`` in the returned dict says whether the work was skipped.
    """
    settings = settings or Settings()
    train, test = read_problems(Path(data) / "train.parquet"), read_problems(Path(data) / "test.parquet")
    levels = sorted({p.level for p in train + test})

    def make(tokenizer):
        model = make_model(settings, tokenizer)
        measured = warm_up(model, tokenizer, settings, levels, {p.key for p in test}, progress)
        return model, {"settings": asdict(settings), "levels": levels, **measured}

    return finished_folder(Path(out), settings_hash(settings, train, test), make, force)


def finished_folder(out: Path, digest: str, make: Callable, force: bool = False) -> dict:
    """The stamp of the model folder ``out``; unless it is up to date, ``make(tokenizer) -> (model, what to note)`` fills it.

    The folder appears complete or not at all; ``reused`` in the returned dict says whether the work was skipped.
    """
    if not force and up_to_date(out, digest):
        return {**json.loads((out / STAMP).read_text(encoding="utf-8")), "reused": True}
    work = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    _remove_leftovers(out)
    work.mkdir(parents=True)
    try:
        write_tokenizer(work)
        with _few_threads():
            model, noted = make(load_tokenizer(work))
        _save(model, work)
        stamp = {"hash": digest, "parameters": sum(p.numel() for p in model.parameters()), **noted}
        text = json.dumps(stamp, indent=2)
        (work / STAMP).write_text(text + "\n", encoding="utf-8")
        _replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return {**json.loads(text), "reused": False}


def _save(model, folder: Path) -> None:
    """``save_pretrained`` without the progress bar that transformers 5 prints for the one file."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _few_threads():
    """Half the processors for torch, at most four: matrices this small gain nothing from more, and a thread that has to
    wait for a busy processor holds up all others."""
    import torch

    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, max(1, min(4, processors // 2))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _remove_leftovers(out: Path) -> None:
    """Delete the working folders beside ``out`` whose process is gone (it was killed) or is this one."""
    for folder in [*out.parent.glob(f"{out.name}.tmp-*"), *out.parent.glob(f"{out.name}.old-*")]:
        pid = folder.name.rpartition("-")[2]
        if pid.isdigit() and (int(pid) == os.getpid() or not _alive(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _replace_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; an older folder of that name is moved away first and then deleted."""
    old = target.with_name(f"{target.name}.old-{os.getpid()}")
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def data_beside(out: Path) -> Path:
    """The folder `data` beside the model's; the default problems are written there unless they are there."""
    folder = out.parent / "data"
    if not (folder / "test.parquet").exists():
        from ..data.sets import arithmetic

        if arithmetic.main(["--local_save_dir", str(folder)]):
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
