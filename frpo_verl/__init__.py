"""frpo_verl: KL- and divergence-regularised policy optimisation as a plugin for verl.

Importing the package makes the plugin ready: it leaves hooks that act when verl's own modules are imported, and imports
neither verl nor torch itself.
"""

from ._version import __version__
from .verl_plugin import register

__all__ = ["__version__", "register"]

register()
