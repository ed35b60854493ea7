"""For whatever settings pass the checks: no batch gives a non-finite advantage, and no key that was typed goes unread."""

import torch
from batches import batch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl import methods
from frpo_verl.methods import names
from frpo_verl.methods.settings import ConfigError, FrpoSettings
from frpo_verl.verl_plugin import estimators, metrics
from frpo_verl.verl_plugin.checks import needs, refuse

KEYS = {
    "kl_coef": st.sampled_from([1e-3, 0.3, 10.0]),
    "divergence": st.sampled_from(names.DIVERGENCES),
    "alpha": st.sampled_from([-3, -2, -0.5, 0.5, 1, 3, 4, 7]),
    "placement": st.sampled_from(names.PLACEMENTS),
    "baseline": st.sampled_from(names.BASELINES),
    "discount": st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    "step": st.sampled_from(["token", "length"]),
    "step_length": st.sampled_from([1, 2, 64]),
    "log_ratio_clip": st.sampled_from([0.5, 5.0, 20.0, 40.0, 80.0]),
    "on_nonfinite": st.sampled_from(names.ON_NONFINITE),
}


class Read:
    """Settings that remember which of them were read."""

    def __init__(self, section: FrpoSettings):
        self.section, self.names = section, set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self.section, name)


@st.composite
def batches(draw):
    """Log-probs as a trainer could hand them over, extreme ones and garbage off the mask included."""
    rows, width, groups = draw(st.integers(2, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = draw(st.sampled_from([0.1, 5.0, 300.0]))
    old, ref = (-size * torch.rand(rows, width, generator=g) - 1e-3 for _ in range(2))
    mask = (torch.rand(rows, width, generator=g) < 0.7).long()
    mask[0, 0] = 1
    old = torch.where(mask.bool(), old, torch.nan)
    rewards = torch.zeros(rows, width)
    rewards[:, -1] = torch.rand(rows, generator=g).round()
    return rewards, mask, old, ref, [f"p{i % groups}" for i in range(rows)]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(typed=st.fixed_dictionaries({}, optional=KEYS), data=batches())
def test_what_passes_is_finite_and_obeyed(typed, data, monkeypatch):
    method = methods.find("estimator", "frpo")
    try:
        section = method.parse(typed)
        refuse(needs.divergence_refusals(section) if section.kl_coef > 0 else ())
    except ConfigError:
        return
    read = Read(section)
    monkeypatch.setattr(
        methods.Method,
        "load_adapter",
        lambda self: lambda view, rewards, mask, s, norm: estimators.frpo(view, rewards, mask, read, norm),
    )
    rewards, mask, *_ = data
    metrics.take()
    config = OmegaConf.create({"adv_estimator": "frpo", "frpo": typed})
    advantages = compute_advantage(batch(*data), adv_estimator="frpo", config=config).batch["advantages"]
    assert torch.isfinite(advantages).all() and not advantages[mask == 0].any()
    if "frpo/nonfinite_rows" in metrics.take():  # read where the batch is judged
        read.names.add("on_nonfinite")
    default = FrpoSettings()
    assert {key for key, value in typed.items() if value != getattr(default, key)} <= read.names
