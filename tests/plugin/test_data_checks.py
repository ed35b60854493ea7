"""Runs that would end before, or beside, what was asked are refused with one line; what verl accepts is not."""

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from tables import cases, says
from verl_config import compose_ppo, stopped, validated

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import run, start
from frpo_verl.verl_plugin.hooks import wrap


@pytest.fixture
def files(tmp_path):
    """A run of two files with 16 rows together."""
    for name in ("a", "b"):
        pq.write_table(pa.table({"prompt": ["1+1="] * 8}), tmp_path / f"{name}.parquet")
    (tmp_path / "model").mkdir()
    both = f"[{tmp_path}/a.parquet,{tmp_path}/b.parquet]"
    return ["+recipe=quickstart_cpu", f"data.train_files={both}", f"data.val_files={both}"] + [
        f"actor_rollout_ref.model.path={tmp_path}/model", "data.train_batch_size=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    ]  # fmt: skip


ROWS = """
data.train_batch_size=17 -> rows for it, less than one batch
data.train_max_samples=7 -> rows for it, less than one batch
trainer.total_training_steps=500 trainer.total_epochs=1
    -> trainer.total_training_steps=500: trainer.total_epochs=1 ends the run after 2 steps (16 rows
    ... set total_epochs=250 or more
trainer.total_training_steps=500 trainer.total_epochs=250
trainer.total_training_steps=null trainer.total_epochs=1
# what cannot be counted, or is not needed
data.train_max_samples=-1
data.train_files=[] data.train_batch_size=64
trainer.val_only=true data.train_batch_size=64
data.custom_cls.path=pkg://somebody.elses data.train_batch_size=64
++data.datagen.path=pkg://somebody.elses data.train_batch_size=64
# a file of lines is left to the trainer's own count; a pattern has to name a file
data.train_files=TMP/rows.jsonl
data.train_files='TMP/*.parquet'
data.train_files='TMP/*.json' -> no such file
# a switch that verl does not read must agree with the temperature
VALIDATION.do_sample=false -> ^VALIDATION.do_sample=false beside temperature=1 ... set temperature=0
VALIDATION.temperature=0 -> likeliest
VALIDATION.temperature=0 VALIDATION.do_sample=false
VALIDATION.do_sample=false trainer.val_before_train=false trainer.test_freq=-1
# a misspelt argument of the reward; files are read and not run, and what cannot be read is left alone
REWARD.path=MATH +REWARD.reward_kwargs.deadlin=3
    -> ^REWARD.reward_kwargs.deadlin=3: compute_score has no such argument (did you mean 'deadline'?)
REWARD.path=MATH +REWARD.reward_kwargs.deadline=3
REWARD.path=TMP/bonus.py +REWARD.reward_kwargs.bonsu=1 -> did you mean 'bonus'?
REWARD.path=TMP/bonus.py +REWARD.reward_kwargs.bonus=1
REWARD.path=TMP/any.py +REWARD.reward_kwargs.bonsu=1
REWARD.path=TMP/exits.py +REWARD.reward_kwargs.bonsu=1
# a metric that the reward does not return
REWARD.path=MATH ++FILTER.enable=true ++FILTER.metric=accuracy
    -> ^FILTER.metric=accuracy: compute_score does not return it (did you mean 'acc'?)
REWARD.path=MATH ++FILTER.enable=true reward.reward_manager.name=dapo ++FILTER.metric=accuracy -> does not return it
REWARD.path=MATH ++FILTER.enable=true reward.reward_manager.name=dapo ++FILTER.metric=overlong_reward
REWARD.path=MATH ++FILTER.enable=true ++FILTER.metric=acc
REWARD.path=MATH ++FILTER.enable=true ++FILTER.metric=score
REWARD.path=MATH ++FILTER.enable=true ++FILTER.metric=reward
REWARD.path=TMP/hit.py ++FILTER.enable=true ++FILTER.metric=hit
"""
NAMES = {"REWARD": "reward.custom_reward_function", "VALIDATION": "actor_rollout_ref.rollout.val_kwargs"}
NAMES |= {"FILTER": "algorithm.filter_groups", "MATH": "pkg://frpo_verl.rewards.math"}
FILES = {
    "rows.jsonl": '{"prompt": "1+1="}\n' * 4,
    "bonus.py": "def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0):\n  return 1.0\n",
    "any.py": "def compute_score(*args, **kwargs):\n  return 1.0\n",
    "exits.py": "raise SystemExit\ncompute_score = print\n",
    "hit.py": "def compute_score(**kwargs):\n  return dict(hit=1.0)\n",
}


@pytest.mark.parametrize("typed, said", cases(ROWS))
def test_what_a_run_cannot_do_is_refused_and_what_it_can_is_not(files, tmp_path, typed, said):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for name, stands_for in {**NAMES, "TMP": str(tmp_path)}.items():
        typed, said = typed.replace(name, stands_for), said.replace(name, stands_for)
    if said:
        assert says(stopped(*files, *typed.split()), said)
    else:
        validated(*files, *typed.split())


def trainer(*overrides: str, count: int):
    config = compose_ppo("+recipe=quickstart_cpu", "data.train_batch_size=8", *overrides)
    run.remember(config)
    return SimpleNamespace(train_dataset=range(count), tokenizer=SimpleNamespace())


def loaded(of_verl):
    wrap(lambda self: None, lambda: start.around_dataloader)(of_verl)


def test_what_a_filter_has_left_is_judged_when_the_trainer_has_loaded_it():
    with pytest.raises(ConfigError, match="data.train_files have 7 rows for it, less than one batch"):
        loaded(trainer(count=7))
    with pytest.raises(ConfigError, match="ends the run after 2 steps"):
        loaded(trainer("trainer.total_epochs=2", "trainer.total_training_steps=3", count=15))
    loaded(trainer("trainer.total_epochs=3", "trainer.total_training_steps=3", count=15))
    plain = OmegaConf.create({"data": {"train_batch_size": 8}, "algorithm": {"adv_estimator": "grpo"}})
    run.remember(plain)
    loaded(SimpleNamespace(train_dataset=range(7)))  # not a run of ours
