"""The advantages of verl's asynchronous trainers: what they hand over, from their own functions, against the equation."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transfer_queue
from omegaconf import OmegaConf
from queues import Queue
from toys import group_norm, to_go
from transfer_queue import KVBatchMeta
from verl.experimental.fully_async_policy.detach_utils import RolloutSample, assemble_batch_from_rollout_samples
from verl.experimental.one_step_off_policy.ray_trainer import OneStepOffRayTrainer
from verl.experimental.separation.ray_trainer import SeparateRayPPOTrainer
from verl.experimental.separation.utils import create_role_worker_mapping
from verl.protocol import DataProto
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl_config import compose_ppo

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import metrics, run, start

BETA, WIDTH, N = 0.25, 4, 3


def expected(scores, old, ref, mask, groups):
    """(r - mean)/std over each group - beta * the sum of log old/ref that is still to come."""
    return (group_norm(scores, groups)[:, None] - BETA * to_go(old, ref, mask)) * mask


def algorithm(**changes):
    return {
        "adv_estimator": "frpo", "gamma": 1.0, "lam": 1.0, "norm_adv_by_std_in_grpo": True, "use_kl_in_reward": False,
        "frpo": {"kl_coef": BETA}, "rollout_correction": {"bypass_mode": False, "rollout_is": None}, **changes,
    }  # fmt: skip


def rows_of(prompts, seed=0):
    """Scores, log-probs and mask of N answers to each prompt, and their keys `{uid}_{session}_{output}`."""
    g = torch.Generator().manual_seed(seed)
    keys = [f"{uid}_{session}_0" for uid in prompts for session in range(N)]
    length = torch.randint(1, WIDTH + 1, (len(keys),), generator=g)
    mask = (torch.arange(WIDTH) < length[:, None]).float()
    ref = -torch.rand(len(keys), WIDTH, generator=g) - 0.1
    scores = torch.rand(len(keys), generator=g)
    return keys, scores, ref, mask


class Actor:
    """A model of one number, its version: log-prob = -1 - 0.1 * version on every token; an update adds one."""

    def __init__(self, queue):
        self.queue, self.version, self.kept, self.used = queue, 0, {}, []

    def save_model_to_cpu(self, slot):
        self.kept[slot] = self.version

    def restore_model_from_cpu(self, slot):
        self.version = self.kept[slot]

    def clear_cpu_model(self, slot):
        del self.kept[slot]

    def compute_log_prob(self, batch):
        self.used.append(self.version)
        for key in batch.keys:
            row = self.queue.rows[key]
            full = torch.full((len(row["response_mask"]) + 1,), -1 - 0.1 * self.version)
            row |= {"log_probs": full, "entropy": torch.ones_like(full)}
        return batch


class Trainer(PPOTrainerSeparateAsync):
    """verl's trainer without Ray: workers, sampling and update stand in, all else is its own."""

    def __init__(self, config, queue, prompts, ref):
        self.config, self.queue, self.waiting, self.global_steps = config, queue, list(prompts), 1
        self.parameter_sync_step, self.use_reference_policy, self.use_critic = 2, True, False
        self.actor_rollout_wg, self.ref_in_actor, self.tokenizer = Actor(queue), False, None
        self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=[None])
        self.replay_buffer = SimpleNamespace(sample=self.sample)
        self.ref_policy_wg = SimpleNamespace(compute_ref_log_prob=self.compute_ref)
        self.ref, self.sampled = ref, []

    def prepare_step(self):
        return {}

    _add_batch_to_generate = prepare_step  # the same in verl 0.9.0
    on_sample_begin = on_sample_end = lambda self: None

    def sample(self, global_steps, partition_id, batch_size):
        """Whole groups, as verl's buffer gives them; the balancing over ranks then mixes their rows."""
        uids, self.waiting = self.waiting[:batch_size], self.waiting[batch_size:]
        keys = [key for key in self.queue.rows if key.split("_")[0] in uids]
        return KVBatchMeta(keys=keys, tags=[{} for _ in keys], partition_id=partition_id), {}

    def _balance_batch(self, batch, metrics):
        batch.reorder([*range(0, len(batch.keys), 2), *range(1, len(batch.keys), 2)])
        self.sampled.append(list(batch.keys))
        return batch

    def compute_ref(self, batch):
        for key in batch.keys:
            self.queue.rows[key]["log_probs"] = torch.cat([self.ref[key], torch.zeros(1)])
        return batch

    def _update_actor(self, batch, metrics):
        self.actor_rollout_wg.version += 1
        return batch


