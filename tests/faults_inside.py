"""Things that go wrong inside a run: named in VERL_USE_EXTERNAL_MODULES, chosen by FRPO_FAULT, from step 2 on.

Nothing is changed unless the variable names a fault. `compute_score` is a reward function with faults of its own.
"""

from __future__ import annotations

import os
import resource
import time

import wrapt

FAULT = os.getenv("FRPO_FAULT", "")
_calls: dict[str, int] = {}


def _nth(name: str) -> int:
    _calls[name] = _calls.get(name, 0) + 1
    return _calls[name]


def _spoilt(tensor):
    """A nested or padded tensor with NaN as the first value of its first row."""
    values = tensor.values() if tensor.is_nested else tensor.view(-1)
    values[0] = float("nan")
    return tensor


def _in_the_trainer(module):
    if FAULT == "NaN in a log-prob":
        original = module.response_from_nested

        def from_nested(*args, **kwargs):
            result = original(*args, **kwargs)
            return _spoilt(result) if _nth("log-prob") == 4 else result  # old, entropy, ref; then step 2's old

        module.response_from_nested = from_nested
    if FAULT == "NaN in an advantage":
        to_nested = module.response_to_nested

        def spoilt_to_nested(*args, **kwargs):
            result = to_nested(*args, **kwargs)
            return _spoilt(result) if _nth("advantage") == 3 else result  # advantages, returns; then step 2's

        module.response_to_nested = spoilt_to_nested


def _in_the_worker(module):
    worker = module.TrainingWorker
    train, save = worker.train_mini_batch, worker.save_checkpoint

    def train_mini_batch(self, *args, **kwargs):
        if FAULT == "NaN in a weight" and _nth("update") == 2:
            import torch

            with torch.no_grad():
                parameter = next(self.engine.module.parameters())
                getattr(parameter, "_local_tensor", parameter).view(-1)[0] = float("nan")
        return train(self, *args, **kwargs)

    def save_checkpoint(self, *args, **kwargs):
        if FAULT == "no room for a checkpoint" and _nth("save") == 2:
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY)
            )  # a write beyond fails, as on a full disk
        try:
            return save(self, *args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    for name, wrap in (("train_mini_batch", train_mini_batch), ("save_checkpoint", save_checkpoint)):
        original = getattr(worker, name)
        wrap.__dict__.update(original.__dict__)  # verl's marks of how a call is spread over the ranks
        wrap.__name__ = name
        setattr(worker, name, wrap)


if FAULT:
    wrapt.register_post_import_hook(_in_the_trainer, "verl.trainer.ppo.v1.trainer_base")
    wrapt.register_post_import_hook(_in_the_worker, "verl.workers.engine_workers")


def _kill_vllm() -> None:
    """SIGKILL to the vLLM engine among the processes that Ray started beside this one."""
    import psutil

    for process in psutil.Process().parent().children(recursive=True):
        if process.cmdline()[:1] == ["VLLM::EngineCore"]:
            process.kill()


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """The share of digits in an answer, until the fault comes."""
    if FAULT.startswith("a reward") and _nth("reward") > 20:  # the second batch of 16
        if FAULT == "a reward that raises":
            raise ZeroDivisionError("division by zero in the user's reward")
        if FAULT == "a reward that hangs":
            time.sleep(100_000)
        if FAULT == "a reward that is a string":
            return "1.0"
    if FAULT == "vLLM dies" and _nth("reward") == 24:  # in the second batch of 16, half of it is generated
        _kill_vllm()
    text = solution_str.strip()
    score = sum(c.isdigit() for c in text) / max(1, len(text))
    return {"score": score, "acc": score, "pred": text}
