"""The registry: which entities can live together, and how they are found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest

from writebehind.shared.entity import CacheAside, Entity, Key, Sum, WriteBehind, WriteThrough
from writebehind.shared.errors import ConfigurationError, DeclarationError
from writebehind.shared.registry import Registry, load


class Profile(Entity, table="users", strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: str


class Stats(Entity, table="users", strategy=WriteBehind(versions_column="stats_versions")):
    id: Annotated[int, Key]
    city: str
    visits: Annotated[int, Sum]


def test_entities_are_found_by_name_in_the_order_given() -> None:
    registry = Registry([Stats, Profile])

    assert [d.name for d in registry] == ["stats", "profile"]
    assert len(registry) == 2
    assert registry["profile"].cls is Profile


def test_an_unknown_entity_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"^unknown entity 'player'; the declared ones are: profile, stats$"):
        Registry([Stats, Profile])["player"]
    with pytest.raises(ConfigurationError, match=r"the declared ones are: none$"):
        Registry([])["player"]


def test_one_entity_twice_is_one_entity() -> None:
    assert len(Registry([Profile, Profile])) == 1


def test_two_entities_of_one_name_are_refused() -> None:
    class Other(Entity, table="others", name="profile", strategy=WriteBehind()):
        id: Annotated[int, Key]
        name: str

    with pytest.raises(
        DeclarationError, match=r"^Other and Profile are both named 'profile': they would share a topic"
    ):
        Registry([Profile, Other])


def test_two_entities_that_own_one_column_are_refused() -> None:
    class Rename(Entity, table="users", strategy=WriteBehind(versions_column="other_versions")):
        id: Annotated[int, Key]
        name: str

    with pytest.raises(DeclarationError, match=r"^Rename and Profile both own users\.name: .* disjoint columns"):
        Registry([Profile, Rename])


def test_two_entities_that_share_a_versions_column_are_refused() -> None:
    class Cities(Entity, table="users", strategy=WriteBehind()):
        id: Annotated[int, Key]
        city: str

    with pytest.raises(
        DeclarationError, match=r"both own users\.versions: .* a column of versions each \(versions_column=\.\.\."
    ):
        Registry([Profile, Cities])


def test_an_entity_without_versions_needs_no_column_for_them() -> None:
    class Visits(Entity, table="users", strategy=WriteBehind()):
        id: Annotated[int, Key]
        visits: Annotated[int, Sum]

    assert len(Registry([Profile, Visits])) == 2


def test_entities_of_all_strategies_share_a_table_when_their_columns_are_disjoint() -> None:
    class Billing(Entity, table="users", strategy=WriteThrough()):
        id: Annotated[int, Key]
        status: str

    class Contact(Entity, table="users", strategy=CacheAside()):
        id: Annotated[int, Key]
        mail: str

    registry = Registry([Profile, Billing, Contact])

    assert [d.name for d in registry.write_behind] == ["profile"]
    assert [d.name for d in registry.direct] == ["billing", "contact"]
    columns = [d.version_column and (d.version_column.name, d.version_column.type_name) for d in registry]
    assert columns == [("versions", "bigint[]"), ("version", "bigint"), None]


def test_a_version_column_that_is_another_entitys_field_is_refused() -> None:
    class Billing(Entity, table="users", strategy=WriteThrough(version_column="name")):
        id: Annotated[int, Key]
        status: str

    with pytest.raises(DeclarationError, match=r"^Billing and Profile both own users\.name"):
        Registry([Profile, Billing])


def test_tables_of_one_name_in_two_schemas_are_two_tables() -> None:
    class Archived(Entity, table="users", schema="archive", strategy=WriteBehind()):
        id: Annotated[int, Key]
        name: str

    assert len(Registry([Profile, Archived])) == 2


MODULE = """
from typing import Annotated
from writebehind.shared.entity import Entity, Key, WriteBehind

class Base(Entity, abstract=True):
    id: Annotated[int, Key]

class Ship(Base, table="ships", strategy=WriteBehind()):
    name: str

class Crew(Base, table="crews", strategy=WriteBehind()):
    size: int

not_an_entity = 5
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder; gives its name."""
    (tmp_path / "fleet_entities.py").write_text(MODULE)
    (tmp_path / "fleet_empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield "fleet_entities"
    for name in ("fleet_entities", "fleet_empty"):
        sys.modules.pop(name, None)


def test_a_modules_entities_are_loaded_from_the_current_folder(fleet: str) -> None:
    assert [d.name for d in load([fleet])] == ["ship", "crew"]
    assert [d.name for d in load([f"{fleet}:Crew"])] == ["crew"]
    assert [d.name for d in load([f"{fleet}:Crew", fleet])] == ["crew", "ship"]


@pytest.mark.parametrize(
    "path", ["fleet_empty", "fleet_entities:not_an_entity", "fleet_entities:Missing", "fleet_entities:Base"]
)
def test_a_path_that_declares_no_entity_is_refused(fleet: str, path: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^'{path}' declares no entity$"):
        load([path])


def test_a_module_that_cannot_be_imported_is_named(fleet: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^cannot import 'fleet_missing' given as entities: No module named"):
        load(["fleet_missing"])
