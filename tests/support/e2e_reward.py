"""A reward that a random model gets different values of: the share of digits in the answer."""


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY  # runs in a reward worker: does it know the plugin?

    text = solution_str.strip()
    score = sum(c.isdigit() for c in text) / max(1, len(text))
    return {"score": score, "acc": score, "pred": text, "knows_frpo": float("frpo" in ADV_ESTIMATOR_REGISTRY)}
