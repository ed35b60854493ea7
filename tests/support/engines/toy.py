"""A tiny model, a mini-batch with tool tokens, and the settings of every method of the plugin."""

from __future__ import annotations

from pathlib import Path

import torch

from frpo_verl import methods

VOCABULARY, PROMPT, RESPONSE, ROWS = 64, 6, 10, 8
KINDS = ("qwen3", "qwen3_moe")


def write_model(folder: Path, kind: str = "qwen3") -> Path:
    """A random transformers model of four layers with a tokenizer of words in `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token="w1").save_pretrained(folder)
    sizes = dict(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=128, tie_word_embeddings=False,
        initializer_range=0.2, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    if kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**sizes))
    else:
        experts = dict(
            num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True,
            decoder_sparse_step=1, mlp_only_layers=[],
        )  # fmt: skip
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **experts))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:  # a fresh norm is 1 everywhere: two of them in each other's place would not show
                value.add_(0.1 * torch.randn_like(value))
    model.save_pretrained(folder)
    return folder


def mini_batch() -> dict[str, torch.Tensor]:
    """Two prompts of four answers: left-padded prompts, answers of different length, tool tokens inside.

    The pad token (0) is in no answer: transformers keeps its embedding at 0 and untrained, Megatron trains it.
    """
    g = torch.Generator().manual_seed(1)
    prompts = torch.randint(2, VOCABULARY, (ROWS, PROMPT), generator=g)
    responses = torch.randint(2, VOCABULARY, (ROWS, RESPONSE), generator=g)
    attention = torch.ones(ROWS, PROMPT + RESPONSE, dtype=torch.long)
    for row in range(ROWS):
        attention[row, : row % 3] = 0
        attention[row, PROMPT + 3 + row :] = 0
    mask = attention[:, PROMPT:].clone()
    mask[::2, 1] = 0  # a tool token
    rewards = torch.zeros(ROWS, RESPONSE)
    rewards[torch.arange(ROWS), attention[:, PROMPT:].sum(dim=1) - 1] = torch.tensor([1.0, 0, 0, 1, 0, 0.5, 1, 0])
    return {
        "prompts": prompts,
        "responses": responses * attention[:, PROMPT:],
        "input_ids": torch.cat([prompts, responses], dim=1) * attention,
        "attention_mask": attention,
        "position_ids": (attention.cumsum(1) - 1).clamp(min=0),
        "response_mask": mask,
        "token_level_rewards": rewards,
        "old_noise": 0.2 * torch.randn(ROWS, RESPONSE, generator=g),  # the ratio is not 1, and some tokens are clipped
        "ref_noise": 0.5 * torch.randn(ROWS, RESPONSE, generator=g),
    }


UIDS = [f"prompt{row // 4}" for row in range(ROWS)]
SECTIONS = {  # coefficients large enough to be seen in the gradient
    "rpg": {"kl_coef": 0.1, "reference": "ref"},
    "clip": {"delta": 0.0231},
    "f_grpo": {"divergence": "js", "beta": 0.1},
    "frpo": {"kl_coef": 0.1},
}

MIXTURE = [  # the cases of the mixture of experts
    "loss vanilla",
    "loss rpg_urkl",
    "loss atr_grpo",
    "loss f_grpo",
    "loss frpo",
    "local KL k3_is",
    "estimator frpo",
]


def actor_settings(case: str) -> tuple[str, dict]:
    """(estimator, settings below `actor`) of a case: `loss NAME`, `local KL NAME` or `estimator NAME`."""
    kind, name = case.rsplit(" ", 1)
    policy_loss = {"_target_": "frpo_verl.PolicyLossConfig", "loss_mode": "vanilla"}
    if kind == "loss":
        policy_loss["loss_mode"] = name
        row = methods.find("policy_loss", name)
        section = row.section.KEY.rsplit(".", 1)[1] if row is not None else None
        return "grpo", {"policy_loss": policy_loss | ({section: SECTIONS[section]} if section else {})}
    if kind == "local KL":
        return "grpo", {"policy_loss": policy_loss, "use_kl_loss": True, "kl_loss_coef": 0.1, "kl_loss_type": name}
    if name == "f_hal":
        policy_loss |= {"loss_mode": "f_grpo", "f_grpo": SECTIONS["f_grpo"]}
    return name, {"policy_loss": policy_loss}


def algorithm_settings(estimator: str) -> dict:
    """Settings below `algorithm` for an estimator."""
    if not estimator.startswith("frpo"):
        return {}
    return {"frpo": {"kl_coef": 0.1, **({"alpha": 0.5} if estimator == "frpo_alpha" else {})}}


def cases() -> list[str]:
    """Every policy loss, local KL term and estimator of the plugin, verl's vanilla loss first."""
    return [
        "loss vanilla", *(f"loss {name}" for name in methods.of_kind("policy_loss")),
        *(f"local KL {'alpha:0.5' if name == 'alpha' else name}" for name in methods.of_kind("local_kl")),
        *(f"estimator {name}" for name in methods.of_kind("estimator")),
    ]  # fmt: skip
