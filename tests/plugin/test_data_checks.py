"""Runs that would end before, or beside, what was asked are refused with one line; what verl accepts is not."""

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl_config import compose_ppo

from frpo_verl.methods.settings import ConfigError
from frpo_verl.verl_plugin import run
from frpo_verl.verl_plugin.checks import data as data_checks

REWARD, VALIDATION = "reward.custom_reward_function", "actor_rollout_ref.rollout.val_kwargs"


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


def check(files, *overrides: str):
    config = compose_ppo(*files, *overrides)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))


def stopped(files, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        check(files, *overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("fewer", [["data.train_batch_size=17"], ["data.train_max_samples=7"]])
def test_fewer_rows_than_a_batch_are_refused(files, fewer):
    assert "rows for it, less than one batch" in stopped(files, *fewer)


def test_steps_that_the_epochs_do_not_hold_are_refused_with_the_epochs_that_do(files):
    line = stopped(files, "trainer.total_training_steps=500", "trainer.total_epochs=1")
    assert "trainer.total_training_steps=500: trainer.total_epochs=1 ends the run after 2 steps (16 rows" in line
    assert "set total_epochs=250 or more" in line
    check(files, "trainer.total_training_steps=500", "trainer.total_epochs=250")
    check(files, "trainer.total_training_steps=null", "trainer.total_epochs=1")


@pytest.mark.parametrize(
    "accepted",
    [
        ["data.train_max_samples=-1"],
        ["data.train_files=[]", "data.train_batch_size=64"],
        ["trainer.val_only=true", "data.train_batch_size=64"],
        ["data.custom_cls.path=pkg://somebody.elses", "data.train_batch_size=64"],
        ["++data.datagen.path=pkg://somebody.elses", "data.train_batch_size=64"],
    ],
)
def test_what_cannot_be_counted_or_is_not_needed_is_not_refused(files, accepted):
    check(files, *accepted)


def test_a_file_of_lines_is_left_to_the_trainers_own_count(files, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1="}\n' * 4)
    check(files, f"data.train_files={tmp_path}/rows.jsonl")


def test_a_pattern_of_names_is_accepted_where_it_names_a_file(files, tmp_path):
    check(files, f"data.train_files='{tmp_path}/*.parquet'")
    assert "no such file" in stopped(files, f"data.train_files='{tmp_path}/*.jsonl'")


def trainer(*overrides: str, rows: int):
    config = compose_ppo("+recipe=quickstart_cpu", "data.train_batch_size=8", *overrides)
    run.remember(config)
    return SimpleNamespace(train_dataset=range(rows), config=config)


def test_what_a_filter_has_left_is_judged_when_the_trainer_has_loaded_it():
    with pytest.raises(ConfigError, match="data.train_files have 7 rows for it, less than one batch"):
        data_checks.check_loaded_rows(trainer(rows=7))
    with pytest.raises(ConfigError, match="ends the run after 2 steps"):
        data_checks.check_loaded_rows(trainer("trainer.total_epochs=2", "trainer.total_training_steps=3", rows=15))
    data_checks.check_loaded_rows(trainer("trainer.total_epochs=3", "trainer.total_training_steps=3", rows=15))
    plain = OmegaConf.create({"data": {"train_batch_size": 8}, "algorithm": {"adv_estimator": "grpo"}})
    run.remember(plain)
    data_checks.check_loaded_rows(SimpleNamespace(train_dataset=range(7)))  # not a run of ours
    run.forget()


def test_a_switch_that_verl_does_not_read_must_agree_with_the_temperature(files):
    line = stopped(files, f"{VALIDATION}.do_sample=false")
    assert line.startswith(f"{VALIDATION}.do_sample=false beside temperature=1") and "set temperature=0" in line
    assert "likeliest" in stopped(files, f"{VALIDATION}.temperature=0")
    check(files, f"{VALIDATION}.temperature=0", f"{VALIDATION}.do_sample=false")
    check(files, f"{VALIDATION}.do_sample=false", "trainer.val_before_train=false", "trainer.test_freq=-1")


def test_a_misspelt_argument_of_the_reward_is_refused(files, tmp_path):
    math = ["reward.custom_reward_function.path=pkg://frpo_verl.rewards.math"]
    line = stopped(files, *math, f"+{REWARD}.reward_kwargs.deadlin=3")
    assert line.startswith(
        f"{REWARD}.reward_kwargs.deadlin=3: compute_score has no such argument (did you mean 'deadline'?)"
    )
    check(files, *math, f"+{REWARD}.reward_kwargs.deadline=3")
    own = tmp_path / "own.py"
    own.write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0):\n  return 1.0\n"
    )
    assert "did you mean 'bonus'?" in stopped(files, f"{REWARD}.path={own}", f"+{REWARD}.reward_kwargs.bonsu=1")
    check(files, f"{REWARD}.path={own}", f"+{REWARD}.reward_kwargs.bonus=1")
    own.write_text("def compute_score(*args, **kwargs):\n  return 1.0\n")
    check(files, f"{REWARD}.path={own}", f"+{REWARD}.reward_kwargs.bonsu=1")
    own.write_text("raise SystemExit\ncompute_score = print\n")  # is read and not run
    check(files, f"{REWARD}.path={own}", f"+{REWARD}.reward_kwargs.bonsu=1")


def test_a_metric_that_the_reward_does_not_return_is_refused(files, tmp_path):
    math = [f"{REWARD}.path=pkg://frpo_verl.rewards.math", "++algorithm.filter_groups.enable=true"]
    line = stopped(files, *math, "++algorithm.filter_groups.metric=accuracy")
    assert line.startswith(
        "algorithm.filter_groups.metric=accuracy: compute_score does not return it (did you mean 'acc'?)"
    )
    dapo = [*math, "reward.reward_manager.name=dapo"]
    assert "does not return it" in stopped(files, *dapo, "++algorithm.filter_groups.metric=accuracy")
    check(files, *dapo, "++algorithm.filter_groups.metric=overlong_reward")
    for metric in ("acc", "score", "reward"):
        check(files, *math, f"++algorithm.filter_groups.metric={metric}")
    own = tmp_path / "own.py"
    own.write_text("def compute_score(**kwargs):\n  return dict(hit=1.0)\n")  # cannot be read: left alone
    check(files, *math, f"{REWARD}.path={own}", "++algorithm.filter_groups.metric=hit")
