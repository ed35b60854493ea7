"""examples/frpo_in_40_lines.py is the registered estimator."""

import runpy
from pathlib import Path

import pytest
import torch
from batches import advantages, batch, random_batch

EXAMPLE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "examples" / "frpo_in_40_lines.py"))


@pytest.mark.parametrize("seed", range(3))
def test_the_forty_lines_are_the_registered_estimator(seed):
    rewards, mask, old, ref, uid = random_batch(seed=seed, dtype=torch.float64)
    found = EXAMPLE["frpo_advantages"](rewards, mask, old, ref, uid, kl_coef=0.3)
    torch.testing.assert_close(found, advantages(batch(rewards, mask, old, ref, uid), kl_coef=0.3), rtol=0, atol=1e-9)
