"""From declarations, settings and, when it was asked, the database to everything that is said of them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from writebehind.shared.declaration import Column, Declaration
from writebehind.shared.entity import Merge
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings
from writebehind.shared.strategy import CacheAside, WriteBehind

from . import direct, smells, table_smells, write_behind
from .decision import need_of
from .facts import ColumnFacts, EntityFacts, Explanation, Smell, TableFacts
from .table_smells import Look, unowned


def explain(
    registry: Registry,
    settings: Settings,
    looks: Mapping[str, Look],
    *,
    not_looked_at: str | None = None,
    accepted: Collection[str] = (),
) -> Explanation:
    """`looks`: what the catalog says, by entity name; empty when it was not asked, for the reason `not_looked_at`.

    `accepted`: smells that are meant so, as CODE or CODE:PLACE.
    """
    tables: list[TableFacts] = []
    found: list[Smell] = []
    for name, declarations in _by_table(registry, looks).items():
        look = looks.get(declarations[0].name)
        tables.append(_table(name, declarations, look, settings))
        found += _smells(name, declarations, look, settings)
    marked = [dataclasses.replace(s, accepted=bool({s.code, f"{s.code}:{s.place}"} & set(accepted))) for s in found]
    return Explanation(tables, marked, not_looked_at)


def _by_table(registry: Iterable[Declaration], looks: Mapping[str, Look]) -> dict[str, list[Declaration]]:
    """Entities by the table they are on, in the order of declaration."""
    found: dict[str, list[Declaration]] = {}
    for declaration in registry:
        look = looks.get(declaration.name)
        schema = look.info.schema if look and look.info else declaration.schema
        found.setdefault(f"{schema}.{declaration.table}" if schema else declaration.table, []).append(declaration)
    return found


def _smells(name: str, declarations: Sequence[Declaration], look: Look | None, settings: Settings) -> Iterator[Smell]:
    for declaration in declarations:
        neighbours = [other for other in declarations if other is not declaration]
        yield from smells.of_entity(declaration, settings.kafka, neighbours)
    yield from smells.of_table(name, declarations)
    if look is not None:
        yield from table_smells.of_look(name, declarations, look)


def _table(name: str, declarations: Sequence[Declaration], look: Look | None, settings: Settings) -> TableFacts:
    columns = [ColumnFacts(c.name, "key", None, None) for c in declarations[0].keys]
    for declaration in declarations:
        columns += _columns(declaration)
    if look is not None and look.info is not None:
        columns += [ColumnFacts(c, "nobody's", None, None) for c in unowned(declarations, look.info)]
    return TableFacts(name, columns, [_entity(declaration, settings) for declaration in declarations])


def _columns(declaration: Declaration) -> Iterator[ColumnFacts]:
    strategy, read = _strategy_name(declaration), _read(declaration)
    late_s = declaration.strategy.flush_delay_s if isinstance(declaration.strategy, WriteBehind) else 0.0
    for column in declaration.fields:
        yield ColumnFacts(column.name, column.merge, declaration.name, strategy, read, late_s, _retry(column))
    version = declaration.version_column
    if version is not None:
        role = "versions of fields" if version.type_name == "bigint[]" else "version of the row"
        yield ColumnFacts(version.name, role, declaration.name, strategy)


def _retry(column: Column) -> str:
    return "may count twice: read first" if column.merge is Merge.SUM else "harmless"


def _entity(declaration: Declaration, settings: Settings) -> EntityFacts:
    strategy = declaration.strategy
    if isinstance(strategy, WriteBehind):
        write, ages = write_behind.WRITE, write_behind.ages(strategy, settings)
        crashes = write_behind.crashes(strategy, settings)
    else:
        write, ages, crashes = direct.write(strategy), direct.ages(strategy), direct.crashes(strategy, settings)
    options = ", ".join(f"{f.name}={getattr(strategy, f.name)!r}" for f in dataclasses.fields(strategy))
    return EntityFacts(
        declaration.name,
        _strategy_name(declaration),
        options,
        write,
        _read(declaration),
        ages,
        crashes,
        need_of(strategy).need,
    )


def _read(declaration: Declaration) -> str:
    strategy = declaration.strategy
    return write_behind.READ if isinstance(strategy, WriteBehind) else direct.read(strategy)


def _strategy_name(declaration: Declaration) -> str:
    match declaration.strategy:
        case WriteBehind():
            return "write-behind"
        case CacheAside():
            return "cache-aside"
        case _:
            return "write-through"
