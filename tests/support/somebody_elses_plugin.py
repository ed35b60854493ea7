"""Another plugin, loaded by VERL_USE_EXTERNAL_MODULES: an estimator and a loss whose names look like ours."""

from verl.trainer.ppo.core_algos import get_adv_estimator_fn, get_policy_loss_fn, register_adv_est, register_policy_loss


@register_adv_est("frpo_mine")
def frpo_mine(token_level_rewards, response_mask, config=None, index=None, **_):
    return get_adv_estimator_fn("grpo")(
        token_level_rewards=token_level_rewards, response_mask=response_mask, index=index
    )


@register_policy_loss("rpg_mine")
def rpg_mine(**arguments):
    return get_policy_loss_fn("vanilla")(**arguments)
