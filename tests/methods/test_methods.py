"""The table of methods: complete, frozen, and enough: what is derived from it, and a row from another package."""

import re
from pathlib import Path

import pytest
import torch
from loss_batch import actor_config, gradients, log_prob_of, make_rows

from frpo_verl import methods
from frpo_verl.methods import METHODS, Method, names

ROOT = Path(__file__).resolve().parents[2]
FROZEN = {
    "estimator": [
        *("frpo", *(f"frpo_{name}" for name in names.DIVERGENCES)),
        *("f_hal", "rpg_batch_mean", "corpo", "maxrl"),
    ],
    "policy_loss": (
        "rpg_fkl rpg_ufkl rpg_rkl rpg_urkl rpg_rf_fkl rpg_rf_ufkl rpg_rf_rkl rpg_rf_urkl divergence_clip atr_grpo f_grpo frpo"
    ).split(),
    "local_kl": [*names.DIVERGENCES, "k3_is"],
}
OURS = [m for m in METHODS.values() if m.function.startswith("frpo_verl.")]
by_name = pytest.mark.parametrize("method", OURS, ids=lambda m: f"{m.kind}-{m.name}")


def test_names_that_users_type_do_not_change():
    assert {kind: [m.name for m in OURS if m.kind == kind] for kind in methods.KINDS} == FROZEN


@by_name
def test_every_row_has_a_function_a_page_a_recipe_and_an_exactness_test(method):
    assert callable(method.load()) and (method.kind != "estimator" or callable(method.load_adapter()))
    page = (ROOT / "docs" / method.page).read_text()
    assert re.search(rf"\b{method.name.removeprefix('frpo_')}\b", page), (
        f"docs/{method.page} does not mention {method.name}"
    )
    assert method.recipe and (ROOT / "recipes" / "method" / f"{method.recipe[0].removeprefix('method=')}.yaml").exists()
    file, _, test = method.test.partition("::")
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text()
    assert method.needs <= set(methods.NEEDS)


def test_the_table_in_the_docs_is_the_table():
    assert methods.markdown(OURS) in (ROOT / "docs" / "methods.md").read_text(), (
        "docs/methods.md is not the table any more: python -m frpo_verl paths --methods prints it"
    )


def test_the_page_explains_the_needs_in_the_tables_words():
    page = (ROOT / "docs" / "methods.md").read_text()
    assert [f"* **{name}**: {need.text}" for name, need in methods.NEEDS.items()] == re.findall(
        r"^\* \*\*.*$", page, re.M
    )


def test_a_row_that_is_added_late_brings_its_section(monkeypatch):
    from dataclasses import dataclass
    from typing import ClassVar

    import frpo_verl
    from frpo_verl.methods.settings import POLICY_LOSS, Section

    @dataclass(frozen=True)
    class Late(Section):
        KEY: ClassVar[str] = f"{POLICY_LOSS}.late"
        strength: float = 1.0

    row = Method("late_loss", "policy_loss", "frpo_verl.core.losses.rpg:rpg_loss", section=Late)
    monkeypatch.setitem(METHODS, ("policy_loss", "late_loss"), row)
    assert frpo_verl.PolicyLossConfig(loss_mode="late_loss", late={"strength": 2.0}).late == {"strength": 2.0}
    with pytest.raises(ValueError, match="policy_loss.late.strenght: unknown key"):
        frpo_verl.PolicyLossConfig(loss_mode="late_loss", late={"strenght": 2.0})


def test_a_taken_name_or_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="policy_loss 'frpo' stands in the table already"):
        methods.add(Method("frpo", "policy_loss", "m:f"))
    with pytest.raises(ValueError, match="kind='loss': not one of estimator, policy_loss, local_kl"):
        methods.add(Method("mine", "loss", "m:f"))


def test_a_loss_of_another_package_is_one_row_and_one_function():
    """Registered with verl, checked and trained like ours, micro-batches included."""
    import toy_package
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    assert "toy_policy_gradient" in POLICY_LOSS_REGISTRY
    rows = make_rows()
    config = actor_config(policy_loss={"loss_mode": toy_package.ROW.name})
    loss, _, whole = gradients(rows, config)
    other, _, cut = gradients(rows, config, pieces=4)
    tokens = sum(int(r["response_mask"].sum()) for r in rows)
    expected = -sum((r["advantages"] * r["response_mask"] * log_prob_of(r)).sum() for r in rows) / tokens
    assert loss == pytest.approx(float(expected.detach()), abs=1e-12) and other == pytest.approx(loss, abs=1e-12)
    truth = torch.autograd.grad(expected, [r["logits"] for r in rows])
    for a, b, c in zip(whole, cut, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        torch.testing.assert_close(a, c, rtol=0, atol=1e-12)
