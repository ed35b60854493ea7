"""The quick composition of the tests is Hydra's own, key for key."""

import omegaconf.base
import pytest
from omegaconf import OmegaConf
from verl_config import compose_plainly, compose_ppo

pytestmark = pytest.mark.slow
TYPED = [
    [],
    ["algorithm.adv_estimator=frpo", "+algorithm.frpo.kl_coef=0.01"],
    ["+recipe=f_hal_qwen2.5_math_7b", "layout=fsdp_offload", "data.train_files=[a.parquet,b.parquet]"],
    ["+recipe=frpo_qwen3_30b_a3b", "method=rpg_rf_urkl", "~trainer.logger"],
    ["+recipe=rpg_qwen3_4b", "method=prl", "+check=twin"],
    ["model_engine=megatron"],
]


def resolved(config):
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)


@pytest.mark.parametrize("typed", TYPED, ids=[" ".join(t) or "verl's own" for t in TYPED])
def test_the_quick_composition_is_hydras_own(typed, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(omegaconf.base, "parse", omegaconf.base.parse.__wrapped__)
        plain = compose_plainly(*typed)
        values = resolved(plain)
    for _ in range(2):  # the second finds everything remembered
        quick = compose_ppo(*typed)
        assert OmegaConf.to_yaml(quick) == OmegaConf.to_yaml(plain) and resolved(quick) == values
        assert OmegaConf.is_struct(quick) and not quick._get_node("algorithm")._get_flag("no_deepcopy_set_nodes")
        quick.algorithm.adv_estimator = "changed"  # and does not see this


def test_a_changed_file_on_another_search_path_is_another_file(tmp_path):
    for name, value in (("a", 3), ("b", 4)):
        (tmp_path / name / "recipe").mkdir(parents=True)
        (tmp_path / name / "recipe/mine.yaml").write_text(
            f"# @package _global_\ndefaults: [smoke, _self_]\nexperts: {value}\n"
        )
        assert compose_ppo("+recipe=mine", f"hydra.searchpath=[file://{tmp_path}/{name}]").experts == value
