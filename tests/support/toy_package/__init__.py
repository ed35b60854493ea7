"""Somebody else's package: a policy loss of their own, in one function and one row."""

from frpo_verl.core.losses.terms import LossInputs, LossTerms, attach_gradient
from frpo_verl.methods import Method, add


def plain_policy_gradient(inputs: LossInputs) -> LossTerms:
    """-A log pi, no ratio and no clip."""
    value = -inputs.advantages * inputs.log_prob.detach()
    return LossTerms(attach_gradient(value, -inputs.advantages, inputs.log_prob), None, {})


ROW = add(
    Method(
        "toy_policy_gradient", "policy_loss", "toy_package:plain_policy_gradient", obeys=frozenset({"loss_agg_mode"})
    )
)
