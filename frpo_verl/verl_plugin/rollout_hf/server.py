"""The model server of the `hf` rollout: a transformers model behind `generate`, in a Ray actor of its own.

Requests arrive one by one from verl's agent loops and are answered in batches: whatever has arrived when the model is
free, grouped by sampling parameters, at most `max_num_seqs` rows at a time. A batch and an update of the weights exclude
each other; between `abort_all_requests` and `resume_generation` requests wait. When generation fails the server says why
and refuses everything afterwards, so that the trainer stops instead of waiting.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from .sampling import build_processors, row_seed, row_uniforms
from .scoring import score

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "WARN"))

GATHER_SECONDS = 0.01  # how long a batch stays open for stragglers once requests stop arriving


@dataclass(frozen=True)
class Request:
    prompt_ids: list[int]
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    ignore_eos: bool
    seed: int  # of this answer alone
    future: asyncio.Future

    @property
    def group(self) -> tuple:
        """Requests of one group can share a call of `generate`."""
        return (self.temperature, self.top_p, self.top_k, self.repetition_penalty, self.ignore_eos)


@torch.inference_mode()
def generate_batch(model, requests: list[Request], eos_token_ids: list[int], pad_token_id: int):
    """Answer requests of one group with one call of transformers' `generate`.

    Returns a list of (token_ids, log_probs, stop_reason), one for each request; the end-of-sequence token is part of
    the answer, what `generate` padded after it is not. `stop_reason` is "stop" or "length".
    """
    device = next(model.parameters()).device
    width = max(len(r.prompt_ids) for r in requests)
    input_ids = torch.full((len(requests), width), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, request in enumerate(requests):  # left padding: generation continues at the right edge
        input_ids[row, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
        attention_mask[row, width - len(request.prompt_ids) :] = 1

    first = requests[0]
    max_new_tokens = max(r.max_tokens for r in requests)
    uniforms = row_uniforms([r.seed for r in requests], max_new_tokens) if first.temperature > 0 else None
    processors, sampler = build_processors(
        uniforms, width, temperature=first.temperature, top_p=first.top_p, top_k=first.top_k
    )
    stop_ids = [] if first.ignore_eos else eos_token_ids
    output = model.generate(
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        max_new_tokens=max_new_tokens,
        do_sample=False,  # the processors sample; see sampling.py
        temperature=None,
        top_p=None,
        top_k=None,
        repetition_penalty=first.repetition_penalty,
        logits_processor=processors,
        eos_token_id=stop_ids or None,
        pad_token_id=pad_token_id,
    )
    tokens = output[:, width:].cpu()
    log_probs = torch.stack(sampler.log_probs, dim=1).float().cpu()

    answers = []
    for row, request in enumerate(requests):
        length = min(request.max_tokens, tokens.shape[1])
        stop_reason = "length"
        for position in range(length):
            if int(tokens[row, position]) in stop_ids:
                length, stop_reason = position + 1, "stop"
                break
        answers.append((tokens[row, :length].tolist(), log_probs[row, :length].tolist(), stop_reason))
    return answers


class HFServer:
    """One replica's model and its queue (made a Ray actor by `rollout.HFReplica`)."""

    def __init__(self, config, model_config, replica_rank: int, threads: int | None = None):
        self.config = config
        self.replica_rank = replica_rank
        self.global_steps: int | None = None
        self._occurrences: Counter = Counter()
        self._queue: list[Request] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()  # closed between abort and resume
        self._open.set()
        self._rejecting = False
        self._weights = asyncio.Lock()  # held by a batch, and by an update from its first bucket to its last
        self._updating = False
        self._fatal: BaseException | None = None
        self._worker: asyncio.Task | None = None
        if threads:
            torch.set_num_threads(threads)
        self._load(model_config)

    def _load(self, model_config) -> None:
        from transformers import AutoModelForCausalLM, GenerationConfig
        from verl.utils.torch_dtypes import PrecisionType

        device = "cuda" if torch.cuda.is_available() and os.getenv("VERL_PLATFORM", "").lower() != "cpu" else "cpu"
        self.model = AutoModelForCausalLM.from_pretrained(
            model_config.local_path,
            dtype=PrecisionType.to_dtype(self.config.dtype),
            trust_remote_code=model_config.trust_remote_code,
        )
        self.model.to(device).eval().requires_grad_(False)
        tokenizer = model_config.tokenizer
        eos = getattr(self.model.generation_config, "eos_token_id", None)
        eos = list(eos) if isinstance(eos, (list, tuple)) else [eos]
        self.eos_token_ids = sorted({int(i) for i in [*eos, tokenizer.eos_token_id] if i is not None})
        pad = tokenizer.pad_token_id
        self.pad_token_id = int(pad if pad is not None else self.eos_token_ids[0])
        # the request, not the model's folder, decides how to sample
        self.model.generation_config = GenerationConfig(eos_token_id=self.eos_token_ids, pad_token_id=self.pad_token_id)

    # ------------------------------------------------------------------ generation

    async def generate(self, prompt_ids: list[int], sampling_params: dict[str, Any], request_id: str, **kwargs: Any):
        """Token-in, token-out generation, as verl's `LLMServerClient.generate` calls it."""
        from verl.utils import normalize_token_ids
        from verl.workers.rollout.replica import TokenOutput

        self._raise_if_dead()
        media = [k for k in ("image_data", "video_data", "audio_data") if kwargs.get(k)]
        if media:
            raise ValueError(f"rollout.name=hf serves text only, got {', '.join(media)}: use vllm or sglang")
        prompt_ids = normalize_token_ids(prompt_ids)
        params = dict(sampling_params)
        if params.get("prompt_logprobs") is not None:  # a distillation teacher scores, and samples nothing
            if params["prompt_logprobs"] != 0:
                raise ValueError(
                    "rollout.name=hf scores the answer's own tokens: set distillation_loss.loss_mode=k3, or use vllm"
                )
            async with self._weights:
                scored = await asyncio.to_thread(score, self.model, prompt_ids)
            return TokenOutput(token_ids=[], stop_reason="completed", extra_fields=scored)
        limit = params.pop("max_tokens", params.pop("max_new_tokens", None))
        if limit is None:
            limit = min(
                self.config.response_length, self.config.prompt_length + self.config.response_length - len(prompt_ids)
            )
        if self.config.max_model_len:
            limit = min(limit, self.config.max_model_len - len(prompt_ids))
        if limit < 1:
            raise ValueError(
                f"a prompt of {len(prompt_ids)} tokens leaves no room to answer: raise rollout.prompt_length "
                f"({self.config.prompt_length}), rollout.response_length ({self.config.response_length}) or "
                f"rollout.max_model_len ({self.config.max_model_len})"
            )
        while not self._open.is_set():
            if self._rejecting:
                return TokenOutput(
                    token_ids=[], stop_reason="aborted", extra_fields={"global_steps": self.global_steps}
                )
            await self._open.wait()
            self._raise_if_dead()
        key = tuple(prompt_ids)
        occurrence, self._occurrences[key] = self._occurrences[key], self._occurrences[key] + 1
        seed = params.get("seed")
        request = Request(
            prompt_ids=prompt_ids,
            max_tokens=int(limit),
            temperature=float(params.get("temperature", 1.0)),
            top_p=float(params.get("top_p", 1.0)),
            top_k=int(params.get("top_k", -1)),
            repetition_penalty=float(params.get("repetition_penalty", 1.0)),
            ignore_eos=bool(params.get("ignore_eos", self.config.ignore_eos)),
            seed=row_seed(
                self.config.seed + self.replica_rank if seed is None else seed,
                self.global_steps if self.global_steps is not None else -1,
                prompt_ids,
                occurrence if seed is None else 0,
            ),
            future=asyncio.get_running_loop().create_future(),
        )
        self._enqueue(request)
        (token_ids, log_probs, _), version = await request.future
        return TokenOutput(
            token_ids=token_ids,
            log_probs=log_probs if params.get("logprobs", False) else None,
            stop_reason="completed",
            extra_fields={"global_steps": version},
        )

    def _enqueue(self, request: Request) -> None:
        self._queue.append(request)
        self._idle.clear()
        self._wake.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            seen = -1
            while seen != len(self._queue):  # requests arrive one RPC at a time: wait until the stream pauses
                seen = len(self._queue)
                await asyncio.sleep(GATHER_SECONDS)
            while self._queue and self._fatal is None:
                batch = self._next_batch()
                try:
                    async with self._weights:
                        version = self.global_steps
                        answers = await asyncio.to_thread(
                            generate_batch, self.model, batch, self.eos_token_ids, self.pad_token_id
                        )
                except Exception as error:  # noqa: BLE001 - whatever it is, the server must not go on silently
                    self._die(error, batch)
                    break
                for request, answer in zip(batch, answers, strict=True):
                    if not request.future.done():
                        request.future.set_result((answer, version))
            if not self._queue:
                self._idle.set()

    def _next_batch(self) -> list[Request]:
        """Up to `max_num_seqs` queued requests of one group, in an order that does not depend on their arrival."""
        group = self._queue[0].group
        same = sorted((r for r in self._queue if r.group == group), key=lambda r: (len(r.prompt_ids), r.seed))
        batch = same[: max(1, self.config.max_num_seqs)]
        chosen = {id(r) for r in batch}
        self._queue = [r for r in self._queue if id(r) not in chosen]
        return batch

    def _die(self, error: BaseException, batch: list[Request]) -> None:
        logger.error("the hf rollout server failed and will refuse every further request: %r", error, exc_info=error)
        self._fatal = error
        for request in [*batch, *self._queue]:
            if not request.future.done():
                request.future.set_exception(RuntimeError(f"hf rollout server failed: {error!r}"))
        self._queue.clear()
        self._idle.set()

    def _raise_if_dead(self) -> None:
        if self._fatal is not None:
            raise RuntimeError(f"hf rollout server failed earlier: {self._fatal!r}")

    # ------------------------------------------------------------------ weights and life cycle

    async def load_weights(self, weights: dict[str, torch.Tensor], last: bool, global_steps: int | None = None) -> None:
        """Copy the trainer's weights into the model; with `last`, a name never sent raises, and they are of `global_steps`."""
        self._raise_if_dead()
        if not self._updating:
            await self._weights.acquire()
            self._updating = True
        done = True
        try:
            self._copy(weights, last)
            done = last
            if last and global_steps is not None:
                await self.set_global_steps(global_steps)
        finally:
            if done:  # the last bucket, or one that failed
                self._updating = False
                self._weights.release()

    def _copy(self, weights: dict[str, torch.Tensor], last: bool) -> None:
        parameters = dict(self.model.named_parameters(remove_duplicate=False)) | dict(
            self.model.named_buffers(remove_duplicate=False)
        )
        unknown = [name for name in weights if name not in parameters]
        if unknown:
            raise KeyError(f"the rollout model has no parameter {unknown[0]!r} (nor {len(unknown) - 1} others)")
        with torch.no_grad():
            for name, value in weights.items():
                parameters[name].copy_(value)
        self._received = getattr(self, "_received", set()) | set(weights)
        if last:
            self.model.tie_weights()
            tied = {id(parameters[n]) for n in self._received}
            missing = [n for n, p in self.model.named_parameters() if n not in self._received and id(p) not in tied]
            self._received = set()
            if missing:
                raise KeyError(f"the trainer sent no value for {missing[0]!r} (nor for {len(missing) - 1} others)")

    async def set_global_steps(self, global_steps: int) -> None:
        self.global_steps = global_steps
        self._occurrences.clear()

    async def ping(self) -> str:
        return "ok"

    async def sleep(self) -> None:
        await self._idle.wait()

    async def wake_up(self, tags: list[str] | None = None) -> None:
        self._raise_if_dead()

    async def nothing(self, **kwargs: Any) -> None:
        """There is no cache to clear, and nothing to profile."""

    clear_kv_cache = release_kv_cache = resume_kv_cache = start_profile = stop_profile = nothing

    async def abort_all_requests(self, reject_request: bool = False) -> dict[str, Any]:
        self._rejecting = reject_request
        self._open.clear()
        await self._idle.wait()  # a batch in flight is short: finish it rather than throw it away
        return {"aborted_count": 0, "request_ids": []}

    async def resume_generation(self) -> None:
        self._rejecting = False
        self._open.set()
