"""The table of methods, and all that a user can type: names, ranges, sections. Importable without torch."""

from .settings import ConfigError, Section
from .table import KINDS, METHODS, NEEDS, Method, Need, Refusal, add, find, local_kl, markdown, of_kind, on_add

__all__ = [
    "KINDS",
    "METHODS",
    "NEEDS",
    "ConfigError",
    "Method",
    "Need",
    "Refusal",
    "Section",
    "add",
    "find",
    "local_kl",
    "markdown",
    "of_kind",
    "on_add",
]
