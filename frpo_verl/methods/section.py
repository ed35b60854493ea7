"""What a section of a run's configuration is: typed fields, each with its choices or its range beside it.

A section is a frozen dataclass. A field may name with `only_with` the values of other fields beside which it counts.
`SECTION.parse(values)` builds one from a plain mapping and refuses what it does not know. Every error is one line: the key,
the value, what is allowed, what to do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from . import names
from .ranges import Range


class ConfigError(ValueError):
    """A setting that would fail later or silently do something else."""


def number(default: float | None, allowed: Range, *, optional: bool = False, **facts: Any) -> Any:
    """A field that holds a number of a range, or null if it is optional."""
    return dataclasses.field(default=default, metadata={"range": allowed, "optional": optional, **facts})


def choice(default: str, allowed: tuple[str, ...], **facts: Any) -> Any:
    """A field that holds one of some words; with `or_import` the last of them stands for `package.module:NAME`."""
    return dataclasses.field(default=default, metadata={"choices": allowed, **facts})


def _is_import(value: object) -> bool:
    module, _, name = str(value).partition(":")
    return all(part.isidentifier() for part in module.split(".")) and name.isidentifier()


S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Section:
    """One section; subclasses add fields and, where two fields bear on each other, `_relations`."""

    KEY: ClassVar[str] = ""

    @classmethod
    def parse(cls: type[S], values: Mapping | None, **fixed: Any) -> S:
        """Build the section from what stands in the configuration.

        Args:
            values: a plain mapping, or None for the defaults.
            fixed: settings that the method's name decides; another value in `values` is refused.

        Raises:
            ConfigError: an unknown key (the nearest known one is named), a value that is not allowed, or one that
                nothing would read.
        """
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(f"{cls.KEY}={values!r}: must be a mapping of {', '.join(cls._known())}")
        values = dict(values or {})
        known = cls._known()
        for key in values:
            if key not in known:
                raise ConfigError(f"{cls.KEY}.{key}: unknown key{names.nearest(key, known)}; known: {', '.join(known)}")
        for key, value in fixed.items():
            if values.get(key, value) != value:
                raise ConfigError(
                    f"{cls.KEY}.{key}={values[key]!r}: the chosen method fixes it to {value!r}; remove the key"
                )
        section = cls(**{**values, **fixed})
        for field in dataclasses.fields(cls):
            if field.name not in fixed:
                section._refuse_unread(field)
        return section

    @classmethod
    def _known(cls) -> list[str]:
        return sorted(f.name for f in dataclasses.fields(cls))

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check(field)
        self._relations()

    def _check(self, field: dataclasses.Field) -> None:
        key, value, facts = f"{self.KEY}.{field.name}", getattr(self, field.name), field.metadata
        if "range" in facts and not (facts["optional"] and value is None) and value not in facts["range"]:
            null = ", or null" if facts["optional"] and "only_with" not in facts else ""
            raise ConfigError(f"{key}={value!r}: must be {facts['range']}{null}")
        if "choices" in facts and value not in facts["choices"][: -1 if facts.get("or_import") else None]:
            if not (facts.get("or_import") and _is_import(value)):
                raise ConfigError(
                    f"{key}={value!r}: not one of {', '.join(facts['choices'])}{names.nearest(value, facts['choices'])}"
                )
        if isinstance(field.default, bool) and not isinstance(value, bool):
            raise ConfigError(f"{key}={value!r}: must be true or false")

    def _refuse_unread(self, field: dataclasses.Field) -> None:
        """A field that only counts beside certain values of others must keep its default elsewhere."""
        value = getattr(self, field.name)
        if value == field.default:
            return
        for other, allowed in field.metadata.get("only_with", {}).items():
            given = getattr(self, other)
            if given not in allowed:
                where = (
                    f"where {other} is {allowed}"
                    if isinstance(allowed, Range)
                    else f"by {other}={' or '.join(allowed)}"
                )
                raise ConfigError(
                    f"{self.KEY}.{field.name}={value!r}: only read {where}, got {other}={given}; remove it or set that"
                )

    def _relations(self) -> None:
        """Settings that bear on each other."""

    @property
    def needs(self) -> frozenset[str]:
        """What these settings need beyond what the method always needs (see `methods.NEEDS`)."""
        return frozenset()

    def obeys(self, row: frozenset[str]) -> frozenset[str]:
        """verl's keys that are read with these settings, of those that its row of the table names."""
        return row

    def keywords(self, step: int | None = None) -> dict[str, Any]:
        """The settings as keyword arguments of the method's function, at a training step if they change with it."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