@pytest.fixture
def separate(monkeypatch):
    """A step of two mini-batches of two groups; the answers were sampled by a policy of long ago."""
    prompts = ["a", "b", "c", "d"]
    keys, scores, ref, mask = rows_of(prompts)
    queue, references = Queue(), {}
    for i, key in enumerate(keys):
        length = int(mask[i].sum())
        references[key] = ref[i, :length]
        queue.rows[key] = {
            "uid": key[0], "prompts": torch.tensor([3, 4]), "responses": torch.arange(length) + 5,
            "response_mask": torch.ones(length), "rm_scores": torch.cat([torch.zeros(length - 1), scores[i : i + 1]]),
            "rollout_log_probs": torch.full((length,), -1.5),
        }  # fmt: skip
    config = OmegaConf.create(
        {
            "algorithm": algorithm(rollout_correction={"rollout_is": "token"}),
            "data": {"train_batch_size": 4},
            "actor_rollout_ref": {
                "actor": {"loss_agg_mode": "token-mean", "loss_scale_factor": None},
                "rollout": {"n": N, "temperature": 1.0, "calculate_log_probs": True},
            },
            "trainer": {"critic_warmup": 0, "v1": {"trainer_mode": "separate_async"}},
        }
    )  # fmt: skip
    monkeypatch.setattr(transfer_queue, "kv_batch_get", queue.get)
    monkeypatch.setattr(transfer_queue, "kv_batch_put", queue.put)
    run.remember(config)  # as the trainer's __init__ does
    trainer = Trainer(config, queue, prompts, references)
    found = {}
    batch = trainer.step(found, {})
    return SimpleNamespace(
        trainer=trainer, queue=queue, metrics=found, batch=batch, data=dict(zip(keys, range(len(keys)), strict=True)),
        scores=scores, ref=ref, mask=mask,
    )  # fmt: skip


def test_both_mini_batches_take_the_sum_under_the_policy_of_the_last_sync(separate):
    assert separate.trainer.actor_rollout_wg.used == [0, 0]  # though the weights had moved in between
    assert separate.trainer.actor_rollout_wg.version == 2
    assert [sorted({key[0] for key in keys}) for keys in separate.trainer.sampled] == [["a", "b"], ["c", "d"]]
    for keys in separate.trainer.sampled:
        rows = [separate.data[key] for key in keys]
        mask = separate.mask[rows]
        wanted = expected(
            separate.scores[rows], torch.full_like(mask, -1.0), separate.ref[rows], mask, [k[0] for k in keys]
        )
        for key, row, used in zip(keys, wanted, mask.bool(), strict=True):
            came = separate.queue.rows[key]
            torch.testing.assert_close(came["advantages"], row[used], rtol=0, atol=1e-6)
            weights = torch.full_like(row[used], np.exp(0.5))  # old / rollout, below verl's bound of 2
            torch.testing.assert_close(came["rollout_is_weights"], weights)


def test_metrics_speak_of_all_mini_batches(separate):
    names = ("prompts", "responses", "response_mask", "advantages", "returns", "rm_scores")
    data = separate.queue.get(separate.batch.keys, "train", names).to_padded_tensor()
    data["token_level_scores"] = data["token_level_rewards"] = data["rm_scores"]
    data["attention_mask"] = torch.cat([torch.ones(len(data), 2), data["response_mask"]], dim=1)
    found = trainer_base.compute_data_metrics(batch=DataProto(batch=data), use_critic=False)
    delta = (torch.full_like(separate.ref, -1.0) - separate.ref) * separate.mask
    halves = [[separate.data[key] for key in keys] for keys in separate.trainer.sampled]
    k1 = [float(delta[rows].sum() / separate.mask[rows].sum()) for rows in halves]
    assert found["frpo/kl_to_ref/k1"] == pytest.approx(sum(k1) / 2, rel=1e-5)
    assert found["frpo/kl_to_go/first_token/max"] == pytest.approx(float(delta.sum(-1).max()), rel=1e-5)
    assert found["frpo/rollout_log_prob_diff_max"] == pytest.approx(0.5)
    assert separate.metrics["rollout_corr/kl"] == pytest.approx(-0.5)  # log rollout - log old: verl's own name for it


def assembled():
    """A batch as fully_async assembles it, a sample being one prompt's whole group, with what its workers then add."""
    samples, parts = [], []
    for i, uid in enumerate(["a", "b"]):
        keys, scores, ref, mask = rows_of([uid], seed=i)
        zeros = torch.zeros_like(mask)
        group = DataProto.from_dict(
            tensors={
                "prompts": torch.ones(N, 2).long(), "responses": torch.ones(N, WIDTH).long(),
                "attention_mask": torch.cat([torch.ones(N, 2), mask], dim=1), "response_mask": mask,
                "rollout_log_probs": zeros - 1.5,
            },
            non_tensors={
                "uid": np.array([uid] * N, dtype=object), "min_global_steps": np.array([i] * N, dtype=object),
                "max_global_steps": np.array([i + 1] * N, dtype=object),
            },
            meta_info={"metrics": [{"generate_sequences": 0.1, "tool_calls": 0.0}] * N},
        )  # fmt: skip
        samples.append(RolloutSample(full_batch=group, sample_id=uid, epoch=0, rollout_status={}))
        parts.append((scores, ref, mask))
    scores, ref, mask = (torch.cat(column) for column in zip(*parts, strict=True))
    batch = assemble_batch_from_rollout_samples(samples, tokenizer=None, config=None)
    batch.batch["old_log_probs"] = torch.full_like(mask, -1.0)
    batch.batch["ref_log_prob"] = ref
    rewards = torch.zeros_like(mask)
    rewards[torch.arange(len(mask)), mask.sum(-1).long() - 1] = scores
    order = torch.tensor([4, 0, 3, 1, 5, 2])  # balancing over ranks mixes the groups
    batch.reorder(order)
    return batch, rewards[order], scores[order], ref[order], mask[order]


