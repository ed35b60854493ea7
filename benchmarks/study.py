"""What the studies in one process share: a tiny language model, verl's advantages and verl's loss, a row of methods.

A step samples 8 answers to each of 16 problems at temperature 1, takes the log-probs of model and reference, and sends
them through verl's `compute_advantage` (with the plugin's estimators) and verl's `ppo_loss`; AdamW as verl's recipes set
it, one update for each batch, gradient norm clipped to 1. Only the forward passes are this file's own: sampling with a
key-value cache, and a prompt that is read once for its 8 answers; a step takes a quarter of a second and not four.

One on-policy update makes `local` with reverse KL and verl's k2 loss the same run (test_study.py): there is one row.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from records import METHODS

from frpo_verl.quickstart import three_ways, ways_model
from frpo_verl.quickstart.tokenizer import load_tokenizer
from frpo_verl.quickstart.warm_start import template_parts
from frpo_verl.quickstart.ways_model import read_problems

QUICKSTART = Path("build/quickstart")
PROMPTS, ANSWERS = 16, 8


@dataclass(frozen=True)
class Run:
    method: str
    beta: float
    by_std: bool
    seed: int
    steps: int
    lr: float

    @property
    def key(self) -> str:
        name = self.method.replace(", ", "-").replace(" ", "_")
        return f"{name}-beta{self.beta:g}-{'std' if self.by_std else 'mean'}-{self.steps}x{self.lr:g}-seed{self.seed}"


# ------------------------------------------------------------------------------------------------------ the model


def told(real: torch.Tensor | None, start: int, stop: int) -> dict[str, torch.Tensor]:
    """What a model has to be told of the tokens start .. stop - 1 behind prompts that are padded on the left.

    Args:
        real: (N, L) bool, False on the padding; None where there is none.
    """
    if real is None:
        return {}
    rows = torch.cat([real, real.new_ones(len(real), stop)], 1)
    place = (rows.cumsum(1) - 1).clamp(min=0)
    return {"attention_mask": rows.long(), "position_ids": place[:, real.shape[1] + start :]}


def begin(model, prompts: torch.Tensor, repeat: int, pad: int | None = None):
    """Log-probs (N, V) of the first token of `repeat` answers to each prompt, the cache for the rest, and `told`'s `real`."""
    from transformers import DynamicCache

    cache = DynamicCache()
    real = None if pad is None or bool((prompts != pad).all()) else prompts != pad
    words = told(real, -prompts.shape[1], 0)
    first = model(input_ids=prompts, past_key_values=cache, use_cache=True, logits_to_keep=1, **words).logits[:, -1]
    cache.batch_repeat_interleave(repeat)
    real = None if real is None else real.repeat_interleave(repeat, 0)
    return first.float().repeat_interleave(repeat, 0).log_softmax(-1), cache, real


