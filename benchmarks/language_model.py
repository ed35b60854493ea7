"""A pretrained language model in one process: what a KL keeps on sums and on GSM8K, by study.py's step.

    make test-model                               # writes build/smollm2: SmolLM2-135M-Instruct and its rows
    python benchmarks/gpu.py --only sums gsm8k    # no KL, FRPO and a KL loss, seed after seed

Prompts are the model's own chat template, rewards those of `frpo_verl.rewards.math`. The vocabulary is large, so that a
batch goes through the model in parts: once to be looked at, once for the gradient; the parts of verl's loss add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import study
import torch
from study import log_probs, pick, spread

from frpo_verl.evaluation import pass_at_k
from frpo_verl.rewards import math

BETA = 0.05
METHODS = ("no KL", "future", "k3 loss")
KS = (1, 16)


@dataclass(frozen=True)
class Size:
    """Answers to each prompt, of at most `length` tokens; test problems get `samples` each; `part` prompts at a time."""

    prompts: int = 16
    answers: int = 8
    length: int = 16
    steps: int = 30
    test: int = 32
    samples: int = 32
    part: int = 4
    lr: float = 1e-5


@dataclass(frozen=True)
class Problem:
    messages: list
    answer: str
    source: str
    extra: dict


def read(file: Path) -> list[Problem]:
    import pyarrow.parquet as pq

    rows = pq.read_table(file).to_pylist()
    return [Problem(r["prompt"], r["reward_model"]["ground_truth"], r["data_source"], r["extra_info"]) for r in rows]


class LanguageModel(study.Study):
    """A model of a Hugging Face folder on the rows of a data folder."""

    marks = ()

    def __init__(self, model: Path, data: Path, size: Size, device: str = "cpu"):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.size, self.device, self.length = size, device, size.length
        self.n_prompts, self.n_answers = size.prompts, size.answers
        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left", local_files_only=True)
        self.reference = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).to(device).eval()
        self.train, self.test = read(data / "train.parquet"), read(data / "test.parquet")[: size.test]
        self.eos, self.pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id

    def prompts(self, problems) -> torch.Tensor:
        texts = self.tokenizer.apply_chat_template(
            [p.messages for p in problems], add_generation_prompt=True, tokenize=False
        )
        ids = self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")["input_ids"]
        return ids.to(self.device)

    def rewards(self, problems, answers, repeat):
        texts = self.texts(answers)
        asked = [problems[i // repeat] for i in range(len(texts))]
        right = [
            math.compute_score(p.source, text, p.answer, p.extra, last_number_sources=[p.source])["acc"]
            for p, text in zip(asked, texts, strict=True)
        ]
        return torch.tensor(right, device=self.device)

    def parts(self, prompts: int) -> list[tuple[slice, slice]]:
        """Slices of the prompts and of their answers."""
        n, each = self.size.part, self.n_answers
        return [(slice(i, i + n), slice(i * each, (i + n) * each)) for i in range(0, prompts, n)]

    @torch.no_grad()
    def look(self, model, prompts, answers) -> dict[str, torch.Tensor]:
        """Log-probs of the answers under model and reference, KL and entropy; each (N, T)."""
        found: dict[str, list[torch.Tensor]] = {}
        for p, r in self.parts(len(prompts)):
            table, ref = (log_probs(m, prompts[p], answers[r], self.pad) for m in (model, self.reference))
            chosen = {"current": pick(table, answers[r]), "ref": pick(ref, answers[r])}
            for name, value in {**chosen, **spread(table, ref)}.items():
                found.setdefault(name, []).append(value)
        return {name: torch.cat(values) for name, values in found.items()}

    def backward(self, model, step, prompts, answers, mask, reward):
        seen = self.look(model, prompts, answers)
        ref = seen.pop("ref")
        found = step.advantages(mask, reward, seen.pop("current"), ref)
        for p, r in self.parts(len(prompts)):
            current = pick(log_probs(model, prompts[p], answers[r], self.pad), answers[r])
            repeated = prompts[p].repeat_interleave(self.n_answers, 0)
            part = (repeated, answers[r], mask[r], {"advantages": found["advantages"][r]}, current, ref[r])
            step.loss(*part, tokens=int(mask.sum()), rows=len(mask)).backward()
        return seen

    @torch.no_grad()
    def examine(self, model) -> dict:
        """pass@k of the test problems; KL and entropy of an answer, summed over the vocabulary at each position."""
        size, generator = self.size, torch.Generator(self.device).manual_seed(99)
        passes: dict[int, list[float]] = {k: [] for k in KS}
        sums = {"kl": 0.0, "entropy": 0.0, "length": 0.0}
        for i in range(0, len(self.test), size.prompts):
            some = self.test[i : i + size.prompts]
            prompts = self.prompts(some)
            answers, mask = self.sample(model, prompts, size.samples, generator)
            right = self.rewards(some, answers, size.samples).view(len(some), -1).sum(1).tolist()
            for k in KS:
                passes[k] += [pass_at_k(size.samples, int(c), k) for c in right if k <= size.samples]
            few = (torch.arange(len(answers)) % size.samples) < self.n_answers
            seen = self.look(model, prompts, answers[few])
            each = {"kl": seen["kl"], "entropy": seen["entropy"], "length": torch.ones_like(seen["kl"])}
            for name, value in each.items():
                sums[name] += (value * mask[few]).sum().item() / self.n_answers
        figures = {name: value / len(self.test) for name, value in sums.items()}
        return {**{f"pass@{k}": sum(v) / len(v) for k, v in passes.items() if v}, **figures}
