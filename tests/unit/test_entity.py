"""Declaring an entity: what the class must say, and the errors that say what is missing."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import CacheAside, Entity, Key, Numeric, WriteBehind, WriteThrough
from writebehind.shared.errors import ConfigurationError, DeclarationError


class Player(Entity, table="players", strategy=WriteBehind(flush_delay_s=0.5)):
    id: Annotated[int, Key]
    name: str = "anonymous"


def declare(name: str, annotations: dict[str, Any] | None = None, /, **arguments: Any) -> type[Entity]:
    """Make a class as a `class` statement would."""
    namespace = {"__module__": __name__, "__annotations__": {"id": Annotated[int, Key], **(annotations or {})}}
    made: type[Entity] = type(name, (Entity,), namespace, **arguments)
    return made


def test_an_entity_knows_its_name_its_table_and_its_strategy() -> None:
    declaration = declaration_of(Player)

    assert (declaration.name, declaration.table, declaration.schema) == ("player", "players", None)
    assert declaration.strategy == WriteBehind(flush_delay_s=0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Player", "player"),
        ("PlayerScore", "player_score"),
        ("HTTPServer", "http_server"),
        ("Route66Stop", "route66_stop"),
    ],
)
def test_the_name_is_the_class_name_in_snake_case(name: str, expected: str) -> None:
    assert declare(name, table="t", strategy=WriteBehind()).__place__.entity == expected


def test_a_name_and_a_schema_can_be_given() -> None:
    class Other(Entity, table="players", schema="game", name="player_v2", strategy=WriteBehind()):
        id: Annotated[int, Key]

    assert (Other.__place__.entity, Other.__place__.schema) == ("player_v2", "game")


def test_a_class_without_a_strategy_is_refused_with_the_reason() -> None:
    with pytest.raises(
        DeclarationError, match=r"^Nameless: pick a strategy: strategy=WriteBehind\(\.\.\.\), .*There is no default"
    ):
        declare("Nameless", table="t")


def test_a_class_without_a_table_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^Nowhere: say which table it is"):
        declare("Nowhere", strategy=WriteBehind())


@pytest.mark.parametrize("name", ["Player", "9lives", "a-b", "a.b", "a b", "é", "x" * 49, "a\n"])
def test_a_name_that_could_not_be_a_topic_or_a_cache_key_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match=r"^Oddly: the name .* must match"):
        declare("Oddly", table="t", name=name, strategy=WriteBehind())


@pytest.mark.parametrize("field", ["wait", "timeout_s", "connection"])
def test_a_field_named_like_an_option_of_the_calls_is_refused(field: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^Clash.{field}: this name is an option"):
        declare("Clash", {field: int}, table="t", strategy=WriteBehind())


def test_an_abstract_base_shares_fields_and_is_no_entity() -> None:
    class Base(Entity, abstract=True):
        id: Annotated[int, Key]
        name: str

    class Derived(Base, table="derived", strategy=WriteBehind()):
        age: int

    assert [c.name for c in declaration_of(Derived).fields] == ["name", "age"]
    with pytest.raises(DeclarationError, match=r"^Base is an abstract base, not an entity"):
        declaration_of(Base)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"flush_delay_s": -0.1}, "flush_delay_s must be between 0 and 60 seconds"),
        ({"flush_delay_s": float("nan")}, "flush_delay_s must be between 0 and 60 seconds"),
        ({"flush_delay_s": 61}, "flush_delay_s must be between 0 and 60 seconds"),
        ({"ttl_s": 0}, "ttl_s must be greater than 0"),
        ({"ttl_s": float("inf")}, "ttl_s must be greater than 0"),
        ({"on_broker_down": "ignore"}, "on_broker_down must be 'block', 'shed' or 'through'"),
        ({"on_missing": "update"}, "on_missing must be 'insert', 'skip' or 'dead_letter'"),
    ],
)
def test_a_strategy_option_out_of_its_range_is_refused(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^{rule}"):
        WriteBehind(**options)


@pytest.mark.parametrize("strategy", [CacheAside, WriteThrough])
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"ttl_s": 0}, "ttl_s must be greater than 0"),
        ({"negative_ttl_s": float("nan")}, "negative_ttl_s must be greater than 0"),
        ({"ttl_jitter": 1}, "ttl_jitter must be at least 0 and less than 1"),
        ({"on_cache_down": "ignore"}, "on_cache_down must be 'invalidate' or 'fail'"),
    ],
)
def test_an_option_of_the_direct_strategies_out_of_its_range_is_refused(
    strategy: type[CacheAside | WriteThrough], options: dict[str, Any], rule: str
) -> None:
    with pytest.raises(DeclarationError, match=rf"^{rule}"):
        strategy(**options)


def test_an_early_recompute_that_would_never_cache_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^early_recompute_beta must be between 0"):
        CacheAside(early_recompute_beta=101)


def test_the_name_of_the_topic_of_invalidations_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^Invalidations: the name 'invalidations' is that of the topic"):
        declare("Invalidations", table="t", strategy=WriteBehind())


def test_what_needs_one_strategy_says_so_of_an_entity_with_another() -> None:
    aside = declaration_of(declare("Aside", {"name": str}, table="t", strategy=CacheAside()))
    with pytest.raises(ConfigurationError, match=r"^Aside is declared CacheAside; this needs a write-behind entity"):
        _ = aside.write_behind
    with pytest.raises(ConfigurationError, match=r"^Player is declared WriteBehind; this needs a cache-aside or"):
        _ = declaration_of(Player).direct
    assert aside.direct == CacheAside()
    assert aside.versioned == ()


@pytest.mark.parametrize(("precision", "scale"), [(0, 0), (1001, 0), (5, 6), (5, -1)])
def test_a_numeric_that_postgres_could_not_declare_is_refused(precision: int, scale: int) -> None:
    with pytest.raises(ConfigurationError, match=r"^Numeric\(precision, scale\) needs"):
        Numeric(precision, scale)


def test_a_row_is_frozen_and_has_no_undeclared_fields() -> None:
    row = Player(id=1)

    with pytest.raises(ValidationError, match=r"frozen"):
        row.name = "other"
    with pytest.raises(ValidationError, match=r"Extra inputs are not permitted"):
        Player(id=1, age=3)  # type: ignore[call-arg]  # what the test is about
