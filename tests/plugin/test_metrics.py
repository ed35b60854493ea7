"""frpo/kl_to_ref for estimators that are not frpo: the same numbers, through verl's own entry points."""

import pytest
import torch
from batches import batch, of_a_run, random_batch
from omegaconf import OmegaConf
from verl.trainer.ppo.ray_trainer import compute_advantage

from frpo_verl.verl_plugin import metrics, run

OF_THE_REGULARIZER = ("frpo/regularizer_share", "frpo/sign_flip_frac", "frpo/kl_coef")
OURS = {"composed_by": "frpo_verl"}  # what every recipe sets


def metrics_of(estimator, change=None, **settings):
    metrics.take()
    data = batch(*random_batch())
    if change is not None:
        change(data.batch)
    compute_advantage(data, adv_estimator=estimator, config=of_a_run(estimator, gamma=1.0, **settings))
    return metrics.take()


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_a_run_that_is_not_ours_logs_nothing(estimator):
    metrics.take()
    compute_advantage(
        batch(*random_batch()), adv_estimator=estimator, config=of_a_run(estimator, composed_by="somebody", gamma=1.0)
    )
    assert metrics.take() == {}


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus", "rpg_batch_mean"])
def test_other_estimators_log_what_frpo_logs(estimator):
    ours = metrics_of("frpo", frpo={"kl_coef": 0.1})
    theirs = metrics_of(estimator)
    assert {"frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3", "frpo/kl_by_position/q4", "frpo/zero_variance_groups"} <= set(
        theirs
    )
    assert theirs == {k: v for k, v in ours.items() if k not in OF_THE_REGULARIZER}


def test_frpo_without_a_coefficient_logs_it_where_a_reference_is_there():
    assert metrics_of("frpo", frpo={"kl_coef": 0.0})["frpo/kl_to_ref/k1"] == metrics_of("grpo")["frpo/kl_to_ref/k1"]


@pytest.mark.parametrize("what", ["missing", "placeholder", "nan"])
def test_without_a_usable_reference_nothing_is_logged_and_nothing_stops(what):
    def change(tensors):
        if what == "missing":
            del tensors["ref_log_prob"]
        elif what == "placeholder":
            tensors["ref_log_prob"] = torch.zeros_like(tensors["ref_log_prob"])
        else:
            tensors["ref_log_prob"][0, 0] = torch.nan

    assert metrics_of("grpo", change) == {}


@pytest.mark.parametrize("placement", ["future", "reward"])
def test_groups_without_variance_are_counted_by_the_score_and_not_by_the_score_with_verls_kl_in_it(placement):
    def kl_in_the_reward(tensors):  # what verl's apply_kl_penalty does
        tensors["token_level_rewards"] = tensors["token_level_scores"] - 0.1 * torch.rand(
            tensors["response_mask"].shape
        )

    same = "frpo/zero_variance_groups"
    frpo = {"kl_coef": 0.1, "placement": placement, "allow_multiple_kl": True}
    expected = metrics_of("frpo", lambda t: t["token_level_scores"].zero_(), frpo=frpo)[same]

    def equal_scores(tensors):
        tensors["token_level_scores"].zero_()
        kl_in_the_reward(tensors)

    assert expected == metrics_of("frpo", equal_scores, frpo=frpo)[same] == 1.0


def test_an_answer_that_ended_at_the_limit_is_not_cut_off():
    """Four answers of at most 4 tokens, end marker 9: one shorter, one that ended there, one cut off, one without tokens."""
    from verl import DataProto

    responses = torch.tensor([[5, 9, 0, 0], [5, 5, 5, 9], [5, 5, 5, 5], [0, 0, 0, 0]])
    length = torch.tensor([2.0, 4.0, 4.0, 0.0])
    attention = torch.cat([torch.ones(4, 3), (torch.arange(4) < length[:, None]).float()], 1).long()
    columns = {"responses": responses, "attention_mask": attention}
    run.remember(OmegaConf.create(OURS))
    assert metrics.cut_off(DataProto.from_dict(tensors=columns)) == {"frpo/cut_off_frac": 0.25}
    assert metrics.cut_off(DataProto.from_dict(tensors=columns | {"response_length": length})) == {
        "frpo/cut_off_frac": 0.25
    }
    same = DataProto.from_dict(tensors={"responses": responses[1:3], "response_length": length[1:3]})
    assert metrics.cut_off(same) == {}  # all of one length: what ends an answer cannot be seen
    run.remember(OmegaConf.create({}))
    assert metrics.cut_off(DataProto.from_dict(tensors=columns)) == {}
