"""The examples in the docstrings of the core run, and the functions that people call from Python have one."""

import doctest
import importlib
import pkgutil

import pytest

import frpo_verl.core
from frpo_verl.core import advantages, divergences
from frpo_verl.core.losses import clipping, f_grpo, rpg

MODULES = [module.name for module in pkgutil.walk_packages(frpo_verl.core.__path__, "frpo_verl.core.")]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=FLAGS).failed == 0


@pytest.mark.parametrize(
    "function",
    [
        advantages.regularized_advantages, divergences.Divergence, divergences.get_divergence, clipping.kl3_bounds,
        rpg.rpg_loss, f_grpo.f_grpo_loss,
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_the_entrances_have_an_example(function):
    assert ">>> " in function.__doc__