@pytest.mark.parametrize("trainer", [SeparateRayPPOTrainer, OneStepOffRayTrainer])
@pytest.mark.parametrize("weights", [None, "token"])
def test_experimental_trainers_take_the_sum_under_their_own_policy(trainer, weights):
    batch, rewards, scores, ref, mask = assembled()
    config = OmegaConf.create({"algorithm": algorithm(rollout_correction={"bypass_mode": False, "rollout_is": weights}),
                               "actor_rollout_ref": {"rollout": {"n": N}}})  # fmt: skip
    self = SimpleNamespace(config=config, metrics={}, timing_raw={}, reward_tensor=rewards, reward_extra_infos_dict={})
    done = trainer._fit_compute_advantage(self, batch).batch
    wanted = expected(scores, torch.full_like(mask, -1.0), ref, mask, list(batch.non_tensor_batch["uid"]))
    torch.testing.assert_close(done["advantages"], wanted, rtol=0, atol=1e-6)
    assert ("rollout_is_weights" in done) == (weights is not None)
    assert metrics.take()["frpo/rollout_log_prob_diff_max"] == pytest.approx(0.5)


FULLY = ["+async_training.staleness_threshold=0.1", "+rollout.nnodes=1", "actor_rollout_ref.hybrid_engine=false"]
BYPASS_OFF = "algorithm.rollout_correction.bypass_mode=false"
FRPO = [
    "data.train_batch_size=1", "actor_rollout_ref.actor.ppo_mini_batch_size=1", "algorithm.adv_estimator=frpo",
    "actor_rollout_ref.rollout.n=4",
]  # fmt: skip


@pytest.fixture
def roles(tmp_path):
    """What one of verl.experimental's trainers makes of these settings; neither validates them, nor in time."""
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "rows.parquet")
    rows = tmp_path / "rows.parquet"
    files = [f"data.train_files={rows}", f"data.val_files={rows}", "actor_rollout_ref.model.path=some/model"]

    def make(*typed):
        config = compose_ppo(*files, *typed)
        return create_role_worker_mapping(config)[0], config

    return make


@pytest.mark.parametrize("typed, line", [
    ([*FRPO, "algorithm.rollout_correction.bypass_mode=true"], "bypass_mode=true takes the log-probs of the inference engine"),
    (["+method=f_hal", "actor_rollout_ref.rollout.n=4"], "f_hal runs in verl's V1 trainer only; use verl.trainer.main_ppo"),
    ([*FRPO, BYPASS_OFF, "+run_dir=x", "+report=true"], "report=True: nothing reads it without verl.trainer.main_ppo"),
])  # fmt: skip
def test_the_fully_asynchronous_trainer_is_checked_before_it_makes_a_worker(roles, typed, line):
    """Its own default is bypass mode."""
    with pytest.raises(ConfigError, match=line):
        roles(*FULLY, *typed)


def test_the_fully_asynchronous_trainer_gets_reference_and_sections(roles):
    made, config = roles(*FRPO, *FULLY, "+actor_rollout_ref.actor.policy_loss.frpo.kl_coef=0",
                         "actor_rollout_ref.actor.policy_loss.loss_mode=frpo")  # fmt: skip
    assert Role.RefPolicy in made
    assert config.actor_rollout_ref.actor.policy_loss._target_ == "frpo_verl.PolicyLossConfig"
    assert run.current().config is config


@pytest.mark.parametrize("trainer", [FULLY, FULLY[1:]], ids=["fully_async", "one_step_off"])
def test_the_experimental_trainers_leave_their_environment(roles, trainer, tmp_path, monkeypatch):
    """Neither calls the constructor of verl's other trainers; one_step_off validates after it has made its workers' roles."""
    asked = []
    monkeypatch.setattr(start, "check_nodes", lambda: asked.append("nodes"))
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    _, config = roles(*FRPO, *trainer, f"+run_dir={tmp_path / 'run'}", BYPASS_OFF)
    create_role_worker_mapping(config)
    assert (tmp_path / "run/environment.json").exists() and asked == ["nodes"]
