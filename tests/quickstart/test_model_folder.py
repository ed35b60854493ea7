"""A model's folder appears complete or not at all, and is kept while what decides it stays the same."""

import os
import subprocess
import sys

import pytest
import torch

from frpo_verl.quickstart import model_folder
from frpo_verl.quickstart.model_folder import STAMP, digest_of, finished_folder


class Weights(torch.nn.Linear):
    """A stand-in for a model: it saves one file."""

    def save_pretrained(self, folder):
        (folder / "model.safetensors").write_bytes(b"weights")


def make(tokenizer):
    assert tokenizer.eos_token == "<|im_end|>"
    return Weights(2, 3), {"pass_at_1": 0.2}


def again(tokenizer):
    raise RuntimeError("made again")


def test_made_once_for_the_same_digest(tmp_path):
    out = tmp_path / "deep" / "model"
    stamp = finished_folder(out, "a", make)
    assert stamp == {"hash": "a", "parameters": 9, "pass_at_1": 0.2, "reused": False}
    assert [p.name for p in out.parent.iterdir()] == ["model"]
    assert finished_folder(out, "a", again) == {**stamp, "reused": True}
    for digest, force in (("b", False), ("a", True)):
        with pytest.raises(RuntimeError, match="made again"):
            finished_folder(out, digest, again, force)
    assert [p.name for p in out.parent.iterdir()] == ["model"]  # the failed tries left the old one, and nothing else
    assert finished_folder(out, "b", make)["hash"] == "b"


@pytest.mark.parametrize("broken", [STAMP, "model.safetensors"])
def test_a_folder_that_is_not_whole_is_made_again(tmp_path, broken):
    out = tmp_path / "model"
    finished_folder(out, "a", make)
    (out / broken).write_text('{"hash": ') if broken == STAMP else (out / broken).unlink()
    with pytest.raises(RuntimeError, match="made again"):
        finished_folder(out, "a", again)


def test_what_a_killed_build_left_is_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, kept = tmp_path / f"model.tmp-{gone.pid}", tmp_path / f"model.tmp-{os.getppid()}"
    for folder in (left, kept):
        folder.mkdir()
        (folder / "config.json").write_text("{")
    finished_folder(tmp_path / "model", "a", make)
    assert not left.exists() and kept.exists()


def test_half_the_processors_and_then_as_before():
    before = torch.get_num_threads()
    with model_folder._few_threads():
        assert torch.get_num_threads() <= max(1, min(4, (os.cpu_count() or 2) // 2))
    assert torch.get_num_threads() == before


def test_the_digest_depends_on_names_and_values_not_on_their_order():
    assert digest_of(a=1, b=[2]) == digest_of(b=[2], a=1)
    assert len({digest_of(a=1), digest_of(a=2), digest_of(b=1)}) == 3
