"""A mini-batch in the form in which verl's engines call `ppo_loss`: nested columns, a flat model output."""

from __future__ import annotations

import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

PROMPT = 2  # tokens of every prompt
COLUMNS = ("response_mask", "old_log_probs", "advantages", "ref_log_prob")


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def make_rows(n: int = 8, vocabulary: int = 5, width: int = 6, seed: int = 0, updates: float = 0.3):
    """n responses of different length; the policy is a table of logits, one row for each token of the batch."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, width + 1, (n,), generator=g).tolist()
    rows = []
    for length in lengths:
        tokens = torch.randint(0, vocabulary, (length,), generator=g)
        logits = torch.randn(length, vocabulary, generator=g, dtype=torch.float64)
        old = logits + updates * torch.randn(length, vocabulary, generator=g, dtype=torch.float64)
        ref = logits + torch.randn(length, vocabulary, generator=g, dtype=torch.float64)
        pick = lambda x, t=tokens: torch.log_softmax(x, -1).gather(-1, t[:, None]).squeeze(-1)  # noqa: E731
        mask = torch.ones(length, dtype=torch.long)
        if length > 3:
            mask[1] = 0  # a tool token
        rows.append(
            {"tokens": tokens, "logits": logits.requires_grad_(), "old_log_probs": pick(old), "ref_log_prob": pick(ref),
             "response_mask": mask,
             "advantages": torch.full((length,), float(torch.randn((), generator=g, dtype=torch.float64))).double()}
        )  # fmt: skip
    return rows


def actor_config(**overrides):
    """verl's ActorConfig for FSDP, built as the workers build it."""
    base = {
        "_target_": "verl.workers.config.FSDPActorConfig", "strategy": "fsdp2", "rollout_n": 2,
        "ppo_micro_batch_size_per_gpu": 4, "use_kl_loss": False,
        "policy_loss": {"_target_": "frpo_verl.PolicyLossConfig", "loss_mode": "vanilla"},
    }  # fmt: skip
    return omega_conf_to_dataclass(OmegaConf.merge(base, overrides))


def micro_batch(
    rows, batch_num_tokens: int, global_batch_size: int, reference: bool = True, dp_size: int = 1
) -> TensorDict:
    columns = {
        "prompts": nested([torch.ones(PROMPT, dtype=torch.long)] * len(rows)),
        "responses": nested([r["tokens"] for r in rows]),
    }
    for name in COLUMNS:
        if name != "ref_log_prob" or reference:
            columns[name] = nested([r[name] for r in rows])
    data = TensorDict(columns, batch_size=len(rows))
    tu.assign_non_tensor(data, dp_size=dp_size, batch_num_tokens=batch_num_tokens, global_batch_size=global_batch_size)
    return data


def log_prob_of(row):
    """(tokens,) log-prob of a row's tokens under its table of logits."""
    return torch.log_softmax(row["logits"], -1).gather(-1, row["tokens"][:, None]).squeeze(-1)


def model_output(rows):
    """Flat log-probs of prompt and response, shifted left by one as a model puts them out."""
    parts = []
    for r in rows:
        log_p = log_prob_of(r)
        parts.append(torch.cat([log_p.new_zeros(PROMPT - 1), log_p, log_p.new_zeros(1)]))
    return {"log_probs": torch.cat(parts)}


def gradients(rows, config, pieces: int = 1, reference: bool = True):
    """(loss, metrics of the last piece, gradient of every row's logits) of one mini-batch in `pieces` micro-batches."""
    tokens = int(sum(r["response_mask"].sum() for r in rows))
    for r in rows:
        r["logits"].grad = None
    total, metrics = 0.0, {}
    size = len(rows) // pieces
    for i in range(pieces):
        part = rows[i * size : (i + 1) * size]
        loss, metrics = ppo_loss(config, model_output(part), micro_batch(part, tokens, len(rows), reference))
        loss.backward()
        total += float(loss.detach())
    return total, metrics, [r["logits"].grad.clone() for r in rows]
