"""What `writebehind grants` prints: per role, statements that can be run as they are, and again after a change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from writebehind.shared.declaration import Declaration
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from . import cache, database, kafka
from .roles import Role, default_name

_WHEN = {
    Role.MIGRATOR: "before `writebehind migrate`, as a superuser or the database's owner",
    Role.PRODUCER: "after `writebehind migrate`, as the owner of the tables",
    Role.FLUSHER: "after `writebehind migrate`, as the owner of the tables",
    Role.AUDITOR: "after `writebehind migrate`, as the owner of the tables",
}


def grants(
    settings: Settings,
    registry: Registry,
    roles: Sequence[Role],
    names: Mapping[Role, str],
    *,
    tables_in: str,
    repairs: bool,
) -> list[dict[str, Any]]:
    """Per role its statements: `sql`, `cache`, `kafka`. `tables_in`: the schema of entities that name none."""

    def schema_of(declaration: Declaration) -> str:
        return declaration.schema or tables_in

    found: list[dict[str, Any]] = []
    for role in roles:
        name, schema = names.get(role, default_name(role)), settings.database.schema_
        rights = database.rights(role, registry, bookkeeping=schema, schema_of=schema_of)
        words = cache.arguments(role, name, prefix=settings.cache.prefix, repairs=repairs)
        acls = kafka.acls(role, registry, settings)
        found.append(
            {
                "role": str(role),
                "name": name,
                "run": _WHEN[role],
                "sql": [*database.prepare(role, name, bookkeeping=schema), *(right.grant(name) for right in rights)],
                "cache": [cache.statement(words)] if words else [],
                "kafka": [acl.command(name, settings.kafka.bootstrap_servers) for acl in acls],
            }
        )
    return found


def show(found: Sequence[Mapping[str, Any]], *, only: str | None, as_json: bool) -> None:
    """Print them. `only`: the statements of one server and nothing else, to be piped into its tool."""
    if as_json:
        print(json.dumps({"roles": list(found)}))
        return
    if only is not None:
        print("\n".join(line for one in found for line in one[only]))
        return
    for one in found:
        print(f"-- {one['role']}: {one['name']}; {one['run']}")
        print("\n".join(one["sql"]))
        if one["cache"]:
            print(
                f"\n# {one['role']}, in redis-cli or valkey-cli; then ACL SETUSER {one['name']} '>PASSWORD'; ACL SAVE"
            )
            print("\n".join(one["cache"]))
        print(f"\n# {one['role']}, in a shell with Kafka's tools")
        print("\n".join(one["kafka"]), end="\n\n")
