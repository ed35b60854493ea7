import math

import numpy as np
import pytest
import torch

from frpo_verl.core.soundness import all_zero, nonfinite_rows
from frpo_verl.core.tokens import dense_ids, keep, read_answers, reverse_cumsum

JUNK = [math.nan, math.inf, -math.inf, 3e38]
MASKS = [torch.bool, torch.int64, torch.uint8, torch.float32]


@pytest.mark.parametrize("dtype", MASKS)
@pytest.mark.parametrize("junk", JUNK)
def test_masked_positions_have_no_effect_on_value_or_gradient(dtype, junk):
    x = torch.tensor([[1.0, junk, 2.0], [junk, 5.0, junk]], requires_grad=True)
    mask = torch.tensor([[1, 0, 1], [0, 1, 0]]).to(dtype)
    total = keep(x, mask).square().sum()
    total.backward()
    assert total.item() == 30.0
    assert x.grad.tolist() == [[2.0, 0.0, 4.0], [0.0, 10.0, 0.0]]


def test_keep_fills_and_keeps_the_dtype():
    x = torch.tensor([1, 2, 3], dtype=torch.bfloat16)
    mask = torch.tensor([True, False, True])
    assert keep(x, mask, fill=-7).tolist() == [1, -7, 3] and keep(x, mask).dtype == torch.bfloat16
    assert keep(torch.tensor([4, 5, 6]), mask, fill=9).tolist() == [4, 9, 6]
    for dtype in MASKS:
        assert keep(x, torch.tensor([0, 1, 2]).to(dtype)).tolist() == [0, 2, 3]


def test_reverse_cumsum_is_a_sum_of_what_follows_in_value_and_gradient():
    x = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    follows = torch.ones(7, 7, dtype=torch.float64).tril()  # [j, t]: j >= t
    torch.testing.assert_close(reverse_cumsum(x), x @ follows)
    weight = torch.randn(7, dtype=torch.float64)
    (grad,) = torch.autograd.grad((weight * reverse_cumsum(x)).sum(), x)
    torch.testing.assert_close(grad, (follows @ weight).expand_as(x))
    for shape in ((0, 4), (4, 0)):
        assert reverse_cumsum(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.int32, torch.float32, torch.bfloat16])
def test_the_door_ignores_what_is_masked_and_clips_what_is_not(mask_dtype):
    nan, inf = math.nan, math.inf
    lp = torch.tensor([[-1.0, nan, -30.0, -inf], [-0.5, inf, -2.0, nan]], requires_grad=True)
    lr = torch.tensor([[-2.0, nan, -1.0, -inf], [-29.0, -inf, nan, -1.0]])
    mask = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0]]).to(mask_dtype)
    before = lp.clone(), lr.clone(), mask.clone()
    answers = read_answers(lp, lr, mask)
    assert answers.delta.tolist() == [[1.0, 0.0, -20.0, 0.0], [20.0, 0.0, 0.0, 0.0]]
    assert answers.kl_to_go.tolist() == [[-19.0, 0.0, -20.0, 0.0], [20.0, 0.0, 0.0, 0.0]]
    assert not answers.delta.requires_grad and answers.broken is None
    assert answers.valid.dtype == torch.bool and torch.equal(answers.valid, mask.bool())
    assert answers.position.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]] and answers.length.tolist() == [[2], [1]]
    assert answers.clipped.tolist() == [1, 1]
    assert nonfinite_rows(lp, mask) is None and nonfinite_rows(lr, mask) is None
    assert read_answers(lp, lr, mask, 50.0).delta[0, 2] == -29.0
    assert read_answers(lp, lr, mask, 28.75).clipped.tolist() == [1, 0]
    for x, kept in zip((lp, lr, mask), before, strict=True):
        assert torch.equal(x.nan_to_num(), kept.nan_to_num())


def test_what_goes_with_the_log_ratio_is_masked_too():
    x, nan = torch.tensor([[-1.0, math.nan], [-2.0, -3.0]]), math.nan
    mask = torch.tensor([[1, 0], [1, 1]])
    rest = {
        "entropy": torch.tensor([[0.5, nan], [1.0, 2.0]]),
        "other_log_prob": torch.tensor([[-1.5, nan], [-2.0, -1.0]]),
    }
    answers = read_answers(x, x, mask, outcome=torch.tensor([[3.0, nan], [4.0, 5.0]]), **rest)
    assert answers.entropy.tolist() == [[0.5, 0.0], [1.0, 2.0]]
    assert answers.difference.tolist() == [[0.5, 0.0], [0.0, -2.0]]
    assert answers.outcome.tolist() == [[3.0, 0.0], [4.0, 5.0]]
    assert read_answers(x, x, mask, outcome=torch.tensor([3, 4])).outcome.tolist() == [[3.0], [4.0]]


