"""One rank of one engine: log-probs, then the gradient of one mini-batch for every case. Started by `launch.py`.

verl's workers export weights, not gradients. Adam without memory (betas 0) and with a huge eps moves a weight by
lr / eps times its gradient, to a millionth, so that (before - after) * eps / lr is the gradient under its Hugging Face name.
"""

from __future__ import annotations

import argparse
import resource
import time
from functools import partial
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--engine", choices=("fsdp2", "megatron"), required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--out", required=True)
parser.add_argument("--cases", nargs="+", required=True)
parser.add_argument("--tensor-parallel", type=int, default=1)
parser.add_argument("--pipeline-parallel", type=int, default=1)
parser.add_argument("--packed", action="store_true", help="packed rows, micro-batches by token count")

EPS, STEP = 1e6, 16.0
TOKENS = 48  # of a packed micro-batch


def configuration(args, toy):
    """verl's configuration of the run, composed as main_ppo does it."""
    import engine_settings
    import verl.trainer
    from hydra import compose, initialize_config_dir

    if args.engine == "megatron":
        engine = [
            *engine_settings.megatron(args.tensor_parallel, args.pipeline_parallel, args.packed),
            f"+actor_rollout_ref.actor.optim.override_optimizer_config={{adam_eps: {EPS}, adam_beta1: 0.0, adam_beta2: 0.0}}",
        ]
    else:
        engine = [
            *engine_settings.fsdp2(),
            f"+actor_rollout_ref.actor.optim.override_optimizer_config={{eps: {EPS}}}",
            "actor_rollout_ref.actor.optim.betas=[0.0,0.0]",
            "actor_rollout_ref.actor.grad_clip=1e9",
        ]
    overrides = [
        *engine,
        "actor_rollout_ref.model.enable_gradient_checkpointing=false",
        "+actor_rollout_ref.model.override_config.attn_implementation=sdpa",
        f"actor_rollout_ref.model.path={args.model}",
        f"actor_rollout_ref.model.use_remove_padding={args.packed}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={toy.ROWS}",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        f"actor_rollout_ref.actor.use_dynamic_bsz={args.packed}",
        f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={TOKENS}",
        f"actor_rollout_ref.actor.optim.lr={STEP * EPS}",
        "actor_rollout_ref.actor.optim.lr_warmup_steps=0",
        "actor_rollout_ref.actor.optim.weight_decay=0",
        "actor_rollout_ref.actor.optim.total_training_steps=1000",
        "actor_rollout_ref.actor.optim.clip_grad=1e9",
        "actor_rollout_ref.rollout.name=hf",
        "actor_rollout_ref.rollout.n=1",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
        f"actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu={TOKENS}",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=2",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=2",
        "trainer.n_gpus_per_node=1",
        "trainer.nnodes=1",
    ]
    with initialize_config_dir(str(Path(verl.trainer.__file__).parent / "config"), version_base=None):
        return compose(config_name="ppo_trainer", overrides=overrides)


class Rank:
    """verl's actor and reference workers of this process, without Ray."""

    def __init__(self, config, rows: int):
        from verl.workers.engine_workers import ActorRolloutRefWorker

        self.config, self.rows = config, rows
        self.worker = ActorRolloutRefWorker(config=config.actor_rollout_ref, role="actor_rollout_ref")
        self.worker.init_model()
        module = self.worker.actor.engine.module
        self.parameters = [p for m in (module if isinstance(module, list) else [module]) for p in m.parameters()]
        self.saved = [self._local(p).detach().clone() for p in self.parameters]

    @staticmethod
    def _local(parameter):
        return parameter.to_local() if hasattr(parameter, "to_local") else parameter

    def restore(self) -> None:
        import torch

        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.saved, strict=True):
                self._local(parameter).copy_(value)

    def weights(self) -> dict:
        """Copies of all weights by their Hugging Face names, as the engine exports them to a rollout."""
        named, _ = self.worker.actor.engine.get_per_tensor_param()
        return {n: (v.full_tensor() if hasattr(v, "full_tensor") else v).detach().clone() for n, v in named}

    def _batch(self, columns: dict, **settings):
        """Columns in the form in which verl's trainer hands a batch to its workers."""
        from tensordict import TensorDict
        from verl.utils import tensordict_utils as tu
        from verl.workers.utils.padding import left_right_2_no_padding

        data = left_right_2_no_padding(TensorDict(dict(columns), batch_size=self.rows))
        tokens = columns["attention_mask"].sum(dim=1).tolist()
        tu.assign_non_tensor(data, temperature=1.0, global_token_num=tokens, **settings)
        return data

    def log_probs(self, compute, columns: dict):
        """(log-probs, entropy) of the responses; None on ranks before the last pipeline stage."""
        from verl.workers.utils.padding import no_padding_2_padding

        data = self._batch(columns, calculate_entropy=True, compute_loss=False)
        output = compute(data)
        return (
            None if output is None else tuple(no_padding_2_padding(output[k], data) for k in ("log_probs", "entropy"))
        )

    def update(self, columns: dict, actor_settings: dict) -> dict | None:
        """One optimiser step under these settings of `actor`; the metrics, where this rank has them."""
        from omegaconf import OmegaConf
        from verl.utils import tensordict_utils as tu
        from verl.utils.config import omega_conf_to_dataclass
        from verl.workers import engine_workers

        base = OmegaConf.to_container(self.config.actor_rollout_ref.actor, resolve=True)
        base.pop("policy_loss")
        config = omega_conf_to_dataclass(OmegaConf.merge(base, actor_settings))
        self.worker.set_loss_fn(partial(engine_workers.ppo_loss, config=config))  # as its init_model does
        data = self._batch(
            columns, calculate_entropy=True, global_batch_size=self.rows, mini_batch_size=self.rows, epochs=1, seed=1,
            dataloader_kwargs={"shuffle": False}, compute_loss=True,
        )  # fmt: skip
        output = self.worker.update_actor(data)
        return None if output is None else dict(tu.get(output, "metrics"))


