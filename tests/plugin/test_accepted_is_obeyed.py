"""What is accepted is obeyed, in every trainer: a key that the checks let pass changes what its run computes or writes.

Random subsets of all keys of ours, each trainer with each key. Whatever is accepted is run (`whole_runs`), once as it is
and once for each of its keys without that key; the two must differ.
"""

import random
from collections import Counter

import pytest
import torch
from verl_config import compose_ppo
from whole_runs import PROMPTS, TRAINERS, N, observe, set_keys

from frpo_verl import methods
from frpo_verl.methods.settings import POLICY_LOSS, ConfigError
from frpo_verl.verl_plugin.checks import check_config
from frpo_verl.verl_plugin.root_keys import ROOT_KEYS
from frpo_verl.verl_plugin.run import section_keys

FRPO, LOSS = "algorithm.frpo", f"{POLICY_LOSS}.frpo"
CORPO = "algorithm.corpo"
RPG, CLIP, F_GRPO = f"{POLICY_LOSS}.rpg", f"{POLICY_LOSS}.clip", f"{POLICY_LOSS}.f_grpo"
DIVERGENCES = ["js", "forward_kl", "alpha", "reverse_kl_k3"]
VALUES = {
    "run_dir": ["run"],
    "report": [True],
    "answers_dir": ["answers"],
    "answers_number": [2, 6],
    "max_silence_s": [60.0],
    "max_missing_answers": [0.1, 0.5],
    f"{FRPO}.kl_coef": [0, 0.3],
    f"{FRPO}.kl_target": [0.01],
    f"{FRPO}.kl_horizon": [10],
    f"{FRPO}.outcome": ["rloo", "none", "corpo", "reinforce_plus_plus"],
    f"{FRPO}.reference": ["teacher"],
    f"{FRPO}.divergence": DIVERGENCES,
    f"{FRPO}.alpha": [0.5, 2],
    f"{FRPO}.placement": ["local", "sequence", "reward", "reward_to_go"],
    f"{FRPO}.baseline": ["position", "remaining"],
    f"{FRPO}.discount": [0.5],
    f"{FRPO}.step": ["length", "newline"],
    f"{FRPO}.step_length": [2],
    f"{FRPO}.log_ratio_clip": [0.5],
    f"{FRPO}.on_nonfinite": ["zero_row"],
    f"{FRPO}.allow_multiple_kl": [True],
    "algorithm.f_hal.preference_weight": [0.25, 1.0],
    f"{RPG}.kl_coef": [0, 0.1],
    f"{RPG}.reference": ["ref"],
    f"{RPG}.level": ["sequence"],
    f"{RPG}.clip_low": [0.9, None],
    f"{RPG}.clip_high": [5.0, None],
    f"{RPG}.dual_clip_c": [1.5, None],
    f"{CLIP}.measure": ["tv", "kl1"],
    f"{CLIP}.delta": [0.2],
    f"{F_GRPO}.divergence": ["kl", "pearson"],
    f"{F_GRPO}.beta": [0.5],
    f"{F_GRPO}.weights": ["softmax"],
    f"{F_GRPO}.length_normalize": [True],
    **{
        f"{section}.{key}": values
        for section in (FRPO, RPG, LOSS)
        for key, values in (("kl_coef_end", [0.5]), ("kl_coef_steps", [5]), ("kl_coef_shape", ["cosine"]))
    },
    f"{CORPO}.threshold": [0.2],
    f"{LOSS}.kl_coef": [0, 0.3],
    f"{LOSS}.divergence": DIVERGENCES,
    f"{LOSS}.alpha": [0.5, 2],
    f"{LOSS}.log_ratio_clip": [0.5],
}
ESTIMATORS = {FRPO: ["frpo", "frpo_js", "frpo_alpha"], "algorithm.f_hal": ["f_hal"], CORPO: ["corpo"]}
VERLS = ["grpo", "rloo", "rpg_batch_mean"]
LOSSES = {
    RPG: ["rpg_fkl", "rpg_ufkl", "rpg_rkl", "rpg_urkl", "rpg_rf_fkl", "rpg_rf_urkl"],
    CLIP: ["divergence_clip", "atr_grpo"], F_GRPO: ["f_grpo"], LOSS: ["frpo"],
}  # fmt: skip
BESIDE = {"answers_number": "answers_dir", "report": "run_dir", "kl_horizon": "kl_target"}  # what a key is drawn with
BESIDE |= {"kl_coef_end": "kl_coef_steps", "kl_coef_steps": "kl_coef_end", "kl_coef_shape": "kl_coef_end"}
BESIDE |= {"step_length": "step", "alpha": "divergence"}
ELSEWHERE = {f"{FRPO}.reference"}  # a teacher is a model of its own: test_teacher.py
PERMISSIONS = {f"{FRPO}.allow_multiple_kl"}  # it permits what would be refused, and changes nothing else


def test_every_key_of_ours_is_drawn():
    fields = {f"{m.section.KEY}.{name}" for m in methods.METHODS.values() if m.section for name in vars(m.section())}
    assert set(VALUES) == set(ROOT_KEYS) | fields
    assert set(ESTIMATORS) | set(LOSSES) == set(section_keys())


