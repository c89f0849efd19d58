"""`writebehind check` on real servers: it tells what is wrong, with what mends it, and nothing where nothing is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import trustme
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.integration.guarded import Guarded
from tests.integration.logins import SECRET
from tests.integration.roles_world import MODULES, Roles, execute, roles
from writebehind.flusher.check.command import check
from writebehind.flusher.check.finding import Finding, Severity
from writebehind.flusher.grants.roles import Role
from writebehind.shared.registry import load
from writebehind.shared.settings import Settings, load_settings

REGISTRY = load(MODULES)


@pytest.fixture(scope="module")
def world(writebehind_stack: Guarded) -> Iterator[Roles]:
    with roles(writebehind_stack) as made:
        yield made


def errors(settings: Settings, role: Role = Role.FLUSHER) -> list[Finding]:
    result = check(settings, REGISTRY, role)
    assert result.unchecked == []
    return [one for one in result.findings if one.severity is Severity.ERROR]


@pytest.mark.parametrize("role", Role)
def test_a_role_with_its_rights_has_nothing_to_mend(world: Roles, role: Role) -> None:
    result = check(world.settings(str(role)), REGISTRY, role)
    assert (errors(world.settings(str(role)), role), result.unchecked, result.exit_code) == ([], [], 0)
    facts = {(server, name): value for server, name, value in result.facts}
    assert abs(facts["database", "clock_skew_s"]) < 1
    assert facts["database", "user"] == f"writebehind_{role}"
    assert facts["database", "tls"].startswith("TLSv1.")
    others = {"kafka", "cache"} if role is not Role.MIGRATOR else {"kafka"}
    assert {(server, facts[server, "tls"]) for server in others} == {(server, True) for server in others}


@pytest.mark.parametrize(
    ("revoke", "what"),
    [
        ("REVOKE UPDATE (stock) ON items FROM writebehind_flusher", "lacks UPDATE on"),
        ("REVOKE DELETE ON items FROM writebehind_flusher", "lacks DELETE on"),
        ("REVOKE SELECT ON {}.migration FROM writebehind_flusher", "migration"),
        ("REVOKE UPDATE ON {}.progress FROM writebehind_flusher", "progress"),
        ("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA {} FROM writebehind_flusher, PUBLIC", "advance("),
    ],
)
def test_a_right_that_is_missing_is_told_with_the_statement_that_gives_it(world: Roles, revoke: str, what: str) -> None:
    settings = world.settings("flusher")
    world.execute(revoke)
    found = errors(settings)
    assert found
    assert all(what in one.what for one in found) or "ALL FUNCTIONS" in revoke
    for one in found:
        execute(world.corner.database_url, one.fix)
    assert errors(settings) == [], "the statements mend it"


def test_a_command_that_the_cache_refuses_is_told(world: Roles) -> None:
    with redis.Redis.from_url(world.corner.cache_url) as cache:
        cache.execute_command("ACL", "SETUSER", "writebehind_flusher", "-hset", "-evalsha")
        try:
            (found,) = errors(world.settings("flusher"))
        finally:
            cache.execute_command("ACL", "SETUSER", "writebehind_flusher", "+hset", "+evalsha")
    assert "evalsha, hset" in found.what
    assert "ACL SETUSER writebehind_flusher" in found.fix
    assert SECRET not in found.fix


def test_nothing_of_the_check_stays_in_the_cache(world: Roles) -> None:
    with redis.Redis.from_url(world.corner.cache_url) as cache:
        before = cache.dbsize()
        errors(world.settings("flusher"))
        assert cache.dbsize() == before


def test_a_topic_that_may_not_be_read_is_told_with_its_command(world: Roles) -> None:
    admin = AdminClient({"bootstrap.servers": world.corner.bootstrap_servers})
    topic = f"{world.corner.topic_prefix}item"
    acl = AclBindingFilter(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:writebehind_flusher",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    for future in admin.delete_acls([acl]).values():
        future.result(30)
    try:
        found = errors(world.settings("flusher"))
        assert [one.server for one in found] == ["kafka"]
        assert f"--topic {topic}" in found[0].fix
        assert "--operation Read" in found[0].fix
    finally:
        world.give("flusher")


@pytest.mark.parametrize(
    ("role", "name", "operation"),
    [
        (Role.FLUSHER, "{}", AclOperation.READ),
        (Role.FLUSHER, "{}-invalidations", AclOperation.READ),
        (Role.AUDITOR, "{}-invalidations", AclOperation.DESCRIBE),
        (Role.AUDITOR, "writebehind-", AclOperation.DESCRIBE),
    ],
)
def test_a_group_that_may_not_be_joined_or_asked_for_is_told_with_its_command(
    world: Roles, role: Role, name: str, operation: AclOperation
) -> None:
    settings = world.settings(str(role))
    group = name.format(settings.flusher.group)
    pattern = ResourcePatternType.PREFIXED if name == "writebehind-" else ResourcePatternType.LITERAL
    who = f"User:writebehind_{role}"
    acl = AclBindingFilter(ResourceType.GROUP, group, pattern, who, "*", operation, AclPermissionType.ALLOW)
    admin = AdminClient({"bootstrap.servers": world.corner.bootstrap_servers})
    assert [len(future.result(30)) for future in admin.delete_acls([acl]).values()] == [1]
    try:
        (found,) = errors(settings, role)
    finally:
        world.give(str(role))
    assert found.server == "kafka"
    assert f"may not {operation.name.title()} the group {group}" in found.what
    assert found.fix.startswith("kafka-acls ")
    assert f"--allow-principal {who} --operation {operation.name.title()} --group {group}" in found.fix
    assert errors(settings, role) == []


@pytest.mark.parametrize(("role", "partition"), [(Role.FLUSHER, 0), (Role.AUDITOR, 1)])
def test_records_that_are_threatened_by_retention_or_gone_are_told_with_their_partition(
    world: Roles, role: Role, partition: int
) -> None:
    settings = world.settings(str(role))
    topic, name = f"{world.corner.topic_prefix}item", f"{world.corner.topic_prefix}item[{partition}]"
    written_ms = int(time.time() * 1000) - settings.kafka.retention_ms * 3 // 4
    producer = Producer({"bootstrap.servers": world.corner.bootstrap_servers})
    producer.produce(topic, b"", partition=partition, timestamp=written_ms)
    assert producer.flush(60) == 0

    def told() -> list[Finding]:
        result = check(settings, REGISTRY, role)
        assert result.unchecked == []
        return [one for one in result.findings if one.what.startswith(f"{name}: ")]

    (late,) = told()
    for _ in range(10):
        if late.severity is not Severity.HINT:  # its oldest record could not be read in time
            break
        (late,) = told()
    assert late.severity is Severity.WARNING
    assert "1 records are not flushed, the oldest is 126.0 h old; they are kept for 168.0 h" in late.what
    assert f"kafka-configs --alter --entity-type topics --entity-name {topic}" in late.fix
    try:
        world.execute(f"INSERT INTO {{}}.progress VALUES ('{topic}', {partition}, 'id', 0, 1, 'nobody', now())")
        admin = AdminClient({"bootstrap.servers": world.corner.bootstrap_servers})
        for removed in admin.delete_records([TopicPartition(topic, partition, 1)]).values():
            removed.result(60)
        (gone,) = told()
    finally:
        world.execute(f"DELETE FROM {{}}.progress WHERE topic = '{topic}'")
    assert gone.severity is Severity.ERROR
    assert "1 records from offset 0 on expired before they were flushed" in gone.what
    assert f"writebehind progress set {topic} {partition} --offset earliest" in gone.fix
    assert told() == []


def test_tables_that_are_not_as_declared_or_slow_or_strict(world: Roles) -> None:
    settings = world.settings("flusher")
    world.execute("CREATE INDEX slow ON items (stock)")
    world.execute("ALTER TABLE items ADD CONSTRAINT strict CHECK (stock >= 0)")
    try:
        result = check(settings, REGISTRY, Role.FLUSHER)
        said = {(str(one.severity), one.what) for one in result.findings if one.what.startswith("item: ")}
        place = f"item: {world.corner.schema}.items"
        assert said == {
            ("hint", f"{place}: the index slow is on a column that flushes change"),
            ("hint", f"{place} has strict, which may refuse a row (CHECK ((stock >= 0)))"),
            ("hint", f"{place} has fillfactor 100"),
        }
    finally:
        world.execute("DROP INDEX IF EXISTS slow; ALTER TABLE items DROP CONSTRAINT IF EXISTS strict")


def test_what_servers_say_of_themselves_and_of_their_settings_is_looked_at(
    world: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("writebehind.flusher.check.finding.SKEW_MAX_S", -1.0)
    monkeypatch.setattr("writebehind.flusher.check.database.OLDEST", 1_000_000)
    monkeypatch.setattr("writebehind.flusher.check.cache.OLDEST", (100, 0))
    result = check(world.settings("flusher"), REGISTRY, Role.FLUSHER)
    for server, what in (
        ("database", "its clock is "),
        ("database", "PostgreSQL "),
        ("cache", "its clock is "),
        ("cache", "Redis "),
        ("cache", "maxmemory is 0"),
        ("cache", "its data does not survive"),
        ("kafka", "1 replicas, of which 1 must have a record"),
    ):
        assert [one.what for one in result.findings if one.server == server and one.what.startswith(what)], what


def test_what_has_not_been_migrated_is_told(world: Roles) -> None:
    world.execute("UPDATE {}.migration SET number = -5 WHERE number = 5")
    try:
        (found,) = errors(world.settings("flusher"))
    finally:
        world.execute("UPDATE {}.migration SET number = 5 WHERE number = -5")
    assert (found.what, found.fix) == ("the bookkeeping lacks 005_settled.sql", "writebehind migrate")


def test_topics_that_are_missing_are_told_once_each(world: Roles) -> None:
    result = check(world.settings("flusher", kafka={"topic_prefix": "nowhere."}), REGISTRY, Role.FLUSHER)
    missing = [one.what for one in result.findings if one.server == "kafka" and one.severity is Severity.ERROR]
    assert "there is no topic nowhere.item" in missing
    assert len(missing) == len(set(missing))
    assert (result.unchecked, result.exit_code) == ([], 1)


@pytest.mark.parametrize(
    ("server", "variable"),
    [
        ("database", "WRITEBEHIND_DATABASE__URL"),
        ("cache", "WRITEBEHIND_CACHE__URL"),
        ("kafka", "WRITEBEHIND_KAFKA__OPTIONS"),
    ],
)
def test_a_server_that_another_authority_vouches_for_is_not_spoken_to(
    world: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, variable: str
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    env = world.env("flusher")
    env[variable] = env[variable].replace(world.servers.authority, str(other))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    result = check(load_settings(), REGISTRY, Role.FLUSHER)
    assert [name for name, _ in result.unchecked] == [server]
    assert result.exit_code == 2


def test_a_role_does_not_get_into_the_database_without_tls_or_with_another_password(world: Roles) -> None:
    url = world.env("flusher")["WRITEBEHIND_DATABASE__URL"]
    execute(url, "SELECT 1")
    for other in (url.replace("verify-full", "disable"), url.replace(SECRET, "guessed")):
        with pytest.raises(psycopg.OperationalError):
            execute(other, "SELECT 1")


def test_what_cannot_be_asked_is_told_beside_what_can(world: Roles, capsys: pytest.CaptureFixture[str]) -> None:
    from writebehind.flusher.check.command import show

    settings = world.settings("flusher", cache={"url": f"rediss://u:{SECRET}@127.0.0.1:1/0"})
    result = check(settings, REGISTRY, Role.FLUSHER)
    assert [server for server, _ in result.unchecked] == ["cache"]
    assert result.exit_code == 2
    show(result, as_json=True)
    out = capsys.readouterr().out
    told: dict[str, Any] = json.loads(out)
    assert {one["server"] for one in told["findings"]} >= {"database", "kafka"}
    assert all(one["why"] and one["fix"] for one in told["findings"])
    assert SECRET not in out
    show(result, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["database", "kafka", "not checked"]
    assert "tls TLSv1." in lines[0]
    assert "tls yes" in lines[1]
