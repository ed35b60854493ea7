"""On a GPU the registered estimator and a loss compute what they compute on the CPU."""

import pytest
import torch
from batches import advantages, batch, random_batch
from loss_batch import actor_config
from verl.trainer.ppo.core_algos import get_policy_loss_fn

from frpo_verl.verl_plugin import metrics

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
COLUMNS = random_batch(rows=64, width=129, groups=8)


def on(device, columns):
    return [x.to(device) if isinstance(x, torch.Tensor) else x for x in columns]


@pytest.mark.parametrize("kind", [{}, {"divergence": "js"}, {"baseline": "position"}, {"placement": "reward"}])
def test_the_registered_estimator(kind, device="cuda"):
    expected, wanted = advantages(batch(*COLUMNS), kl_coef=0.1, **kind), metrics.take()
    found = advantages(batch(*on(device, COLUMNS)), kl_coef=0.1, **kind)
    assert found.device.type == device and metrics.take() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss_mode", ["atr_grpo", "rpg_urkl"])
def test_a_loss_and_its_gradient(loss_mode, device="cuda"):
    _, mask, old, new, _ = COLUMNS
    weight, config, found = torch.linspace(-1, 1, mask.numel()).view(mask.shape), actor_config(), []
    for place in ("cpu", device):
        log_prob = (old + 0.1 * (new - old)).to(place).requires_grad_()
        given = on(place, (old, weight, mask))
        loss, _ = get_policy_loss_fn(loss_mode)(given[0], log_prob, *given[1:], "token-mean", config)
        found.append((loss.detach().cpu(), torch.autograd.grad(loss, log_prob)[0].cpu()))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)
