"""`python -m frpo_verl twin`: small files of a recipe's own form, a command that composes, a list of what is not kept."""

import subprocess
import sys

import e2e
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verl_config import compose_ppo

from frpo_verl import twin
from frpo_verl.quickstart.three_ways import from_question
from frpo_verl.report.collect import metric_files, read_metrics


def problem(i, text, **extra):
    return {
        "data_source": "math_dapo",
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": text}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(i)},
        "extra_info": {"split": "train", "index": i, **extra},
    }


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that recipes name: a hundred problems, one of them long."""
    monkeypatch.chdir(tmp_path)

    def write(path, rows):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / path)

    rows = [problem(i, "long " * 400 if i == 3 else f"problem {i}") for i in range(100)]
    for path in ("dapo_math_17k_english/train", "gsm8k/train", "gsm8k/test"):
        write(f"build/{path}.parquet", rows)
    for name in ("math500", "aime24", "aime25", "amc23"):
        write(f"build/eval/{name}/test.parquet", rows)
    pairs = [
        problem(i, f"p{i}", chosen="c" * 300, rejected="r" * 300) | {"agent_name": "recorded_response"}
        for i in range(4)
    ]
    for pair in pairs:
        pair["reward_model"]["ground_truth"] = ""
    plain = [problem(i, f"p{i}", chosen="", rejected="") | {"agent_name": "single_turn_agent"} for i in range(12)]
    write("build/f_hal/train.parquet", [*pairs, *plain])
    return tmp_path


def test_files_keep_form_and_columns_and_one_row_for_the_filter(workplace):
    made = twin.plan("rpg_qwen3_4b", ["method=rpg_ufkl"])
    folder = workplace / "build/twin/rpg_qwen3_4b"
    train, val = (pq.read_table(folder / f"{n}.parquet") for n in ("dapo_math_17k_english_train", "aime24_test"))
    assert train.schema == val.schema == pq.read_table(workplace / "build/gsm8k/train.parquet").schema
    assert (len(train), len(val)) == (twin.TRAIN_ROWS + 1, twin.VAL_ROWS + 1)
    *sums, long = train.to_pylist()
    assert len(long["prompt"][-1]["content"]) > 700  # data.max_prompt_length of the twin
    for row in sums:
        assert [m["role"] for m in row["prompt"]] == ["user"] and row["data_source"] == "math_dapo"
        assert from_question(row["prompt"][-1]["content"]).sum_digits == row["reward_model"]["ground_truth"]
    assert [r["prompt"][-1]["content"] for r in val.to_pylist()][:3] == ["problem 0", "problem 1", "problem 2"]
    assert (
        f"data.val_files=[{','.join(f'build/twin/rpg_qwen3_4b/{n}_test.parquet' for n in ('aime24', 'aime25', 'amc23'))}]"
        in (made.command)
    )
    assert made.run_dir == "runs/twin/rpg_qwen3_4b/rpg_ufkl"


def test_recorded_pairs_stay_pairs(workplace):
    twin.plan("f_hal_qwen2.5_math_7b", [])
    rows = pq.read_table(workplace / "build/twin/f_hal_qwen2.5_math_7b/f_hal_train.parquet").to_pylist()
    recorded = [r for r in rows if r["agent_name"] == "recorded_response"]
    assert len(recorded) == 4 and len(rows) == 16
    for row in recorded:
        assert row["reward_model"]["ground_truth"] == "" and len(row["extra_info"]["chosen"]) < 32
        assert row["extra_info"]["chosen"] != row["extra_info"]["rejected"]


@pytest.mark.parametrize("recipe, updates", [("rpg_qwen3_4b", 16), ("f_grpo_qwen2.5_math_7b", 1), ("smoke", 2)])
def test_the_number_of_updates_for_a_rollout_is_kept(workplace, recipe, updates):
    made = twin.plan(recipe, [])
    config = compose_ppo(*made.command[2:])
    assert config.data.train_batch_size == updates * config.actor_rollout_ref.actor.ppo_mini_batch_size
    assert config.layout == "cpu" and config.trainer.total_training_steps == 2


def test_what_is_not_kept_is_listed_and_nothing_else_changes(workplace):
    whole, small = compose_ppo("+recipe=rpg_qwen3_4b"), compose_ppo(*twin.plan("rpg_qwen3_4b", []).command[2:])
    changed = twin.differences(whole, small)
    assert changed["actor_rollout_ref.rollout.name"] == ("vllm", "hf")
    assert changed["data.max_response_length"] == ("8192", "32")
    assert changed["actor_rollout_ref.model.path"] == ("Qwen/Qwen3-4B", "build/twin/model")
    kept = ["algorithm", "reward.custom_reward_function", "reward.reward_manager", "actor_rollout_ref.actor.policy_loss",
            "actor_rollout_ref.actor.optim", "actor_rollout_ref.model.lora", "data.shuffle", "method", "recipe"]  # fmt: skip
    assert not [key for key in changed if any(key == k or key.startswith(f"{k}.") for k in kept)]
    assert twin.differences(small, small) == {}


def test_sections_of_another_engine_are_one_line(workplace):
    changed = twin.differences(
        compose_ppo("+recipe=frpo_qwen3_30b_a3b"), compose_ppo("+recipe=frpo_qwen3_30b_a3b", "+check=twin")
    )
    assert changed["actor_rollout_ref.actor.megatron.*"][1] == twin.NOT_SET
    assert not [key for key in changed if "expert_model_parallel_size" in key]


def test_the_command_prints_it_all_and_errors_are_one_line(workplace, capsys):
    assert twin.main(["smoke", "method=grpo"]) == 0
    out = capsys.readouterr().out
    assert "VERL_PLATFORM=cpu python -m verl.trainer.main_ppo +recipe=smoke method=grpo +check=twin" in out
    assert "trainer.total_epochs" not in out and "data.max_prompt_length: 512 -> 768" in out
    for argv, line in (
        (["prl_qwen2.5_math_7b"], "build/numina_math/train.parquet: no such file"),
        (["no_such_recipe"], "no_such_recipe"),
        (["smoke", "layout=megatron"], "layout=megatron: a twin runs on a CPU; leave it out, or set layout=cpu"),
    ):
        assert twin.main(argv) == 2
        error = capsys.readouterr().err
        assert line in error and error.count("\n") == 1


def test_a_layout_of_a_processor_can_be_typed(workplace):
    made = twin.plan("smoke", ["layout=cpu_vllm"])
    assert compose_ppo(*made.command[2:]).layout == "cpu_vllm"


@pytest.mark.e2e
def test_two_methods_of_one_recipe_are_two_runs(tmp_path):
    """One folder, one recipe, method=A and then method=B with resume_mode=auto: the second starts from the beginning."""
    e2e.make_inputs(tmp_path)
    shared = [
        "+recipe=smoke", "+check=twin", "trainer.resume_mode=auto", "trainer.total_training_steps=1", "trainer.save_freq=1",
        "trainer.test_freq=-1", "trainer.val_before_train=false", "data.train_files=train.parquet", "data.val_files=val.parquet",
        "actor_rollout_ref.model.path=./model", "data.max_prompt_length=16", "data.max_response_length=8",
        "data.train_batch_size=4",
    ]  # fmt: skip
    for method in ("frpo", "rpg_urkl"):
        run = tmp_path / "runs/twin/smoke" / method
        command = [sys.executable, "-m", "verl.trainer.main_ppo", *shared, f"method={method}"]
        done = subprocess.run(
            command, cwd=tmp_path, env=e2e.environment(run), capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert list(read_metrics(metric_files(run))) == [1] and "Resuming from" not in done.stdout
        assert (run / "checkpoints/latest_checkpointed_iteration.txt").read_text() == "1"
    assert sorted(p.name for p in (tmp_path / "runs/twin/smoke").iterdir()) == ["frpo", "rpg_urkl"]
