"""The table of methods, and all that a user can type: names, ranges, sections. Importable without torch."""

from .method import KINDS, NEEDS, Method, Need, Refusal
from .section import ConfigError, Section
from .table import METHODS, add, find, find_local_kl, markdown, of_kind, on_add

__all__ = ["KINDS", "METHODS", "NEEDS", "ConfigError", "Method", "Need", "Refusal", "Section"]
__all__ += ["add", "find", "find_local_kl", "markdown", "of_kind", "on_add"]
