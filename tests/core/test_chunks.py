"""The pass over chunks of answers: what it allocates, and that it changes nothing."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toys import ROWS, frpo

from frpo_verl.core.advantages import Regularizer, regularized_advantages, sequence_divergence
from frpo_verl.core.divergences import get_divergence
from frpo_verl.core.groups import position_baseline
from frpo_verl.core.regularizers import regularize as equation
from frpo_verl.core.steps import steps_by_length
from frpo_verl.core.tokens import Columns, read_answers

ONES = torch.ones(2048, 2048, dtype=torch.int64)
ZEROS, LOWER = torch.zeros(2048, 2048), torch.full((2048, 2048), -0.01)


class PeakMemory(TorchDispatchMode):
    """Bytes of tensor storage born inside the block and alive at the worst moment."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.seen = 0, 0, set()

    def _gone(self, key, size):
        self.live -= size
        self.seen.discard(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        old = {x.untyped_storage()._cdata for x in _tensors((args, kwargs or {}))}
        out = func(*args, **(kwargs or {}))
        for x in _tensors(out):
            storage = x.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in old and key not in self.seen:
                self.seen.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, key, size)
        return out


def _tensors(tree):
    return [x for x in torch.utils._pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"placement": "sequence"},
        {"discount": 0.9},
        {"baseline": "position"},
        {"baseline": "remaining"},
        {"placement": "reward_to_go"},
        {"step_begins": steps_by_length(ONES, 7)},
        {"entropy": ZEROS, "other_log_prob": LOWER},
        {"session_ids": torch.arange(2048) // 2},
        *({"divergence": get_divergence(name, order)} for name, order in ROWS),
    ],
    ids=lambda x: "-".join(x) or "default",
)
def test_at_most_half_a_tensor_beside_the_advantage(what):
    with PeakMemory() as memory:
        frpo(torch.zeros(2048), ZEROS, LOWER, ONES, group_ids=torch.arange(2048) // 8, **what)
    assert ZEROS.nbytes < memory.peak < 1.5 * ZEROS.nbytes


def test_a_sequence_divergence_allocates_no_tensor_of_full_size():
    with PeakMemory() as memory:
        sequence_divergence(Columns(ZEROS, ZEROS, ONES), get_divergence("js"))
    assert memory.peak < 0.5 * ZEROS.nbytes


@pytest.mark.parametrize("columns", [5, 3000, 2**17 + 3])
@pytest.mark.parametrize("baseline", ["none", "position"])
def test_the_chunks_change_nothing(columns, baseline):
    generator = torch.Generator().manual_seed(7)
    rows = 60 if columns < 10**5 else 4
    lp, lr = -torch.rand(2, rows, columns, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, columns, generator=generator) < 0.9
    scores = torch.randn(rows, generator=generator, dtype=torch.float64)
    groups = torch.randint(0, 4, (rows,), generator=generator)
    kind = Regularizer(0.2, get_divergence("js"), baseline=baseline)
    batch = Columns(lp, lr, mask, scores, groups, step_begins=steps_by_length(mask, 3))
    result = regularized_advantages(batch, kind)
    answers = read_answers(lp, lr, mask, group=groups, step_begins=batch.step_begins)
    reg = equation(answers, kind)
    if baseline == "position":
        reg = reg - position_baseline(reg, answers)
    expected = torch.where(mask, scores[:, None] - 0.2 * reg, 0.0)
    torch.testing.assert_close(result.advantages, expected)
    assert result.metrics["frpo/kl_to_ref/k1"] == pytest.approx(float((lp - lr)[mask].mean()))
