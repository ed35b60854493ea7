"""What the report reads beside verl's metrics file: event files, Hydra's configuration, the environment."""

import json
import os
import random
import subprocess
import sys

import pytest
from report_runs import write_dump, write_run

from frpo_verl.report import collect, facts
from frpo_verl.report.configuration import HIDDEN, Configuration, find_configuration, flatten, read_configuration
from frpo_verl.report.environment import commit, describe, read_environment, write_environment
from frpo_verl.report.loggers import event_files, read_events, read_wandb, wandb_files
from frpo_verl.report.subjects import subjects_of

REWARD = "critic/score/mean"


def run_without_metrics(folder, **settings):
    """A run whose metrics are elsewhere, with these settings of `trainer` in its configuration."""
    run = write_run(folder, steps=2)
    (run / "metrics.jsonl").unlink()
    place = run / "hydra" / ".hydra" / "config.yaml"
    config = json.loads(place.read_text())
    config["trainer"] |= settings
    place.write_text(json.dumps(config))
    return run


def curve(folder, name=REWARD):
    return list(collect.load_run(folder).series[name])


def write_events(folder, rows):
    """Event files as torch's SummaryWriter, and with it verl's `tensorboard` logger, writes them."""
    writers = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    folder.mkdir(parents=True, exist_ok=True)
    writer = writers.EventFileWriter(str(folder))
    for step, data in rows.items():
        for name, value in data.items():
            summary = Summary(value=[Summary.Value(tag=name, simple_value=value)])
            writer.add_event(Event(wall_time=0.0, step=step, summary=summary))
    writer.close()


def test_event_files_stand_in_for_the_metrics_file(tmp_path):
    run = tmp_path / "run"
    write_events(
        run / "tensorboard", {1: {REWARD: 0.25, "actor/entropy": 0.5}, 2: {REWARD: 0.5, "actor/entropy": float("nan")}}
    )
    assert curve(run) == [(1, 0.25), (2, 0.5)] and curve(run, "actor/entropy") == [(1, 0.5)]
    (run / "metrics.jsonl").write_text('{"step": 1, "data": {"critic/score/mean": 0.75}}\n')
    assert curve(run) == [(1, 0.75)]


def test_event_files_are_found_where_verl_writes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_without_metrics(tmp_path / "run", project_name="runs/x", experiment_name="metrics")
    write_events(tmp_path / "tensorboard_log" / "runs" / "x" / "metrics", {1: {REWARD: 0.25}})
    assert curve(run) == [(1, 0.25)]


def test_an_event_file_that_is_cut_off_is_read_up_to_there(tmp_path):
    write_events(tmp_path, {step: {"critic/score/mean": step / 8} for step in range(1, 5)})
    (file,) = event_files(tmp_path)
    file.write_bytes(file.read_bytes()[:-9])
    steps, notes = read_events([file])
    assert sorted(steps) == [1, 2, 3] and not notes  # as in a run that goes on
    file.write_bytes(b"no events at all" * 9)
    steps, notes = read_events([file])
    assert not steps and notes == [f"{file.name}: no number could be read from it"]


@pytest.mark.parametrize("part", ["length", "checksum of the length", "event", "checksum of the event"])
def test_a_damaged_byte_in_an_event_file_is_named_and_what_follows_is_read(tmp_path, part):
    write_events(tmp_path, {step: {"critic/score/mean": step / 8} for step in range(1, 6)})
    (file,) = event_files(tmp_path)
    content = bytearray(file.read_bytes())
    places = [0]
    while places[-1] < len(content):
        places.append(places[-1] + 16 + int.from_bytes(content[places[-1] : places[-1] + 8], "little"))
    third = places[-4]  # of the last five records
    checksum = places[-3] - third - 2
    offset = {"length": 1, "checksum of the length": 9, "event": 14, "checksum of the event": checksum}[part]
    content[third + offset] ^= 0xFF
    file.write_bytes(content)
    steps, notes = read_events([file])
    assert {step: data["critic/score/mean"] for step, data in steps.items()} == {s: s / 8 for s in (1, 2, 4, 5)}
    assert notes == [f"{file.name}: a damaged record at byte {third} left out, what follows is read"]
    assert collect.load_run(tmp_path).notes == notes


