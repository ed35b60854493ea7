"""Loaded by VERL_USE_EXTERNAL_MODULES: the plugin's wraps stay out, its names and verl's trainer on a CPU stay in."""

from frpo_verl.verl_plugin import hooks

for entry in hooks.SEAMS:
    if entry.name and not entry.only_cpu:
        entry.status = "applied"  # taken for done: the hook of the module's import passes it by