@pytest.fixture(scope="module")
def bases():
    batch = [f"data.train_batch_size={PROMPTS}", "actor_rollout_ref.actor.ppo_mini_batch_size=1"]
    common = [*batch, f"actor_rollout_ref.rollout.n={N}", "actor_rollout_ref.actor.use_dynamic_bsz=true"]
    common += [
        "+composed_by=frpo_verl", "trainer.n_gpus_per_node=1",
        "actor_rollout_ref.rollout.tensor_model_parallel_size=1",
    ]  # fmt: skip
    common += ["data.train_files=hdfs://rows", "data.val_files=hdfs://rows", "actor_rollout_ref.model.path=a/model"]
    return {name: compose_ppo(*common, *overrides) for name, overrides in TRAINERS.items()}


def draw(rng: random.Random, focus: str) -> tuple[dict, dict]:
    """(methods, keys of ours): `focus` and up to three more, mostly of the sections that these methods read."""
    section = focus.rpartition(".")[0]
    estimator = rng.choice(ESTIMATORS.get(section) or (["frpo", *VERLS] if rng.random() < 0.8 else ["f_hal"]))
    loss = rng.choice(LOSSES.get(section) or (["vanilla"] if rng.random() < 0.6 else sum(LOSSES.values(), [])))
    if estimator == "f_hal" and rng.random() < 0.9:
        loss = "f_grpo"
    chosen = {"algorithm.adv_estimator": estimator, f"{POLICY_LOSS}.loss_mode": loss}
    if rng.random() < 0.15:
        kind = rng.choice(["js", "k3_is", "alpha:0.5"])
        actor = "actor_rollout_ref.actor"
        chosen |= {f"{actor}.use_kl_loss": True, f"{actor}.kl_loss_coef": 0.1, f"{actor}.kl_loss_type": kind}
    read = [key for key, names in {**ESTIMATORS, **LOSSES}.items() if {estimator, loss} & set(names)]
    near = [key for key in VALUES if key in ROOT_KEYS or key.rpartition(".")[0] in read]
    more = rng.sample(near if rng.random() < 0.9 else list(VALUES), rng.randint(0, 3))
    for key in [focus, *more]:
        place, _, name = key.rpartition(".")
        if name in BESIDE and rng.random() < 0.8:
            more += [
                f"{place}.{BESIDE[name]}".lstrip("."),
                f"{place}.kl_coef_steps" if name == "kl_coef_shape" else focus,
            ]
    typed = {key: rng.choice(VALUES[key]) for key in dict.fromkeys([focus, *more])}
    if typed.get(f"{FRPO}.divergence") == estimator.removeprefix("frpo_"):
        del typed[f"{FRPO}.divergence"]  # the name says it already
    return chosen, typed


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def ignored(base, trainer: str, chosen: dict, typed: dict, tmp_path) -> list[str] | None:
    """The keys of an accepted run that change nothing; None for a run that is refused."""

    def seen(name: str, keys: dict):
        folder = tmp_path / name
        folder.mkdir()
        keys = {k: str(folder / v) if k in ("run_dir", "answers_dir") else v for k, v in keys.items()}
        return set_keys(base, {"trainer.default_local_dir": str(folder), **chosen, **keys}), folder

    config, folder = seen("with", typed)
    try:
        check_config(config)
    except ConfigError:
        return None
    found = observe(config, trainer, folder)
    unread = []
    for i, key in enumerate(typed.keys() - PERMISSIONS):
        config, folder = seen(f"without {i}", {k: v for k, v in typed.items() if k != key})
        try:
            check_config(config)
            other = observe(config, trainer, folder)
        except ConfigError:  # e.g. the order of divergence alpha is gone: the key decides whether there is a run
            continue
        if all(same(found[name], other[name]) for name in found):
            unread.append(key)
    return unread


def survey(bases, trainer, seeds, tmp_path, keys=tuple(VALUES)) -> Counter:
    """How often each key was accepted; fails on the first that was ignored."""
    accepted = Counter()
    for seed in seeds:
        for number, focus in enumerate(keys):
            chosen, typed = draw(random.Random(f"{trainer} {focus} {seed}"), focus)
            folder = tmp_path / f"{seed}_{number}"
            folder.mkdir()
            unread = ignored(bases[trainer], trainer, chosen, typed, folder)
            assert not unread, f"accepted and ignored in {trainer}: {unread} of {typed} with {chosen}"
            accepted.update(list(typed) if unread is not None else ())
            accepted["runs"] += unread is not None
    return accepted


@pytest.mark.parametrize("trainer", TRAINERS)
def test_what_is_accepted_changes_the_run(bases, trainer, tmp_path):
    third = list(VALUES)[list(TRAINERS).index(trainer) % 3 :: 3]
    assert survey(bases, trainer, [0], tmp_path, third)["runs"] > 0


@pytest.mark.slow
def test_what_is_accepted_changes_hundreds_of_runs(bases, tmp_path):
    accepted = Counter()
    for trainer in TRAINERS:
        (tmp_path / trainer).mkdir()
        accepted += survey(bases, trainer, (1, 2, 3), tmp_path / trainer)
    assert accepted["runs"] > 150
    never = set(VALUES) - set(accepted) - ELSEWHERE
    assert not never, f"obeyed nowhere, because never accepted: {never}"
