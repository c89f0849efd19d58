"""The statements' text, where a mistake would not show on a small database. What they do is in tests/integration."""

from __future__ import annotations

from typing import Annotated, Any

from writebehind.shared.declaration import Declaration, declaration_of
from writebehind.shared.entity import Entity, Key, Max, Sum, WriteBehind
from writebehind.shared.fold import fold
from writebehind.shared.record import Codec
from writebehind.shared.statement import Statements


class Player(Entity, table='we"ird', strategy=WriteBehind()):
    id: Annotated[int, Key]
    name: str
    score: Annotated[int, Sum]


class Known(Entity, table="known", strategy=WriteBehind(on_missing="skip")):
    id: Annotated[int, Key]
    name: str


class Counter(Entity, table="counters", strategy=WriteBehind()):
    site: Annotated[str, Key]
    page: Annotated[int, Key]
    hits: Annotated[int, Sum]
    peak: Annotated[int, Max]


PLAYER, KNOWN, COUNTER = declaration_of(Player), declaration_of(Known), declaration_of(Counter)


def statements(declaration: Declaration, slots: dict[str, int] | None = None, **defaults: str | None) -> Statements:
    columns = [c.name for c in (*declaration.keys, *declaration.fields)]
    return Statements(
        declaration,
        schema="public",
        column_types=dict.fromkeys(columns, "bigint"),
        defaults={**dict.fromkeys(columns), **defaults},
        slots=slots or {c.name: at for at, c in enumerate(declaration.versioned, 1)},
        bookkeeping="book",
    )


def test_the_text_does_not_depend_on_the_batch_so_that_it_is_prepared_once() -> None:
    made = statements(PLAYER)
    codec = Codec(PLAYER)
    for count in (1, 100):
        folded = fold(PLAYER, codec.decode([codec.encode(5, 0, (key,), [(1, 3)]) for key in range(count)]))
        assert len(made.merge_params(folded)) == len(made.merge_types) == made.merge.count(b"%b") == 4

    assert made.merge == statements(PLAYER).merge
    assert made.merge_types == ("int8", "text", "int8", "int8")


def test_names_are_quoted() -> None:
    assert b'"public"."we""ird"' in statements(PLAYER).merge
    assert b'"public"."we""ird"' in statements(PLAYER).select


def test_a_missing_row_is_inserted_only_where_that_is_wanted() -> None:
    assert b"WHEN NOT MATCHED" in statements(PLAYER).merge
    assert b"WHEN NOT MATCHED" not in statements(KNOWN).merge


def test_an_entity_without_last_fields_needs_no_versions_column() -> None:
    made = statements(COUNTER)

    assert b"versions" not in made.merge
    assert b"versions" not in made.select
    assert made.merge_types == ("text", "int8", "int8", "int8")


def test_slots_of_fields_that_a_newer_declaration_added_are_kept() -> None:
    merge = statements(PLAYER, {"name": 3}).merge

    assert b't."versions"[1], t."versions"[2], GREATEST(t."versions"[3]' in merge
    assert b'|| t."versions"[4:]' in merge


def test_a_default_is_taken_as_it_stands_in_the_catalog() -> None:
    merge = statements(PLAYER, name="format('{%s}'::text, 5)").merge

    assert b"(format('{%%s}'::text, 5))" in merge  # the client takes %% for %


def test_parameters_of_deletes_are_columns() -> None:
    class Item(Entity, table="items", strategy=WriteBehind(deletes=True)):
        site: Annotated[str, Key]
        page: Annotated[int, Key]
        hits: Annotated[int, Sum]

    declaration = declaration_of(Item)
    codec = Codec(declaration)
    rows: list[Any] = codec.decode([codec.encode(5, 0, ("a|b", 1), []), codec.encode(6, 0, ("c", 2), [])])
    made, folded = statements(declaration), fold(declaration, rows)

    assert made.delete_params(folded) == [["a|b", "c"], [1, 2], [5, 6]]
    assert made.bury_params(folded) == [["a%7Cb|1", "c|2"], [5, 6]]