@torch.no_grad()
def sample(
    model, prompts: torch.Tensor, repeat: int, length: int, eos: int, pad: int, generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """`repeat` answers to each prompt (N, length) at temperature 1, padded after the end marker, and their mask."""
    log_pi, cache, real = begin(model, prompts, repeat, pad)
    answer = torch.full((len(log_pi), length), pad, device=prompts.device)
    done = torch.zeros(len(log_pi), dtype=torch.bool, device=prompts.device)
    for t in range(length):
        drawn = torch.multinomial(log_pi.exp(), 1, generator=generator)[:, 0]
        answer[:, t] = torch.where(done, pad, drawn)
        done = done | (drawn == eos)
        if t == length - 1 or done.all():
            break
        word = told(real, t, t + 1)
        log_pi = model(input_ids=answer[:, t : t + 1], past_key_values=cache, **word).logits[:, -1].log_softmax(-1)
    ended = torch.cumsum(answer == eos, 1) - (answer == eos).long() > 0
    return answer, ~ended


def log_probs(model, prompts: torch.Tensor, answers: torch.Tensor, pad: int | None = None) -> torch.Tensor:
    """(N, T, V) log-probabilities before each token of the answers; each prompt has N / len(prompts) of them."""
    first, cache, real = begin(model, prompts, len(answers) // len(prompts), pad)
    words = told(real, 0, answers.shape[1] - 1)
    rest = model(input_ids=answers[:, :-1], past_key_values=cache, **words).logits.log_softmax(-1)
    return torch.cat([first[:, None], rest], 1)


def pick(table: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return table.gather(-1, tokens[..., None])[..., 0]


class Study:
    """Model, reference and problems of the quickstart, and what a run does with them; a task adds `examine(model)`: its figures
    on the held-out problems."""

    n_prompts, n_answers = PROMPTS, ANSWERS

    def __init__(self, folder: Path, test: int, device: str = "cpu"):
        from transformers import AutoModelForCausalLM

        self.tokenizer, self.device = load_tokenizer(folder / "model"), device
        reference = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        self.reference = reference.to(device).eval()
        self.train = read_problems(folder / "data/train.parquet")
        self.test = read_problems(folder / "data/test.parquet")[:test]
        self.eos, self.pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        first = self.train[0]
        self.length = len(first.written("C")) + 1  # tokens of the longest way, with the end marker
        self.marks = self.tokenizer.convert_tokens_to_ids(list(three_ways.WAYS))

    def prompts(self, problems) -> torch.Tensor:
        before, between, _ = template_parts(self.tokenizer)
        texts = [before + p.question + between for p in problems]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]  # all of one length
        return torch.tensor(ids, device=self.device)

    def sample(self, model, prompts, repeat: int, generator):
        return sample(model, prompts, repeat, self.length, self.eos, self.pad, generator)

    def texts(self, answers: torch.Tensor) -> list[str]:
        return self.tokenizer.batch_decode(answers, skip_special_tokens=True)

    def rewards(self, problems, answers: torch.Tensor, repeat: int) -> torch.Tensor:
        rows = [(text, problems[i // repeat]) for i, text in enumerate(self.texts(answers))]
        found = [three_ways.compute_score("", text, p.answer, {"question": p.question}) for text, p in rows]
        return torch.tensor([row["score"] for row in found], device=self.device)

    @torch.no_grad()
    def held_out(self, model, samples: int, few: int) -> tuple[torch.Tensor, torch.Tensor, dict, torch.Tensor]:
        """Of `samples` answers to each held-out problem: first tokens and whether right (N,), figures, and KL by position.

        KL(pi || reference) and entropy, summed over the vocabulary at each position, are those of `few` of the answers.
        """
        prompts, generator = self.prompts(self.test), torch.Generator(self.device).manual_seed(99)
        answers, mask = self.sample(model, prompts, samples, generator)
        chosen = torch.arange(len(answers)) % samples < few
        table, taken = log_probs(model, prompts, answers[chosen]), mask[chosen]
        found = spread(table, log_probs(self.reference, prompts, answers[chosen]))
        kl, entropy = found["kl"] * taken, found["entropy"] * taken
        figures = {
            "kl": kl.sum(1).mean().item(), "entropy": entropy.sum(1).mean().item(),
            "shares": table[:, 0, self.marks].exp().mean(0).tolist(), "length": mask.sum(1).float().mean().item(),
        }  # fmt: skip
        return answers[:, 0], Study.rewards(self, self.test, answers, samples), figures, kl.mean(0)

    def chances(self, model) -> np.ndarray:
        """(N, 3) chance of a right answer in each way on the held-out problems."""
        return np.array(ways_model.chances(model, self.tokenizer, self.test))

    def step(self, run: Run) -> Step:
        """What turns a batch of the run into a loss."""
        return Step(run, self.reference, self.n_prompts, self.n_answers)

    def run(self, run: Run) -> dict:
        """Train as `run` says; the curve and the last model's figures."""
        began, n, each = time.process_time(), self.n_prompts, self.n_answers
        model, step = copy.deepcopy(self.reference).train(), self.step(run)
        optimizer = torch.optim.AdamW(model.parameters(), lr=run.lr, betas=(0.9, 0.999), weight_decay=0.01)
        generator = torch.Generator(self.device).manual_seed(run.seed)
        order = torch.randperm(len(self.train), generator=generator, device=self.device).cpu()
        curve = []
        for i in range(run.steps):
            chosen = [self.train[j] for j in order[torch.arange(i * n, (i + 1) * n) % len(order)].tolist()]
            prompts = self.prompts(chosen)
            answers, mask = self.sample(model, prompts, each, generator)
            reward = self.rewards(chosen, answers, each)
            optimizer.zero_grad(set_to_none=True)
            seen = self.backward(model, step, prompts, answers, mask, reward)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            groups = reward.view(n, each)
            curve.append({
                "reward": reward.mean().item(), **{k: (v * mask).sum(1).mean().item() for k, v in seen.items()},
                "shares": [(answers[:, 0] == mark).float().mean().item() for mark in self.marks],
                "equal_groups": (groups == groups[:, :1]).all(1).float().mean().item(), "grad_norm": norm.item(),
                **step.figures,
            })  # fmt: skip
        result = {**asdict(run), "curve": curve, "end": self.examine(model.eval())}
        return {**result, "cpu_seconds": round(time.process_time() - began, 1)}

    def backward(self, model, step: Step, prompts, answers, mask, reward) -> dict[str, torch.Tensor]:
        """The gradient of a batch; KL to the reference and entropy (N, T), over the vocabulary, before the update."""
        with torch.no_grad():
            reference = log_probs(self.reference, prompts, answers)
        table = log_probs(model, prompts, answers)
        current, ref = pick(table, answers), pick(reference, answers)
        step(prompts.repeat_interleave(self.n_answers, 0), answers, mask, reward, current, ref).backward()
        return spread(table.detach(), reference)


def spread(table: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
    """KL(pi || reference) and entropy (N, T) of log-probs (N, T, V)."""
    pi = table.exp()
    return {"kl": (pi * (table - reference)).sum(-1), "entropy": -(pi * table).sum(-1)}


class Critic:
    """V of the state before each token: the reference's layers under a linear head that begins at 0."""

    def __init__(self, reference, lr: float = 2e-3):
        from omegaconf import OmegaConf
        from verl.utils.config import omega_conf_to_dataclass

        self.layers = copy.deepcopy(reference.model).train()
        self.head = torch.nn.Linear(reference.config.hidden_size, 1)
        torch.nn.init.zeros_(self.head.weight), torch.nn.init.zeros_(self.head.bias)
        parameters = [*self.layers.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=0.01)
        config = {
            "_target_": "verl.workers.config.CriticConfig",
            "strategy": "fsdp2",
            "ppo_micro_batch_size_per_gpu": 1,
        }
        self.config = omega_conf_to_dataclass(OmegaConf.create(config))

    def __call__(self, prompts, answers) -> torch.Tensor:
        """(N, T) values."""
        from transformers import DynamicCache

        cache, repeat = DynamicCache(), len(answers) // len(prompts)
        first = self.layers(input_ids=prompts, past_key_values=cache, use_cache=True).last_hidden_state[:, -1:]
        cache.batch_repeat_interleave(repeat)
        rest = self.layers(input_ids=answers[:, :-1], past_key_values=cache).last_hidden_state
        return self.head(torch.cat([first.repeat_interleave(repeat, 0), rest], 1))[..., 0]

    def learn(self, values: torch.Tensor, micro) -> None:
        """One step on verl's `value_loss`; `values` (nnz) carry the gradient."""
        from verl.workers.utils.losses import value_loss

        self.optimizer.zero_grad(set_to_none=True)
        value_loss(self.config, {"values": values}, micro)[0].backward()
        torch.nn.utils.clip_grad_norm_([*self.layers.parameters(), *self.head.parameters()], 1.0)
        self.optimizer.step()


class Step:
    """One batch through verl's `compute_advantage` and `ppo_loss`; GAE's critic learns in it too."""

    def __init__(self, run: Run, reference=None, prompts: int = PROMPTS, answers: int = ANSWERS):
        from omegaconf import OmegaConf
        from verl.utils.config import omega_conf_to_dataclass

        self.estimator, section, kl_loss = METHODS[run.method]
        section = {"kl_coef": run.beta, **section} if self.estimator == "frpo" else {}
        self.by_std, self.beta, self.figures, self.answers = run.by_std, run.beta, {}, answers
        self.critic = Critic(reference) if self.estimator == "gae" else None
        self.algorithm = OmegaConf.create({"norm_adv_by_std_in_grpo": run.by_std, "frpo": section})
        actor = {"_target_": "verl.workers.config.FSDPActorConfig", "strategy": "fsdp2", "rollout_n": answers,
                 "ppo_micro_batch_size_per_gpu": prompts * answers, "use_kl_loss": kl_loss is not None,
                 "kl_loss_coef": run.beta, "kl_loss_type": kl_loss or "low_var_kl"}  # fmt: skip
        self.actor = omega_conf_to_dataclass(OmegaConf.create(actor))

    def __call__(self, prompts, answers, mask, reward, current, ref) -> torch.Tensor:
        values = self.critic(prompts[:: self.answers], answers) if self.critic else None
        found = self.advantages(mask, reward, current, ref, values)
        return self.loss(prompts, answers, mask, found, current, ref, int(mask.sum()), len(mask), values)

    def advantages(self, mask, reward, current, ref, values=None) -> dict[str, torch.Tensor]:
        """`advantages` and `returns` (N, T) by verl's functions, on the CPU as in its driver."""
        from verl import DataProto
        from verl.trainer.ppo.core_algos import FixedKLController
        from verl.trainer.ppo.ray_trainer import apply_kl_penalty, compute_advantage

        scores = torch.zeros_like(ref)
        scores[torch.arange(len(scores)), mask.sum(1) - 1] = reward
        batch = {"token_level_rewards": scores, "response_mask": mask.long(), "old_log_probs": current.detach()}
        if self.estimator != "grpo":
            batch["ref_log_prob"] = ref
        if self.critic:
            batch |= {"token_level_scores": scores, "values": values.detach()}
        tensors = {name: value.cpu() for name, value in batch.items()}
        data = DataProto.from_dict(tensors=tensors, non_tensors={"uid": np.arange(len(scores)) // self.answers})
        if self.critic:
            data, _ = apply_kl_penalty(data, FixedKLController(self.beta))
        data = compute_advantage(data, self.estimator, norm_adv_by_std_in_grpo=self.by_std, config=self.algorithm)
        return {name: data.batch[name].to(ref.device) for name in ("advantages", "returns")}

    def loss(self, prompts, answers, mask, found, current, ref, tokens: int, rows: int, values=None) -> torch.Tensor:
        """verl's loss of a part of a batch that has so many tokens and rows: the parts add up."""
        from tensordict import TensorDict
        from verl.utils import tensordict_utils as tu
        from verl.workers.utils.losses import ppo_loss

        lengths = mask.sum(1).tolist()

        def nested(x):
            return torch.nested.as_nested_tensor(
                [row[:n] for row, n in zip(x, lengths, strict=True)], layout=torch.jagged
            )

        def flat(x):  # as a model gives it: of prompt and answer, the one before each token
            blank, end = ref.new_zeros(prompts.shape[1] - 1), ref.new_zeros(1)
            return torch.cat([y for row, n in zip(x, lengths, strict=True) for y in (blank, row[:n], end)])

        columns = {"prompts": torch.nested.as_nested_tensor(list(prompts), layout=torch.jagged),
                   "responses": nested(answers), "response_mask": nested(mask.long()),
                   "old_log_probs": nested(current.detach()), "advantages": nested(found["advantages"]),
                   "ref_log_prob": nested(ref)}  # fmt: skip
        if self.critic:
            returns = found["returns"]
            columns |= {"values": nested(values.detach()), "returns": nested(returns)}
            self.figures = {"explained": 1 - ((returns - values)[mask].var() / returns[mask].var()).item()}
        micro = TensorDict(columns, batch_size=len(mask))
        tu.assign_non_tensor(micro, dp_size=1, batch_num_tokens=tokens, global_batch_size=rows)
        if self.critic:
            self.critic.learn(flat(values), micro)
        return ppo_loss(self.actor, {"log_probs": flat(current)}, micro)[0]
