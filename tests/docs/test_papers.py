"""The recipes hold what the papers state (papers.yaml), and fit into the machines that docs/recipes.md names."""

import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from verl_config import compose_ppo

from frpo_verl.verl_plugin.paths import config_names

CPU, EVALUATIONS = {"quickstart_cpu", "gsm8k_cpu", "eval_cpu"}, {"eval_math", "eval_aime"}
PAPERS = yaml.safe_load(Path(__file__).with_name("papers.yaml").read_text())
STATED = {**PAPERS["recipes"], **PAPERS["methods"]}


@pytest.mark.parametrize("typed", STATED)
def test_the_papers_values(typed):
    recipe, *method = typed.split()
    config = compose_ppo(f"+recipe={recipe}", *method, *["name=model"] * (recipe in EVALUATIONS))
    assert {key: OmegaConf.select(config, key) for key in STATED[typed]} == STATED[typed]


def test_the_table_has_every_recipe_of_a_paper():
    assert set(config_names("recipe")) - {"smoke", "qwen3_1.7b_gsm8k", "smollm2_135m", *CPU} == set(PAPERS["recipes"])


PARAMETERS = {  # billions, each model's card
    "Qwen3-0.6B-Base": 0.60, "Qwen3-1.7B-Base": 1.72, "Qwen3-4B": 4.02, "Qwen3-4B-Base": 4.02, "Qwen3-8B-Base": 8.19,
    "Qwen3-30B-A3B-Base": 30.5, "Qwen2.5-Math-1.5B": 1.54, "Qwen2.5-Math-7B": 7.62, "SmolLM2-135M-Instruct": 0.135,
}  # fmt: skip


def machines():
    """(recipe, layout, GPUs, GB of a card) of every smallest machine in docs/recipes.md's table."""
    page = (Path(__file__).resolve().parents[2] / "docs/recipes.md").read_text()
    table = page.split("## Which recipe, which machine")[1].split("What to type")[0]
    for line in table.splitlines():
        names, *_, fits = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| `") else [""] * 4
        if not re.match(r"\d", fits):
            continue
        first, *others = re.findall(r"`([^`]+)`", names)
        recipes = [first, *(re.sub(r"_[\d.]+b$", "", first) + other for other in others)]
        parts = [part.strip() for part in fits.split(";")]
        for i, part in enumerate(parts):
            layout = re.search(r"layout=(\w+)", part)
            gpus, card = re.match(r"\d+", part), re.search(r"(\d+) GB", part)
            yield recipes[min(i, len(recipes) - 1)], layout and layout[1], int(gpus[0]), int(card[1]) if card else 80


@pytest.mark.parametrize("recipe, layout, gpus, card", machines())
def test_the_rollout_leaves_room_for_the_states_on_the_smallest_machine(recipe, layout, gpus, card):
    """The page's formula: between phases a GPU keeps the model, its masters and Adam, or only the frozen model, or nothing."""
    section = compose_ppo(f"+recipe={recipe}", *[f"layout={layout}"] * bool(layout)).actor_rollout_ref
    engine = section.actor.get("fsdp_config") or section.actor.megatron
    kept = 0 if engine.param_offload else 4 if section.model.lora_rank else 12
    states = kept * PARAMETERS[section.model.path.split("/")[1]] / gpus
    assert section.rollout.gpu_memory_utilization <= (card - states - 5) / card


def test_every_row_of_the_table_is_a_machine():
    found = {recipe for recipe, *_ in machines()}
    assert found == set(config_names("recipe")) - CPU - EVALUATIONS
