import math

import pytest
import torch
from frpo_verl.masking import keep, masked_mean, masked_sum, reverse_cumsum, row_chunks, valid_positions

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


def test_keep_fills_keeps_the_dtype_and_writes_into_out():
    x = torch.tensor([1, 2, 3], dtype=torch.bfloat16)
    mask = torch.tensor([True, False, True])
    assert keep(x, mask, fill=-7).tolist() == [1, -7, 3] and keep(x, mask).dtype == torch.bfloat16
    assert keep(torch.tensor([4, 5, 6]), mask, fill=9).tolist() == [4, 9, 6]
    out = torch.empty(3, dtype=torch.bfloat16)
    assert keep(x, mask, out=out) is out and out.tolist() == [1, 0, 3]


def test_valid_positions_of_every_mask_dtype():
    for dtype in MASKS:
        assert valid_positions(torch.tensor([0, 1, 2]).to(dtype)).tolist() == [False, True, True]


def test_sum_and_mean_literal_numbers():
    x = torch.tensor([[1.0, 2.0, math.nan], [4.0, math.inf, math.nan]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert masked_sum(x, mask).item() == 7.0
    assert masked_sum(x, mask, dim=-1).tolist() == [3.0, 4.0]
    assert masked_mean(x, mask).item() == pytest.approx(7 / 3)
    assert masked_mean(x, mask, dim=-1).tolist() == [1.5, 4.0]
    assert masked_mean(x, mask, dim=0).tolist() == [2.5, 2.0, 0.0]
    assert masked_mean(x, torch.tensor([1, 0]).unsqueeze(1), dim=1).isnan().tolist() == [True, False]


def test_nothing_valid_gives_zero():
    x = torch.full((2, 3), math.nan, requires_grad=True)
    mask = torch.zeros(2, 3)
    value = masked_mean(x, mask) + masked_sum(x, mask)
    value.backward()
    assert value.item() == 0.0 and x.grad.tolist() == [[0.0] * 3] * 2


def test_half_precision_is_accumulated_in_float32():
    ones = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert masked_sum(ones, torch.ones(1, 4096)).item() == 4096.0
    assert masked_sum(ones, torch.ones(1, 4096)).dtype == torch.float32
    assert masked_sum(ones.double(), torch.ones(1, 4096)).dtype == torch.float64
    assert reverse_cumsum(ones)[0, 0].item() == 4096.0 and reverse_cumsum(ones).dtype == torch.float32


def naive_reverse_cumsum(x):
    out = torch.zeros_like(x)
    running = torch.zeros_like(x[..., 0])
    for t in reversed(range(x.shape[-1])):
        running = running + x[..., t]
        out[..., t] = running
    return out


def test_reverse_cumsum_against_a_loop_in_value_and_gradient():
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(reverse_cumsum(x), naive_reverse_cumsum(x))
    grads = [torch.autograd.grad((weight * f(x)).sum(), x)[0] for f in (reverse_cumsum, naive_reverse_cumsum)]
    torch.testing.assert_close(*grads)
    with torch.no_grad():
        torch.testing.assert_close(reverse_cumsum(x), naive_reverse_cumsum(x))
        torch.testing.assert_close(reverse_cumsum(x, dim=0), naive_reverse_cumsum(x.T).T)
        y = torch.randn(2, 3, 4, dtype=torch.float64)
        torch.testing.assert_close(reverse_cumsum(y), naive_reverse_cumsum(y))
        assert reverse_cumsum(torch.zeros(0, 4)).shape == (0, 4) and reverse_cumsum(torch.zeros(4, 0)).shape == (4, 0)


@pytest.mark.parametrize("columns", [1, 5, 2**18, 2**18 + 1])
def test_row_chunks_cover_every_row_once(columns):
    for rows in (0, 1, 7):
        assert [i for s in row_chunks(rows, columns) for i in range(s.start, s.stop)] == list(range(rows))
