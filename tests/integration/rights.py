"""What `writebehind grants` prints is done: each role has these rights and no others, and its password."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import psycopg
import redis
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from tests.integration.flusher_process import run_command, wait_until
from tests.integration.logins import SECRET
from writebehind.embedded import Isolation
from writebehind.embedded.isolation import ExistingServers

OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
_TIMEOUT_S: Final = 90.0  # a broker that stood still answers when its controller has taken it back


def printed(env: Mapping[str, str], schema: str, roles: Sequence[str]) -> list[dict[str, Any]]:
    """What `writebehind grants --json` prints for these roles. `env`: who asks for them."""
    named = [part for role in roles for part in ("--role", role)]
    told = run_command(env, "grants", "--json", "--tables-in", schema, *named)
    found: list[dict[str, Any]] = json.loads(told)["roles"]
    return found


def give(servers: ExistingServers, found: Sequence[Mapping[str, Any]], keys: Iterable[Mapping[str, str]] = ()) -> None:
    """Run what `writebehind grants` prints, and give each role its password. All servers know it when this returns.

    keys: patterns of keys, by user, that are allowed beside those.
    """
    with psycopg.connect(servers.database_url, autocommit=True) as database:
        for one in found:
            for statement in one["sql"]:
                database.execute(statement)
            database.execute(f"ALTER ROLE {one['name']} PASSWORD '{SECRET}'".encode())
    with redis.Redis.from_url(servers.cache_url) as cache:
        for one in found:
            more = [pattern for others in keys if (pattern := others.get(one["name"]))]
            if words := _words(one):
                cache.execute_command(*words, f">{SECRET}", *more)
        if cache.config_get("aclfile")["aclfile"]:
            cache.acl_save()
    bindings = [binding for one in found for line in one["kafka"] for binding in _bindings(line, one["name"])]
    _give_acls(servers.bootstrap_servers, bindings)


def take_acls(corner: Isolation) -> None:
    """Take back what anybody is allowed of the corner's topics and groups."""
    admin = _admin(corner.bootstrap_servers)

    def left() -> set[str]:
        return {acl.name for acl in _acls(admin) if acl.name.startswith((corner.topic_prefix, corner.group))}

    if names := left():
        for taken in admin.delete_acls([_filter(name) for name in names]).values():
            taken.result(_TIMEOUT_S)
        wait_until(lambda: not left(), "the broker to learn that they are gone")


def keys_of(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The pattern of the keys that each user may touch."""
    return {one["name"]: word for one in found for word in _words(one) if "~" in word}


def _words(one: Mapping[str, Any]) -> list[str]:
    """Of a role's only statement for the cache, if it has one."""
    return [word for statement in one["cache"] for word in shlex.split(statement)]


def _give_acls(bootstrap_servers: str, bindings: Sequence[AclBinding]) -> None:
    admin = _admin(bootstrap_servers)
    for made in admin.create_acls(list(bindings)).values():
        made.result(_TIMEOUT_S)
    # The controller has them. The broker, which decides, learns of them a moment later, and tells what it knows.
    wait_until(lambda: set(bindings) <= set(_acls(admin)), "the broker to learn of the rights")


def _acls(admin: AdminClient) -> list[AclBinding]:
    found: list[AclBinding] = admin.describe_acls(_filter(None)).result(_TIMEOUT_S)
    return found


def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 3})  # it tells of its own end, at 6


def _filter(name: str | None) -> AclBindingFilter:
    nobody = cast("str", None)  # None is for any, which the types do not know
    return AclBindingFilter(
        ResourceType.ANY,
        cast("str", name),
        ResourcePatternType.ANY,
        nobody,
        nobody,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _bindings(command: str, name: str) -> list[AclBinding]:
    """What a `kafka-acls` command would do."""
    words = shlex.split(command)
    assert words[words.index("--allow-principal") + 1] == f"User:{name}"
    kind = "--topic" if "--topic" in words else "--group"
    pattern = ResourcePatternType.PREFIXED if "prefixed" in words else ResourcePatternType.LITERAL
    operations = [words[at + 1] for at, word in enumerate(words) if word == "--operation"]
    return [
        AclBinding(
            ResourceType.TOPIC if kind == "--topic" else ResourceType.GROUP,
            words[words.index(kind) + 1],
            pattern,
            f"User:{name}",
            "*",
            OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for operation in operations
    ]
