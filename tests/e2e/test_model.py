"""A pretrained model, its tokenizer and its chat template through main_ppo on a CPU; `make test-model` fetches it."""

import json
import os
import shutil
import sys
from pathlib import Path

import e2e
import pytest

from frpo_verl.evaluation import cli as passk

FOLDER = Path(os.environ.get("SMOLLM2", "none"))
SUMS = "one_digit_sums"  # smollm2.SUMS
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no model: `make test-model` fetches one of 94 MB and runs this"),
]  # fmt: skip
SETTINGS = {
    "sums": [
        "data.max_prompt_length=64", "data.max_response_length=8",
        f"+reward.custom_reward_function.reward_kwargs.last_number_sources=[{SUMS}]",
    ],
    "gsm8k": ["data.max_prompt_length=256", "data.max_response_length=32"],
}  # fmt: skip


def train(name: str, run: Path, *overrides: str) -> tuple[dict[int, dict], str]:
    """Steps of four prompts with four answers."""
    data = (FOLDER / name).absolute()
    command = [
        sys.executable, "-m", "verl.trainer.main_ppo", "+recipe=smollm2_135m", "layout=cpu", f"run_dir={run}",
        f"hydra.run.dir={run}/hydra", f"actor_rollout_ref.model.path={(FOLDER / 'model').absolute()}",
        f"data.train_files={data}/train.parquet", f"data.val_files={data}/test.parquet", "data.val_max_samples=8",
        "data.train_batch_size=4", "actor_rollout_ref.actor.ppo_mini_batch_size=4", "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.val_kwargs.n=2", "trainer.test_freq=2", *SETTINGS[name], *overrides,
    ]  # fmt: skip
    status, output = e2e.execute(command, run, {"OMP_NUM_THREADS": str(os.cpu_count())})
    assert status == 0, output[-5000:]
    return e2e.metrics(run), output


def assert_the_reference_is_the_start(metrics: dict[int, dict]) -> None:
    assert sorted(metrics) == [0, 1, 2]
    for name in ("frpo/kl_to_ref/k1", "frpo/kl_to_ref/k3", "frpo/kl_to_go/first_token/mean"):
        assert metrics[1][name] == pytest.approx(0, abs=1e-5)
    for step in (1, 2):
        assert metrics[step]["frpo/rollout_log_prob_diff_max"] < 1e-3  # the engine's and the trainer's
        alike = metrics[step]["frpo/zero_variance_groups"] == 1  # no reward and no KL to learn from
        assert alike or metrics[step]["actor/grad_norm"] > 0


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """One step with a checkpoint, and a second one by a command that finds it."""
    run = tmp_path_factory.mktemp("sums")
    train("sums", run, "trainer.total_training_steps=1", "trainer.save_freq=1")
    metrics, output = train(
        "sums", run, "trainer.total_training_steps=2", "trainer.save_freq=2", "trainer.val_before_train=false",
        "report=true", f"answers_dir={run}/answers",
    )  # fmt: skip
    yield run, metrics, output
    shutil.rmtree(run / "checkpoints")  # 1.6 GB each


def test_sums_train_and_resume(sums):
    run, metrics, output = sums
    assert "setting global step to 1" in output
    assert_the_reference_is_the_start(metrics)
    assert metrics[2]["frpo/kl_to_ref/k3"] > 0  # the first update moved the policy
    assert max(metrics[step]["critic/score/mean"] for step in (1, 2)) > 0
    assert (run / "checkpoints/latest_checkpointed_iteration.txt").read_text() == "2"


def test_its_validation_is_evaluated(sums, tmp_path):
    run, _, _ = sums
    out = tmp_path / "passk.json"
    files = [str(run / "validation"), "--data", str(FOLDER / "sums/test.parquet"), "--json", str(out)]
    assert passk.main(files) == 0
    reports = json.loads(out.read_text())["reports"]
    assert [r["step"] for r in reports] == [0, 1, 2]
    for report in reports:
        assert list(report["results"]) == [SUMS]
        assert report["results"][SUMS]["problems"] == 8


def test_its_answers_are_on_the_page(sums):
    run, _, _ = sums
    page = (run / "report.html").read_text()
    assert SUMS in page and "smollm2_135m" in page
    answers = [json.loads(line) for line in (run / "answers/2.jsonl").read_text().splitlines()]
    assert all("What is" in row["prompt"] and "".join(row["tokens"]) for row in answers)


def test_word_problems_train(tmp_path):
    metrics, _ = train("gsm8k", tmp_path, "trainer.total_training_steps=2", "trainer.save_freq=-1")
    assert_the_reference_is_the_start(metrics)