def advantages(columns: dict, estimator: str, toy):
    """Advantages of the batch, by verl's own function of the driver."""
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from tensordict import TensorDict
    from verl import DataProto
    from verl.trainer.ppo import ray_trainer

    wanted = ("responses", "attention_mask", "response_mask", "token_level_rewards", "old_log_probs", "ref_log_prob")
    batch = TensorDict({k: columns[k].clone() for k in wanted}, batch_size=toy.ROWS)
    data = DataProto(batch=batch, non_tensor_batch={"uid": np.array(toy.UIDS, dtype=object)})
    algorithm = OmegaConf.create({"norm_adv_by_std_in_grpo": True, **toy.algorithm_settings(estimator)})
    if estimator == "f_hal":
        return toy_f_hal(columns, torch)
    return ray_trainer.compute_advantage(data, adv_estimator=estimator, num_repeat=4, config=algorithm).batch[
        "advantages"
    ]


def toy_f_hal(columns, torch):
    """f-HAL's weights come from the V1 trainer's columns; to an engine they are signed weights like these."""
    sign = torch.tensor([1.0, -1.0] * (len(columns["responses"]) // 2)).unsqueeze(-1)
    return 0.5 * sign * columns["response_mask"]


def run(args) -> None:
    start = time.perf_counter()
    import torch

    torch.set_num_threads(1)
    if args.engine == "megatron":
        import megatron_on_processor  # noqa: F401 - before verl
    import toy
    import verl  # noqa: F401

    rank = Rank(configuration(args, toy), toy.ROWS)
    ready = time.perf_counter()
    columns = toy.mini_batch()
    noise = {"old_log_probs": columns.pop("old_noise"), "ref_log_prob": columns.pop("ref_noise")}
    result = {"start": rank.weights(), "cases": {}, "seconds_to_start": ready - start}
    old, ref = (rank.log_probs(f, columns) for f in (rank.worker.compute_log_prob, rank.worker.compute_ref_log_prob))
    last = torch.distributed.get_world_size() - 1 if args.pipeline_parallel > 1 else 0  # who has the log-probs
    for name, found in (("old_log_probs", old), ("ref_log_prob", ref)):
        value = torch.zeros(noise[name].shape) if found is None else found[0].float().cpu().contiguous()
        torch.distributed.broadcast(value, src=last)
        columns[name] = (value + noise[name]) * columns["response_mask"]
        result[name] = columns[name]
    result["entropy"] = None if old is None else old[1]
    for case in args.cases:
        estimator, settings = toy.actor_settings(case)
        columns["advantages"] = advantages(columns, estimator, toy)
        rank.restore()
        begin = time.perf_counter()
        metrics = rank.update(columns, settings)
        seconds = time.perf_counter() - begin
        end = rank.weights()
        gradient = {name: (value - end[name]) / STEP for name, value in result["start"].items()}
        result["cases"][case] = {"gradient": gradient, "metrics": metrics, "seconds": seconds}
    result["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if result["entropy"] is not None and torch.distributed.get_rank() == last:
        torch.save(result, args.out)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run(parser.parse_args())
