"""Places of verl where a run that is broken would wait for ever or keep what is broken; the same rules as in `seams.py`."""

from __future__ import annotations

from .hooks import seam

# ---------------------------------------------------------------------------------------------- a dead rollout engine


@seam(
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
    "BucketedWeightSender._init_socket",
    upstream="workers/rollout/vllm_rollout/bucketed_weight_transfer.py:160",
    reason="the sender waits for a dead engine for ever",
    known={"acd9dd63022ee7d0": "0.9.1"},
    package="vllm",
)
def init_socket(original, self, *args, **kwargs):
    from . import weight_transfer

    return weight_transfer.open_socket(original, self, args, kwargs)


@seam(
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
    "BucketedWeightSender.async_send_weights",
    upstream="workers/rollout/vllm_rollout/bucketed_weight_transfer.py:101",
    reason="the time-out becomes a sentence that names the cause",
    known={"48bb4e516c4be9aa": "0.9.1"},
    package="vllm",
)
async def async_send_weights(original, self, *args, **kwargs):
    from . import weight_transfer

    return await weight_transfer.send_weights(original, self, *args, **kwargs)


# ---------------------------------------------------------------------------------------------- answers that do not come


@seam(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer._sync_metadata_from_transfer_queue",
    upstream="trainer/ppo/v1/replay_buffer.py:174",
    reason="called at each look for finished answers, in a loop without an end: a reward that hangs, a dead agent loop",
    known={"489dc320fdce58c7": "0.9.1"},
)
def look_for_answers(original, self, *args, **kwargs):
    from . import waiting

    return waiting.look(original, self, args, kwargs)


@seam(
    "verl.trainer.ppo.v1.replay_buffer",
    "ReplayBuffer.sample",
    upstream="trainer/ppo/v1/replay_buffer.py:422",
    reason="when every answer failed the error speaks of trajectories, and names a setting that would try for ever",
    known={"cdcecebeb7f0b44e": "0.9.1"},
)
def sample(original, self, *args, **kwargs):
    from . import waiting

    return waiting.sample(original, self, args, kwargs)


# ---------------------------------------------------------------------------------------------- broken weights


@seam(
    "verl.workers.engine_workers",
    "TrainingWorker.save_checkpoint",
    upstream="workers/engine_workers.py:425",
    reason="a weight that is NaN would be saved, and every later start would resume from it",
    known={"9330450f4d2fdd51": "0.9.1"},
)
def save_checkpoint(original, self, *args, **kwargs):
    from . import weights

    return weights.save(original, self, args, kwargs)
