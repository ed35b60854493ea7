"""A model's folder that is complete or not there, and is made again only when what decides it has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .tokenizer import load_tokenizer, write_tokenizer

STAMP = "tiny_model.json"


def digest_of(**decides: Any) -> str:
    """Digest of all that decides a model."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def up_to_date(out: Path, digest: str) -> bool:
    """Whether ``out`` holds a finished model made for this digest."""
    try:
        stamp = json.loads((out / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp.get("hash") == digest and (out / "model.safetensors").is_file()


def finished_folder(out: Path, digest: str, make: Callable, force: bool = False) -> dict:
    """The stamp of the model folder ``out``; unless it is up to date, ``make(tokenizer) -> (model, what to note)`` fills it.

    The folder appears complete or not at all. The stamp (also written to ``tiny_model.json``) holds what was noted;
    ``reused`` in the returned dict says whether the work was skipped.
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


def _save(model: Any, folder: Path) -> None:
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
def _few_threads() -> Iterator[None]:
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
