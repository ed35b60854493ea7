"""FRPO in 40 lines of torch: GRPO's advantage minus beta times the KL that is still to come.

    A_t = (r - mean r) / std r  -  beta * sum_{j >= t} log( pi(a_j) / ref(a_j) )

The names are those of verl's columns. `algorithm.adv_estimator=frpo` computes the same, for batches of any size.
"""

from collections import defaultdict

import torch


def frpo_advantages(token_level_rewards, response_mask, old_log_probs, ref_log_prob, uid, kl_coef=0.01):
    """(B, T) advantages; all tensors are (B, T), uid names the prompt of each response."""
    mask = response_mask.bool()

    groups = defaultdict(list)  # the responses of one prompt are compared
    for row, prompt in enumerate(uid):
        groups[prompt].append(row)
    rewards = token_level_rewards.sum(dim=-1)
    outcome = torch.zeros_like(rewards)
    for rows in groups.values():
        outcome[rows] = (rewards[rows] - rewards[rows].mean()) / (rewards[rows].std() + 1e-6)

    log_ratio = torch.where(mask, old_log_probs - ref_log_prob, 0.0).clamp(-20, 20)  # pi is the rollout's policy
    kl_to_go = log_ratio.flip(-1).cumsum(-1).flip(-1)  # a token pays for itself and for all that it leads to
    return torch.where(mask, outcome[:, None] - kl_coef * kl_to_go, 0.0)


if __name__ == "__main__":
    one, zero = [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]  # two answers of three tokens, the first one right
    advantages = frpo_advantages(
        token_level_rewards=torch.tensor([one, zero]),
        response_mask=torch.ones(2, 3),
        old_log_probs=torch.full((2, 3), -1.0),
        ref_log_prob=torch.tensor([[-1.0, -3.0, -1.0], [-1.0, -1.0, -1.0]]),
        uid=["a prompt", "a prompt"],
        kl_coef=0.1,
    )
    print(advantages)  # the second token left the reference: it and the token before it pay, the last one does not