def test_dtypes_and_empty_batches():
    half = torch.full((2, 3), -1.5, dtype=torch.bfloat16)
    mask = torch.ones(2, 3)
    assert read_answers(half, half, mask).delta.dtype == torch.float32
    assert read_answers(half, half.double(), mask).delta.dtype == torch.float64
    for shape in ((0, 3), (3, 0)):
        empty = torch.zeros(shape)
        answers = read_answers(empty, empty, empty)
        assert answers.delta.shape == answers.valid.shape == shape and answers.broken is None
        assert not answers.length.any() and answers.clipped.shape == shape[:1]
        assert nonfinite_rows(empty, empty) is None


def test_a_nonfinite_valid_token_is_nan_and_its_row_is_broken():
    generator = torch.Generator().manual_seed(0)
    lp, lr = -torch.rand(2, 5, 6, generator=generator) * 3
    mask = torch.ones(5, 6, dtype=torch.int64)
    mask[3, 4:] = 0
    lp[1, 2], lr[1, 4], lr[3, 1], lp[3, 5], lr[4, 0] = math.nan, math.inf, -math.inf, math.nan, math.inf
    lp[4, 0] = math.inf  # the difference of two infinities
    lp[2, 3] = -30.0  # finite and beyond the bound: clipped, not broken
    answers = read_answers(lp, lr, mask)
    assert answers.broken.tolist() == [False, True, False, True, True] and answers.clipped[2] == 1
    assert nonfinite_rows(lp, mask).tolist() == [False, True, False, False, True]
    assert nonfinite_rows(lr, mask).tolist() == [False, True, False, True, True]
    assert answers.delta.isnan().nonzero().tolist() == [[1, 2], [1, 4], [3, 1], [4, 0]]
    good = ~answers.broken
    alone = read_answers(lp[good], lr[good], mask[good])
    assert torch.equal(answers.delta[good], alone.delta) and alone.broken is None


def test_a_difference_of_finite_numbers_that_overflows_is_clipped():
    answers = read_answers(torch.full((1, 1), -3e38), torch.full((1, 1), 3e38), torch.ones(1, 1))
    assert answers.delta.item() == -20.0 and answers.clipped.item() == 1 and answers.broken is None


def test_the_door_asserts_shapes_dtypes_and_the_bound():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3)
    for bad in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)):
        for arguments in ((bad, x, mask), (x, bad, mask)):
            with pytest.raises(ValueError, match=r"\(B, T\)"):
                read_answers(*arguments)
        with pytest.raises(ValueError, match=r"\(B, T\)"):
            nonfinite_rows(bad, mask)
    with pytest.raises(ValueError, match=r"mask must be \(B, T\)"):
        read_answers(x[0], x[0], mask[0])
    for clip in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="clip="):
            read_answers(x, x, mask, clip)


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([10**12, -5, 10**12, 7]),
        np.array(["a", "b", "a", "c"], dtype=object),
        np.array([3, 1, 3, 2]),
        ["x", None, "x", ("y", 1)],
        (1.5, 2.5, 1.5, 0.0),
    ],
    ids=lambda x: type(x).__name__,
)
def test_dense_ids_of_every_kind(ids):
    out = dense_ids(ids, 4)
    assert out.dtype == torch.int64 and sorted(out.unique().tolist()) == [0, 1, 2]
    assert (out[:, None] == out).tolist() == [[i == j or {i, j} == {0, 2} for j in range(4)] for i in range(4)]


def test_dense_ids_needs_one_id_for_each_response():
    assert dense_ids([], 0).shape == (0,)
    for ids in (["a"], torch.zeros(3), np.zeros((2, 1))):
        with pytest.raises(ValueError, match="session_ids has shape .* each of the 2 responses"):
            dense_ids(ids, 2, "session_ids")


def test_all_zero_is_about_valid_positions():
    x, mask = torch.zeros(300, 1000), torch.ones(300, 1000, dtype=torch.int64)
    assert all_zero(x, mask)
    assert not all_zero(x, torch.zeros(300, 1000))  # nothing is valid: nothing can be said
    x[299, 0] = math.nan  # in the last row; not 0
    assert not all_zero(x, mask)
    mask[299] = 0
    assert all_zero(x, mask)
