import math

import pytest
import torch

from frpo_verl.core.losses.terms import attach_gradient, read_loss_inputs, row_value

MASK = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0]])


def given(garbage=0.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.where(MASK.bool(), torch.randn(3, 3, generator=generator), garbage).to(dtype) for _ in range(4)]
    names = ("log_prob", "old_log_prob", "advantages", "ref_log_prob")
    return dict(zip(names, tensors, strict=True))


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.float32])
def test_the_door_masks_every_tensor_and_its_gradient(garbage, mask_dtype):
    clean, dirty = given(), given(garbage)
    dirty["log_prob"].requires_grad_()
    inputs = read_loss_inputs(mask=MASK.to(mask_dtype), **dirty)
    for name, x in clean.items():
        assert torch.equal(getattr(inputs, name), x)
    assert torch.equal(inputs.mask, MASK.bool()) and inputs.mask.dtype == torch.bool
    # whatever is computed from it, even with an infinite slope at 0, nothing reaches a masked position
    (grad,) = torch.autograd.grad((inputs.log_prob.abs().sqrt() + inputs.log_prob).sum(), dirty["log_prob"])
    assert (grad[MASK == 0] == 0).all() and (grad[MASK == 1] != 0).all()
    assert not any(x.requires_grad for x in (inputs.old_log_prob, inputs.advantages, inputs.ref_log_prob))


def test_half_precision_is_upcast_and_one_double_makes_all_double():
    half = given(dtype=torch.bfloat16)
    inputs = read_loss_inputs(mask=MASK, **half)
    assert {x.dtype for x in inputs if x.dtype != torch.bool} == {torch.float32}
    inputs = read_loss_inputs(mask=MASK, **{**half, "advantages": half["advantages"].double()})
    assert {x.dtype for x in inputs if x.dtype != torch.bool} == {torch.float64}
    del half["ref_log_prob"]
    assert read_loss_inputs(mask=MASK, **half).ref_log_prob is None


def test_one_advantage_for_each_response():
    x = {**given(), "advantages": torch.tensor([1.0, -2.0, math.nan])}
    assert read_loss_inputs(mask=MASK, **x).advantages.tolist() == [[1.0, 1.0, 0.0], [0.0, -2.0, 0.0], [0.0] * 3]
    x["advantages"] = torch.tensor([1, -2, 5])
    assert read_loss_inputs(mask=MASK, **x).advantages[0, 0] == 1.0


def test_shapes_are_asserted():
    for name in given():
        for bad in (torch.zeros(3, 4), torch.zeros(4), torch.zeros(())):
            with pytest.raises(ValueError, match=rf"{name} .*\(B, T\)"):
                read_loss_inputs(mask=MASK, **{**given(), name: bad})
    with pytest.raises(ValueError, match="mask must be"):
        read_loss_inputs(mask=MASK[0], **given())


def test_attach_gradient_is_the_value_with_the_given_gradient():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    out = attach_gradient(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([0.5, math.nan, -2.0]), x)
    assert out.tolist() == [5.0, 6.0, 7.0]
    (grad,) = torch.autograd.grad((out * torch.tensor([2.0, 0.0, 3.0])).sum(), x)
    assert grad.tolist() == [1.0, 0.0, -6.0]  # what a masked sum leaves out stays 0
    (grad,) = torch.autograd.grad(attach_gradient(out, torch.tensor([0.5, math.nan, -2.0]), x).sum(), x)
    assert grad[1].isnan()  # a NaN that is used shows
    with pytest.raises(ValueError, match="one shape"):
        attach_gradient(torch.zeros(2), torch.zeros(3), x)


def test_row_value():
    x = torch.tensor([[1.0, 1.0, math.nan], [7.0, 2.0, 7.0], [3.0, 3.0, 3.0]])
    assert row_value(x, MASK.bool(), "weights").tolist() == [1.0, 2.0, 0.0]
    assert row_value(torch.tensor([1.0, 2.0, math.nan]), MASK.bool(), "weights").tolist() == [1.0, 2.0, 0.0]
    with pytest.raises(ValueError, match="weights of response 0 varies"):
        row_value(torch.tensor([[1.0, 2.0, 0.0]]), MASK[:1].bool(), "weights")
    with pytest.raises(ValueError, match="weights has shape"):
        row_value(torch.zeros(2), MASK.bool(), "weights")
