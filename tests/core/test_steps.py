import pytest
import torch
from toys import Setting, regularize

from frpo_verl.core.divergences import DIVERGENCES, get_divergence
from frpo_verl.core.steps import steps_by_length, steps_by_newline

HORIZON = 5
NAMES = [(name, 0.5 if name == "alpha" else None) for name in DIVERGENCES]


@pytest.mark.parametrize("step_length", range(1, HORIZON + 1))
@pytest.mark.parametrize("name, order", NAMES, ids=list(DIVERGENCES))
def test_step_starts_are_exact_for_every_length_and_divergence(name, order, step_length):
    toy = Setting(horizon=HORIZON)
    starts = steps_by_length(toy.mask, step_length)
    reg = regularize(toy.delta, toy.mask, divergence=name, alpha=order, step_begins=starts)
    assert toy.error(reg, get_divergence(name, order)) < 1e-10


def test_newline_steps_are_exact():
    toy = Setting(horizon=HORIZON)
    starts = steps_by_newline(toy.all.tokens, toy.mask, decode=["<eos>", "x", ".\n"].__getitem__)
    assert toy.error(regularize(toy.delta, toy.mask, step_begins=starts), DIVERGENCES["reverse_kl"]) < 1e-10


def test_steps_count_response_tokens_and_skip_masked_ones():
    mask = torch.tensor([[0, 1, 0, 1, 1, 0, 0, 1, 1, 0], [0] * 10]).bool()
    starts = steps_by_length(mask, 2)
    assert starts.int().tolist() == [[0, 1, 0, 0, 1, 0, 0, 0, 1, 0], [0] * 10]
    assert torch.equal(torch.cat([steps_by_length(row, 2) for row in mask.split(1)]), starts)  # by chunks


TEXTS = ["a", ".\n", "\n", "\n\n", "b", ")\n  ", "c"]


def test_newline_steps_on_merged_tokens_texts_and_ids():
    tokens = torch.tensor([[0, 1, 4, 2, 3, 5, 6, 0], [4, 4, 4, 1, 1, 6, 6, 6]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 1, 1, 1]]).bool()
    # a masked newline (tool text) ends nothing
    expected = [[1, 0, 1, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    asked = []

    def decode(i):
        asked.append(i)
        return TEXTS[i]

    assert steps_by_newline(tokens, mask, decode).int().tolist() == expected
    assert sorted(asked) == sorted(set(tokens[mask.bool()].tolist()))  # once for each id, never for masked ones
    texts = [[TEXTS[i] for i in row] for row in tokens.tolist()]
    assert steps_by_newline(texts, mask).int().tolist() == expected


def test_a_newline_before_a_gap_starts_a_step_after_it():
    tokens = torch.tensor([[0, 2, 9, 9, 4, 6]])
    mask = torch.tensor([[1, 1, 0, 0, 1, 1]]).bool()
    starts = steps_by_newline(tokens, mask, lambda i: TEXTS[i])
    assert starts.int().tolist() == [[1, 0, 0, 0, 1, 0]]


def test_empty_and_all_masked():
    for shape in ((0, 4), (4, 0), (2, 3)):
        mask = torch.zeros(shape, dtype=torch.bool)
        tokens = torch.zeros(shape, dtype=torch.int64)
        assert torch.equal(steps_by_length(mask, 3), mask)
        assert torch.equal(steps_by_newline(tokens, mask, lambda i: "\n"), mask)
        assert torch.equal(steps_by_newline([["\n"] * shape[1]] * shape[0], mask), mask)


def test_errors_name_the_argument():
    mask = torch.ones(2, 3, dtype=torch.bool)
    for step_length in (0, -1, 2.5, True, "2"):
        with pytest.raises(ValueError, match="step_length="):
            steps_by_length(mask, step_length)
    with pytest.raises(ValueError, match="decode"):
        steps_by_newline(torch.zeros(2, 3, dtype=torch.int64), mask)
    with pytest.raises(ValueError, match="tokens must be"):
        steps_by_newline(torch.zeros(2, 4, dtype=torch.int64), mask, lambda i: "")
    with pytest.raises(ValueError, match="2 lists of 3 texts"):
        steps_by_newline([["a"], ["b"]], mask)
