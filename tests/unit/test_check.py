"""`check`: what is wrong by what the servers say of themselves, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import pytest
from confluent_kafka.admin._acl import AclOperation

from writebehind.flusher.check import cache, database
from writebehind.flusher.check.command import told as lines
from writebehind.flusher.check.finding import Finding, Severity, skewed
from writebehind.flusher.check.kafka import absent, durability, refused
from writebehind.flusher.check.lag import threatened
from writebehind.flusher.grants.kafka import Acl
from writebehind.flusher.grants.roles import Role
from writebehind.flusher.status import PartitionStatus
from writebehind.shared.cluster import is_cluster
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, Last, WriteBehind
from writebehind.shared.settings import KafkaSettings

HOUR_MS = 3_600_000
CACHE = {
    "cluster": False,
    "redis_version": "7.2.4",
    "maxmemory_policy": "volatile-lru",
    "maxmemory": 1_000_000,
    "aof_enabled": 1,
    "role": "master",
}
DATABASE = {"version": "15.0", "number": 150_000, "replica": False}


class Page(Entity, table="pages", strategy=WriteBehind()):
    id: Annotated[int, Key]
    title: Annotated[str, Last] = ""
    body: Annotated[str, Last] = ""


def told(found: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(str(one.severity), one.what, one.fix) for one in found]


def test_what_servers_say_of_themselves_is_a_line_for_each() -> None:
    facts: list[tuple[str, str, Any]] = [
        ("database", "version", "17.2"),
        ("database", "tls", "TLSv1.3"),
        ("database", "replica", False),
    ]
    facts += [("kafka", "tls", True), ("kafka", "brokers", 1), ("cache", "valkey_version", None)]
    assert lines(facts) == [
        "database: version 17.2, tls TLSv1.3, replica no",
        "kafka: tls yes, brokers 1",
        "cache: valkey_version none",
    ]


@pytest.mark.parametrize("skew_s", [0.0, 1.0, -1.0])
def test_a_clock_that_is_near_enough_is_not_told(skew_s: float) -> None:
    assert skewed("cache", skew_s) == []


@pytest.mark.parametrize(("skew_s", "what"), [(1.1, "1.1 s ahead of"), (-90.0, "90.0 s behind")])
def test_a_clock_that_is_off_is_a_warning_that_says_which_way(skew_s: float, what: str) -> None:
    (found,) = skewed("cache", skew_s)
    assert (found.severity, found.server) == (Severity.WARNING, "cache")
    assert found.what == f"its clock is {what} this machine's"


@pytest.mark.parametrize("facts", [{}, {"redis_version": "6.2.0"}, {"redis_version": "10.0.1"}])
def test_a_cache_as_it_should_be_has_no_findings(facts: dict[str, Any]) -> None:
    assert told(cache.of_server(CACHE | facts)) == []


@pytest.mark.parametrize(
    ("facts", "severity", "what", "fix"),
    [
        ({"redis_version": "6.0.16"}, "error", "Redis 6.0.16", "Redis 6.2"),
        ({"redis_version": "5.9.9"}, "error", "Redis 5.9.9", "Redis 6.2"),
        ({"maxmemory_policy": "allkeys-lru"}, "error", "maxmemory-policy allkeys-lru may evict", "volatile-lru"),
        ({"maxmemory": 0}, "warning", "maxmemory is 0", "CONFIG SET maxmemory "),
        ({"maxmemory": 0, "maxmemory_policy": "noeviction"}, "warning", "maxmemory is 0", "CONFIG SET maxmemory "),
        ({"maxmemory_policy": "noeviction"}, "hint", "maxmemory-policy is noeviction", "volatile-lru"),
        ({"aof_enabled": 0}, "hint", "does not survive a restart", "CONFIG SET appendonly yes"),
        ({"role": "slave"}, "error", "it is a replica", "primary's address"),
        ({"cluster": True}, "error", "Redis or Valkey Cluster", "one primary"),
        (dict.fromkeys(CACHE, None), "hint", "INFO is not allowed", "+info"),
    ],
)
def test_a_cache_that_is_not_as_it_should_be(facts: dict[str, Any], severity: str, what: str, fix: str) -> None:
    (found,) = told(cache.of_server(CACHE | facts))
    assert found[0] == severity
    assert what in found[1]
    assert fix in found[2]


def test_a_cluster_is_told_also_where_info_is_not_allowed() -> None:
    found = told(cache.of_server(dict.fromkeys(CACHE, None) | {"cluster": True}))
    assert [severity for severity, _, _ in found] == ["error", "hint"]


@pytest.mark.parametrize(
    ("hello", "cluster"),
    [
        ({b"server": b"valkey", b"mode": b"cluster"}, True),
        ({b"server": b"valkey", b"mode": b"standalone"}, False),
        ({b"server": b"cluster"}, False),
        ([b"server", b"redis", b"proto", 2, b"mode", b"cluster", b"modules", []], True),
        ([b"server", b"redis", b"proto", 2, b"mode", b"standalone", b"modules", []], False),
        ([b"mode"], False),
    ],
)
def test_a_node_of_a_cluster_says_so_in_its_hello(hello: Any, cluster: bool) -> None:
    assert is_cluster(hello) is cluster


def test_a_database_as_it_should_be_has_no_findings() -> None:
    assert told(database.of_server(DATABASE)) == []


@pytest.mark.parametrize(
    ("facts", "what", "fix"),
    [
        ({"version": "14.9", "number": 140_009}, "PostgreSQL 14.9", "PostgreSQL 15 or newer"),
        ({"replica": True}, "it is a replica", "WRITEBEHIND_DATABASE__URL"),
    ],
)
def test_a_database_that_cannot_do_it_is_an_error(facts: dict[str, Any], what: str, fix: str) -> None:
    (found,) = told(database.of_server(DATABASE | facts))
    assert found[:2] == ("error", what)
    assert fix in found[2]


@pytest.mark.parametrize(
    ("files", "slots", "what"),
    [
        ([], ["title", "body", "gone"], []),
        (["005_settled.sql", "006_x.sql"], ["title", "body"], ["the bookkeeping lacks 005_settled.sql, 006_x.sql"]),
        ([], ["title"], ["page: fields without a slot for their version: body"]),
        (
            ["006_x.sql"],
            [],
            ["the bookkeeping lacks 006_x.sql", "page: fields without a slot for their version: title, body"],
        ),
    ],
)
def test_what_has_not_been_migrated_is_an_error(files: list[str], slots: list[str], what: list[str]) -> None:
    found = told(database.out_of_date(files, [(declaration_of(Page), slots)]))
    assert found == [("error", one, "writebehind migrate") for one in what]


def kafka(**settings: int) -> KafkaSettings:
    safe = {"replication_factor": 3, "min_insync_replicas": 2, "retention_ms": 24 * HOUR_MS}
    return KafkaSettings.model_validate({"bootstrap_servers": "b:9092", **safe, **settings})


def test_settings_that_keep_records_safe_have_no_findings() -> None:
    assert told(durability(kafka())) == []


@pytest.mark.parametrize(
    ("settings", "what", "fix"),
    [
        ({"replication_factor": 2}, "2 replicas, of which 2 must have a record", "REPLICATION_FACTOR=3"),
        ({"min_insync_replicas": 1}, "3 replicas, of which 1 must have a record", "MIN_INSYNC_REPLICAS=2"),
        ({"retention_ms": 24 * HOUR_MS - 1}, "records are kept for 24.0 h", "RETENTION_MS=604800000"),
    ],
)
def test_settings_that_keep_records_less_safe_are_a_warning(settings: dict[str, int], what: str, fix: str) -> None:
    (found,) = told(durability(kafka(**settings)))
    assert found[:2] == ("warning", what)
    assert fix in found[2]


def test_a_topic_that_is_missing_comes_with_what_makes_it_and_what_shows_it() -> None:
    (found,) = told(absent(kafka(), "me", [Acl("topic", "shop.item", ("Read",))]))
    assert found[:2] == ("error", "there is no topic shop.item")
    assert found[2].startswith("writebehind migrate, or kafka-acls --bootstrap-server b:9092")
    assert found[2].endswith("--allow-principal User:me --operation Read --topic shop.item")


@pytest.mark.parametrize(
    ("acl", "held", "what"),
    [
        (
            Acl("topic", "t", ("Read", "DescribeConfigs")),
            {"READ", "DESCRIBE"},
            "me may not DescribeConfigs the topic t",
        ),
        (Acl("topic", "t", ("Read", "DescribeConfigs")), set[str](), "me may not Read, DescribeConfigs the topic t"),
        (Acl("group", "g", ("Read",)), {"DESCRIBE"}, "me may not Read the group g"),
        (Acl("group", "g-", ("Describe",), prefixed=True), set[str](), "me may not Describe the group g-*"),
        (Acl("group", "g", ("Read",)), {"READ", "DESCRIBE"}, None),
    ],
)
def test_what_is_not_allowed_comes_with_the_command_that_allows_it(acl: Acl, held: set[str], what: str | None) -> None:
    found = told(refused(kafka(), Role.FLUSHER, "me", {acl: [AclOperation[name] for name in held]}))
    assert found == ([] if what is None else [("error", what, acl.command("me", "b:9092"))])


def partition(flushed: int | None, lag_s: float | None, *, start: int = 0, end: int = 10) -> PartitionStatus:
    lag = end - (start if flushed is None else flushed)
    return PartitionStatus("t", 3, start, end, flushed, lag, lag_s, None, None, None, None, None, None)


@pytest.mark.parametrize(
    ("flushed", "lag_s", "retention_ms"),
    [
        (10, None, HOUR_MS),
        (4, 1800.0, HOUR_MS),
        (None, 1800.0, HOUR_MS),
        (4, 1e9, -1),
    ],
)
def test_a_partition_that_is_flushed_soon_enough_is_not_told(
    flushed: int | None, lag_s: float | None, retention_ms: int
) -> None:
    assert threatened(partition(flushed, lag_s), retention_ms) is None


def test_a_record_whose_age_is_not_known_is_not_told_to_be_young() -> None:
    found = threatened(partition(4, None), HOUR_MS)
    assert found is not None
    assert (found.severity, found.fix) == (Severity.HINT, "run the check again")


@pytest.mark.parametrize("flushed", [4, None])
def test_a_record_that_is_older_than_half_of_its_time_is_a_warning(flushed: int | None) -> None:
    found = threatened(partition(flushed, 1801.0), HOUR_MS)
    assert found is not None
    assert found.severity is Severity.WARNING
    records = 10 if flushed is None else 6
    assert found.what == f"t[3]: {records} records are not flushed, the oldest is 1801 s old; they are kept for 1.0 h"
    assert found.fix.endswith("--entity-name t --add-config retention.ms=14400000")


@pytest.mark.parametrize(
    ("flushed", "start", "reason", "offset"),
    [(4, 5, "1 records from offset 4 on expired", "earliest"), (12, 0, "the log ends at 10, 2 records", "latest")],
)
def test_records_that_are_gone_are_an_error_however_young_the_others_are(
    flushed: int, start: int, reason: str, offset: str
) -> None:
    found = threatened(partition(flushed, 1.0, start=start), HOUR_MS)
    assert found is not None
    assert found.severity is Severity.ERROR
    assert reason in found.what
    assert found.fix.endswith(f"writebehind progress set t 3 --offset {offset}")


def test_where_nobody_has_flushed_yet_nothing_is_gone() -> None:
    assert threatened(partition(None, 1.0, start=5), HOUR_MS) is None
