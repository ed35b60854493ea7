"""Runs that would end before, or beside, what was asked are refused with one line; what verl accepts is not."""

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf
from tables import says, tables
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


FILES = {
    "rows.jsonl": '{"prompt": "1+1="}\n' * 4,
    "bonus.py": "def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0):\n  return 1.0\n",
    "any.py": "def compute_score(*args, **kwargs):\n  return 1.0\n",
    "exits.py": "raise SystemExit\ncompute_score = print\n",
    "hit.py": "def compute_score(**kwargs):\n  return dict(hit=1.0)\n",
}


@pytest.mark.parametrize("typed, said", tables("data")["rows"])
def test_what_a_run_cannot_do_is_refused_and_what_it_can_is_not(files, tmp_path, typed, said):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    typed = typed.replace("TMP", str(tmp_path)).split()
    if said:
        assert says(stopped(*files, *typed), said)
    else:
        validated(*files, *typed)


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
