"""A divergence by what a user typed: a row of the table, or `package.module:NAME` for one of their own."""

from __future__ import annotations

import functools
import importlib

from .core.divergences import Divergence, get_divergence
from .methods.names import DIVERGENCES

__all__ = ["load_divergence"]


@functools.cache
def load_divergence(name: str, alpha: float | None = None) -> Divergence:
    """The divergence called `name`.

    Args:
        name: a row of the table, or `package.module:NAME`, where NAME is a `frpo_verl.core.divergences.Divergence`.
        alpha: the order of row `alpha`.

    Raises:
        ValueError: the name is unknown, the module cannot be imported, or NAME is something else.
    """
    if ":" not in name or name in DIVERGENCES:
        return get_divergence(name, alpha)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module does when it is imported
        raise ValueError(
            f"divergence={name}: {type(error).__name__}: {error}; write package.module:NAME of something that "
            "`python -c 'import package.module'` finds"
        ) from None
    if not isinstance(found, Divergence):
        raise ValueError(
            f"divergence={name}: is a {type(found).__name__}; make it a frpo_verl.core.divergences.Divergence"
        )
    return found
