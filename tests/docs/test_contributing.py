"""What CONTRIBUTING.md shows works: its diffs apply and do what it says, its modules are those that the tests use."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
USED = """
import numpy, torch
from verl.trainer.ppo import core_algos
from frpo_verl import methods
from frpo_verl.core.losses.terms import read_loss_inputs
from frpo_verl.core.proof import check_divergence
from frpo_verl.custom import load_divergence

assert all(finding.ok for finding in check_divergence(load_divergence("le_cam")))
assert methods.find("local_kl", "le_cam") is not None
assert {"frpo_le_cam", "grpo_sign"} <= set(core_algos.ADV_ESTIMATOR_REGISTRY)
assert "unclipped" in core_algos.POLICY_LOSS_REGISTRY

x, mask = torch.tensor([[-1.0, -2.0]]), torch.ones(1, 2)
inputs = read_loss_inputs(log_prob=x, old_log_prob=x - 0.5, advantages=torch.tensor([2.0]), mask=mask)
terms = methods.find("policy_loss", "unclipped").load()(inputs)
torch.testing.assert_close(terms.token_loss, torch.full((1, 2), -2.0) * torch.tensor(0.5).exp())

rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2)
advantages, _ = core_algos.ADV_ESTIMATOR_REGISTRY["grpo_sign"](
    token_level_rewards=rewards, response_mask=mask, index=numpy.array(["a", "a"], dtype=object), config={}
)
assert advantages.tolist() == [[1.0, 1.0], [-1.0, -1.0]]
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the diffs")
@pytest.mark.slow
def test_the_diffs_apply_and_do_what_the_page_says(tmp_path):
    shutil.copytree(ROOT / "frpo_verl", tmp_path / "frpo_verl", ignore=shutil.ignore_patterns("__pycache__"))
    assert len(blocks("diff")) == 3
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}  # a diff is for this folder alone
    for diff in blocks("diff"):
        git = ["git", "-c", "core.autocrlf=false", "apply", "-"]
        result = subprocess.run(git, input=diff, text=True, capture_output=True, cwd=tmp_path, env=environment)
        assert result.returncode == 0, result.stderr
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USED], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_modules_shown_are_the_ones_that_the_tests_use():
    shown = blocks("python")
    assert shown == [
        (ROOT / "tests/support" / name).read_text() for name in ("good_divergence.py", "toy_package/__init__.py")
    ]