def write_wandb(folder, rows, project="p", name="n"):
    """An offline run by Weights & Biases itself, in its own process."""
    pytest.importorskip("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    code = (
        "import json, sys, wandb\n"
        "run = wandb.init(project=sys.argv[2], name=sys.argv[3], mode='offline', settings={'silent': True})\n"
        "for step, data in json.loads(sys.argv[1]).items(): run.log(data, step=int(step))\n"
        "run.finish()\n"
    )
    words = [sys.executable, "-c", code, json.dumps(rows), project, name]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, env={**os.environ, "WANDB_DIR": str(folder)})


@pytest.mark.slow
def test_the_offline_files_of_weights_and_biases_stand_in_for_the_metrics_file(tmp_path):
    rows = {s: {REWARD: s / 8, "actor/entropy": float("nan") if s == 2 else 0.5} for s in (1, 2, 3)}
    rows[3]["x" * 50_000] = 1.0  # a record of several blocks
    run = run_without_metrics(tmp_path / "run")
    write_wandb(run, rows)
    found = collect.load_run(run)
    assert list(found.series[REWARD]) == [(1, 0.125), (2, 0.25), (3, 0.375)] and not found.notes
    assert list(found.series["actor/entropy"]) == [(1, 0.5), (3, 0.5)] and 2 in found.steps
    (file,) = wandb_files(run)
    content = bytearray(file.read_bytes())
    content[content.index(REWARD.encode()) + 3] ^= 0xFF
    file.write_bytes(content)
    damaged = collect.load_run(run)
    assert damaged.notes[-1].startswith(f"{file.name}: a damaged record at byte ")
    assert {2, 3} <= set(damaged.steps)
    write_wandb(run, rows)
    with pytest.raises(collect.RunError, match="files of 2 runs of Weights & Biases"):
        collect.load_run(run)


@pytest.mark.slow
def test_the_files_of_weights_and_biases_are_found_where_verl_writes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_without_metrics(tmp_path / "run", project_name="mine", experiment_name="metrics")
    write_wandb(tmp_path, {1: {REWARD: 0.75}}, "mine", "other")
    assert collect.load_run(run).steps == {}
    write_wandb(tmp_path, {1: {REWARD: 0.25}}, "mine", "metrics")
    assert curve(run) == [(1, 0.25)]
    monkeypatch.setitem(sys.modules, "wandb.proto.wandb_internal_pb2", None)
    assert read_wandb(wandb_files(tmp_path)) == ({}, ["2 files of Weights & Biases not read: pip install wandb"])


def test_without_tensorboard_one_line_says_so(tmp_path, monkeypatch):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    assert read_events(event_files(tmp_path)) == ({}, ["1 TensorBoard event files not read: pip install tensorboard"])


def test_the_configuration_is_resolved_and_its_secrets_hidden(tmp_path):
    file = tmp_path / "config.yaml"
    tree = {"run_dir": "runs/a", "trainer": {"validation_data_dir": "${run_dir}/validation", "api_key": "s3cr3t"}}
    tree |= {"actor": {"ppo_max_token_len": 5, "hf_token": "x", "password": None}, "empty": {}}
    file.write_text(json.dumps(tree))
    (tmp_path / "hydra.yaml").write_text(json.dumps({"hydra": {"overrides": {"task": ["a.token=abc", "b=1"]}, "runtime": {"choices": {"x/y": "n", "method": "frpo"}}}}))  # fmt: skip
    config = read_configuration(file)
    assert config.get("nothing", "trainer.validation_data_dir") == "runs/a/validation"
    assert config.values["trainer.api_key"] == config.values["actor.hf_token"] == HIDDEN
    assert config.values["actor.ppo_max_token_len"] == 5 and config.values["actor.password"] is None
    assert config.overrides == [f"a.token={HIDDEN}", "b=1"] and config.choices == {"method": "frpo"}
    assert flatten({"a": {"b": [1]}}) == {"a.b": [1]}


def test_an_interpolation_that_cannot_be_filled_in_is_shown_as_written(tmp_path):
    (tmp_path / "config.yaml").write_text('{"a": "${nowhere.b}", "c": 1}')
    assert read_configuration(tmp_path / "config.yaml").values == {"a": "${nowhere.b}", "c": 1}


