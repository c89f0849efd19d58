"""What `writebehind grants` prints, without a server."""

from __future__ import annotations

import shlex
from typing import Annotated

import pytest

from writebehind.flusher.grants import cache, database, kafka
from writebehind.flusher.grants.cli import names_of
from writebehind.flusher.grants.command import grants
from writebehind.flusher.grants.roles import Role
from writebehind.shared.entity import CacheAside, Entity, Key, Sum, WriteBehind
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import load_settings


class Odd(Entity, table='o"dd', schema="shop", strategy=WriteBehind(on_missing="skip")):
    id: Annotated[int, Key]
    hits: Annotated[int, Sum] = 0
    note: str = ""


class Aside(Entity, table="asides", strategy=CacheAside()):
    id: Annotated[int, Key]
    name: str = ""


def rights(role: Role, *entities: type[Entity]) -> list[str]:
    found = database.rights(role, Registry(entities), bookkeeping="wb", schema_of=lambda d: d.schema or "public")
    return [right.grant("me") for right in found]


def test_names_are_quoted_and_a_patch_that_makes_no_row_needs_no_insert() -> None:
    found = rights(Role.FLUSHER, Odd)
    assert 'GRANT UPDATE ("hits", "note", "versions") ON TABLE "shop"."o""dd" TO "me";' in found
    assert 'GRANT USAGE ON SCHEMA "shop" TO "me";' in found
    assert not [line for line in found if 'o""dd' in line and ("INSERT" in line or "DELETE" in line)]


def test_a_flusher_gets_nothing_on_what_its_callers_write_themselves() -> None:
    assert not [line for line in rights(Role.FLUSHER, Odd, Aside) if "asides" in line]


def test_a_producer_may_delete_rows_of_direct_entities_alone() -> None:
    assert [line for line in rights(Role.PRODUCER, Odd, Aside) if "DELETE" in line] == [
        'GRANT DELETE ON TABLE "public"."asides" TO "me";'
    ]


def test_a_role_is_made_once_whatever_it_is_called() -> None:
    (statement,) = database.prepare(Role.PRODUCER, "o'Neil\"", bookkeeping="wb")
    assert "rolname = ''o''''Neil\"''" in statement
    assert 'CREATE ROLE "o\'\'Neil"""' in statement


def test_the_prefix_is_no_pattern() -> None:
    words = cache.arguments(Role.AUDITOR, "a", prefix="w*b")
    assert "%R~w\\*b:*" in words
    assert '"%R~w\\\\*b:*"' in cache.statement(words)
    assert "+eval" not in words
    assert "~wb:*" in cache.arguments(Role.AUDITOR, "a", prefix="wb", repairs=True)
    assert cache.arguments(Role.MIGRATOR, "a", prefix="wb") == []


def test_invalidations_have_rights_only_where_somebody_invalidates() -> None:
    settings = load_settings(
        kafka={"bootstrap_servers": "b"}, database={"url": "postgresql://x"}, cache={"url": "redis://x"}
    )
    names = {acl.name for role in Role for acl in kafka.acls(role, Registry([Odd]), settings)}
    assert not [name for name in names if "invalidations" in name]
    for role in (Role.PRODUCER, Role.FLUSHER):
        assert "writebehind.invalidations" in {a.name for a in kafka.acls(role, Registry([Odd, Aside]), settings)}
    whereis = {
        kafka.Acl("topic", "writebehind.invalidations", ("Read",)),
        kafka.Acl("group", "writebehind-", ("Describe",), True),
    }
    assert whereis <= set(kafka.acls(Role.AUDITOR, Registry([Aside]), settings))


def test_what_is_printed_for_a_shell_is_one_command_each() -> None:
    command = kafka.Acl("topic", "a b", ("Read", "Write")).command("it's", "b:9092")
    words = shlex.split(command)
    assert words[words.index("--allow-principal") + 1] == "User:it's"
    assert words[words.index("--topic") + 1] == "a b"
    assert [words[at + 1] for at, word in enumerate(words) if word == "--operation"] == ["Read", "Write"]


def test_names_are_given_by_role() -> None:
    assert names_of(["flusher=shop", "auditor=a=b"]) == {Role.FLUSHER: "shop", Role.AUDITOR: "a=b"}
    for wrong in ("shop", "flusher=", "flush=shop"):
        with pytest.raises(ConfigurationError, match="ROLE=NAME"):
            names_of([wrong])


@pytest.mark.parametrize("role", Role)
def test_every_role_has_a_name_and_never_a_password(role: Role) -> None:
    settings = load_settings(
        kafka={"bootstrap_servers": "b"},
        database={"url": "postgresql://u:s3cret@x"},
        cache={"url": "redis://:s3cret@x"},
    )
    (one,) = grants(settings, Registry([Odd]), [role], {role: "mine"}, tables_in="public", repairs=False)
    assert one["name"] == "mine"
    assert "s3cret" not in str(one)
    assert all("mine" in line for line in (*one["sql"], *one["cache"], *one["kafka"]))
