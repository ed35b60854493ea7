"""Wrong configurations stop in verl's validate_config, in the driver, with one line; what is obeyed passes."""

import copy
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from tables import tables
from transformers import Qwen3Config
from verl.trainer.ppo.utils import need_reference_policy
from verl_config import compose_ppo, stopped, validated

from frpo_verl import methods
from frpo_verl.quickstart.tokenizer import write_tokenizer
from frpo_verl.verl_plugin import hooks, run, start

ACTOR, GRPO = "actor_rollout_ref.actor", ["algorithm.adv_estimator=grpo", "~algorithm.frpo"]
LOSS = f"{ACTOR}.policy_loss"
TABLES = tables("checks")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "atexit", SimpleNamespace(register=lambda *_: None))  # no report of this process
    data, model = tmp_path / "rows.parquet", tmp_path / "model"
    data.touch()
    model.mkdir()
    write_tokenizer(model)  # a model that verl can configure a critic from
    (model / "config.json").write_text(Qwen3Config(architectures=["Qwen3ForCausalLM"]).to_json_string())
    named = [f"data.train_files={data}", f"data.val_files={data}", f"actor_rollout_ref.model.path={model}"]
    return ["+recipe=quickstart_cpu", *named]


@pytest.mark.parametrize("typed, line", TABLES["stops"])
def test_stops_before_anything_starts(files, typed, line):
    assert line in stopped(*files, *typed.split())


@pytest.mark.parametrize("typed, line", TABLES["on_a_cpu"])
def test_what_a_cpu_cannot_run_stops_too(files, monkeypatch, typed, line):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setattr("frpo_verl.verl_plugin.cpu.vllm_cpu.installed", lambda: False)
    assert line in stopped(*files, *typed.split())


@pytest.mark.parametrize("typed, _", TABLES["passes"])
def test_what_is_obeyed_passes(files, typed, _):
    validated(*files, *typed.split())


@pytest.mark.parametrize("typed, line", TABLES["says"])
def test_what_is_obeyed_and_does_little_is_said_once(files, capsys, typed, line):
    hooks.say_once.cache_clear()
    for _ in range(2):
        validated(*files, f"{ACTOR}.ppo_mini_batch_size=8", *typed.split())
    said = [text for text in capsys.readouterr().err.splitlines() if text.startswith("frpo_verl: actor_rollout_ref")]
    assert len(said) == bool(line) and line in "".join(said)


def test_the_sections_are_all_that_is_typed(files):
    """No `_target_`: the plugin puts in the class that knows the section, and a named one goes on working."""
    typed = [*GRPO, f"{LOSS}.loss_mode=rpg_urkl", f"+{LOSS}.rpg.kl_coef=1e-3"]
    assert validated(*files, *typed).actor_rollout_ref.actor.policy_loss._target_ == "frpo_verl.PolicyLossConfig"
    validated(*files, *typed, f"{LOSS}._target_=frpo_verl.PolicyLossConfig")


def test_a_worker_of_somebodys_own_knows_its_section():
    """A worker group that is built without verl's trainer is given the section alone, as the root of its configuration."""
    for loss, ours in (("vanilla", False), ("frpo", True)):
        run.remember_part(OmegaConf.create({"actor": {"policy_loss": {"loss_mode": loss}}, "model": {"path": "m"}}))
        assert run.current().ours is ours and run.current().get("actor_rollout_ref.model.path") == "m"


@pytest.mark.parametrize("typed, _", TABLES["not_ours"])
def test_a_run_that_is_not_ours_is_left_alone(typed, _, monkeypatch):
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    config = compose_ppo(f"{ACTOR}.use_dynamic_bsz=true", *typed.split())  # a key that verl's checks want
    before = copy.deepcopy(config)
    start.validate(config)
    assert config == before and not run.Run(config).ours


@pytest.mark.parametrize("typed, _", TABLES["ours"])
def test_a_typed_name_or_a_recipe_makes_a_run_ours(typed, _):
    assert run.Run(compose_ppo(*typed.split())).ours


@pytest.mark.parametrize("typed, needed", TABLES["needs_the_reference"])
def test_the_reference_is_loaded_where_it_is_read(files, typed, needed):
    assert need_reference_policy(compose_ppo(*files, *typed.split())) is (needed == "True")


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda m: f"{m.kind}-{m.name}")
def test_what_the_table_says_to_type_composes_and_passes(files, method):
    config = validated(*files, *method.recipe)
    assert method in [row for row, _ in run.Run(config).chosen]


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda m: f"{m.kind}-{m.name}")
def test_what_the_page_says_it_needs_is_what_stops_a_run(files, method):
    """Each need of the table, those of the default settings too, has a configuration without it, and that one stops."""
    without = {
        "groups": "actor_rollout_ref.rollout.n=1",
        "centred": "actor_rollout_ref.rollout.n=1",
        "v1": "trainer.use_v1=false",
        "one_value": "algorithm.adv_estimator=gae",
    }
    config = compose_ppo(*files, *method.recipe)
    settings = next(settings for row, settings in run.Run(config).chosen if row is method)
    assert "reference" not in method.all_needs(settings) or need_reference_policy(config)
    for need in method.all_needs(settings) - {"reference", "one_row"}:  # a session is seen in its first batch
        lacks = [f"{r.key}={'token' if r.allowed[0] is None else 'true'}" for r in methods.NEEDS[need].refuses]
        for override in lacks or [without[need]]:
            assert override.split("=")[0] in stopped(*files, *method.recipe, override), (need, override)