def test_hydras_own_place_is_searched_for_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for day, name in (("1", "mine"), ("2", "other")):
        place = tmp_path / "outputs" / day / "t" / ".hydra"
        place.mkdir(parents=True)
        (place / "config.yaml").write_text(json.dumps({"trainer": {"default_local_dir": f"runs/{name}/checkpoints"}}))
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    found, note = find_configuration(tmp_path / "runs" / "mine")
    assert found.get("trainer.default_local_dir") == "runs/mine/checkpoints" and not note
    (tmp_path / "runs" / "third").mkdir()
    found, note = find_configuration(tmp_path / "runs" / "third")
    assert not found and "no configuration" in note[0]


def test_dumps_and_answers_are_found_where_the_configuration_says(tmp_path):
    run = write_run(tmp_path / "run", steps=4)
    (run / "answers").rename(tmp_path / "tokens")
    for file in (run / "validation").iterdir():
        file.unlink()
    (run / "validation").rmdir()
    write_dump(tmp_path / "elsewhere" / "4.jsonl", 4, 0.5, random.Random(0), 3, 2)
    place = run / "hydra" / ".hydra" / "config.yaml"
    config = json.loads(place.read_text())
    config["trainer"]["validation_data_dir"] = str(tmp_path / "elsewhere")
    config["answers_dir"] = str(tmp_path / "tokens")
    place.write_text(json.dumps(config))
    loaded = collect.load_run(run)
    assert list(loaded.validations) == [4] and list(loaded.answers) == [1, 4]


def test_differences_leave_out_the_folders(tmp_path):
    runs = [write_run(tmp_path / f"run{seed}", "frpo", seed, steps=2) for seed in (1, 2)]
    found = facts.gather(subjects_of([collect.load_run(run) for run in runs]))
    assert found.differences == [("Seed", [("1", False), ("2", True)])]


@pytest.mark.parametrize(
    "values, words",
    [
        ({"algorithm.adv_estimator": "grpo"}, "grpo"),
        ({"algorithm.adv_estimator": "frpo_js", "algorithm.frpo.kl_coef": 0.1}, "frpo_js (kl_coef=0.1)"),
        (
            {"algorithm.adv_estimator": "grpo", "actor_rollout_ref.actor.use_kl_loss": True,
             "actor_rollout_ref.actor.kl_loss_coef": 0.001, "actor_rollout_ref.actor.kl_loss_type": "k3_is"},
            "grpo (KL loss 0.001 (k3_is))",
        ),
        (
            {"algorithm.adv_estimator": "grpo", "actor_rollout_ref.actor.policy_loss.loss_mode": "atr_grpo",
             "actor_rollout_ref.actor.policy_loss.clip.measure": "kl3"},
            "grpo with loss atr_grpo (measure=kl3)",
        ),
        (
            {"algorithm.adv_estimator": "f_hal", "algorithm.f_hal.preference_weight": 0.5,
             "actor_rollout_ref.actor.policy_loss.loss_mode": "f_grpo", "actor_rollout_ref.actor.policy_loss.f_grpo.beta": 0.1},
            "f_hal with loss f_grpo (preference_weight=0.5, beta=0.1)",
        ),
    ],
)  # fmt: skip
def test_the_method_in_a_line(values, words):
    assert facts.method(Configuration(values)) == words


def test_versions_and_commit_stand_on_the_page_where_they_were_recorded(tmp_path):
    run = write_run(tmp_path / "run", steps=2)
    before = dict(facts.gather(subjects_of([collect.load_run(run)])).rows)
    write_environment(run, tmp_path)
    after = dict(facts.gather(subjects_of([collect.load_run(run)])).rows)
    assert before["Versions"] == before["Commit"] == after["Commit"] == facts.NOT_RECORDED
    assert "torch " in after["Versions"] and read_environment(run) == describe(tmp_path)


def test_the_commit_of_a_folder(tmp_path):
    def git(*words):
        words = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert commit(tmp_path) is None
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD").strip()
    assert commit(tmp_path) == head[:12]
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == f"{head[:12]} with changes"
