"""A replay buffer that looks for finished answers 20 times a second.

verl's `ReplayBuffer` sleeps 2 s between looks (`v1/replay_buffer.py:144,409`): nothing beside minutes of generation on a
GPU, half of a step on a processor. Used by the CPU recipes through `trainer.v1.sampler.custom_sampler`.
"""

from __future__ import annotations

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class QuickReplayBuffer(ReplayBuffer):
    """verl's synchronous replay buffer with `poll_interval=0.05`."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("poll_interval", 0.05)
        super().__init__(*args, **kwargs)
