"""The registry: the entities of one deployment, checked against each other."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .declaration import Declaration, declaration_of
from .entity import Entity
from .errors import ConfigurationError, DeclarationError
from .strategy import Direct, WriteBehind


class Registry:
    """Declarations by entity name. Raises DeclarationError on two entities of one name or with overlapping columns."""

    def __init__(self, entities: Iterable[type[Entity]]) -> None:
        self._by_name: dict[str, Declaration] = {}
        owner: dict[tuple[str | None, str, str], Declaration] = {}
        for cls in entities:
            declaration = declaration_of(cls)
            twin = self._by_name.setdefault(declaration.name, declaration)
            if twin is not declaration:
                raise DeclarationError(
                    f"{cls.__name__} and {twin.cls.__name__} are both named {declaration.name!r}: "
                    f"they would share a topic; "
                    "give one of them name=..."
                )
            self._claim(declaration, owner)

    def _claim(self, declaration: Declaration, owner: dict[tuple[str | None, str, str], Declaration]) -> None:
        columns = [c.name for c in declaration.fields]
        if declaration.version_column is not None:
            columns.append(declaration.version_column.name)
        for column in columns:
            other = owner.setdefault((declaration.schema, declaration.table, column), declaration)
            if other is not declaration:
                raise DeclarationError(
                    f"{declaration.cls.__name__} and {other.cls.__name__} both own "
                    f"{declaration.table}.{column}: entities that share a table must have disjoint columns, and a "
                    "column of versions each (versions_column=..., version_column=...)"
                )

    @property
    def write_behind(self) -> list[Declaration]:
        """Those that have a topic and are flushed."""
        return [declaration for declaration in self if isinstance(declaration.strategy, WriteBehind)]

    @property
    def direct(self) -> list[Declaration]:
        """Those whose rows the callers write themselves: cache-aside and write-through."""
        return [declaration for declaration in self if isinstance(declaration.strategy, Direct)]

    def __iter__(self) -> Iterator[Declaration]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: str) -> Declaration:
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise ConfigurationError(f"unknown entity {name!r}; the declared ones are: {known}") from None


def load(modules: Iterable[str]) -> Registry:
    """Import modules (`shop.entities`, or `shop.entities:Player` for one class) and register the entities they define.

    The current folder is importable, as with Celery or Alembic. Raises ConfigurationError.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    found: dict[type[Entity], None] = {}
    for path in modules:
        name, _, attribute = path.partition(":")
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ConfigurationError(f"cannot import {name!r} given as entities: {error}") from error
        classes = [getattr(module, attribute, None)] if attribute else list(vars(module).values())
        entities = [c for c in classes if inspect.isclass(c) and issubclass(c, Entity) and hasattr(c, "__place__")]
        if not entities:
            raise ConfigurationError(f"{path!r} declares no entity")
        found.update(dict.fromkeys(entities))
    return Registry(found)
