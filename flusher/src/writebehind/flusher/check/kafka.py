"""Checks of Kafka: the topics, their settings, and what we may do with each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation

from writebehind.shared.registry import Registry
from writebehind.shared.settings import KafkaSettings, Settings

from ..grants.kafka import Acl, acls
from ..grants.roles import Role
from ..servers import Broker
from ..topics import ANSWER_S, compare, find
from .finding import Finding, error, warning

SERVER = "kafka"
DAY_MS = 86_400_000
_ENOUGH: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


def look(settings: Settings, registry: Registry, role: Role, user: str) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and what the cluster says of itself. Raises ConfigurationError when it cannot be asked."""
    broker = Broker(settings)
    with broker.told():
        admin = AdminClient(broker.client_config())
    with broker.told(poll=admin.poll):
        cluster = admin.list_topics(timeout=ANSWER_S)
    needed = [acl for acl in acls(role, registry, settings) if acl.kind == "topic"]
    found = list(_durability(settings.kafka))
    if role is not Role.MIGRATOR:
        wanted = find(settings.kafka, registry)
        present = [acl for acl in needed if acl.name in cluster.topics]
        for acl in needed:
            if acl.name not in cluster.topics:
                why = "nothing can be written to it; or we may not see it"
                fix = f"writebehind migrate, or {acl.command(user, settings.kafka.bootstrap_servers)}"
                found.append(error(SERVER, f"there is no topic {acl.name}", why, fix))
        allowed = _allowed(admin, broker, present)
        found += _refused(settings, role, user, present, allowed)
        seen = {a.name: wanted[a.name] for a in present if AclOperation.DESCRIBE_CONFIGS in allowed[a.name]}
        for what, fix in compare(broker, admin, settings.kafka, cluster, seen):
            why = "writes wait or fail, records go before they are flushed, or less is kept safe than the settings say"
            found.append(error(SERVER, what, why, fix))
    return found, {"brokers": len(cluster.brokers), "cluster_id": cluster.cluster_id}


def _durability(kafka: KafkaSettings) -> Iterator[Finding]:
    if kafka.replication_factor < 3 or kafka.min_insync_replicas < 2:
        what = f"{kafka.replication_factor} replicas, of which {kafka.min_insync_replicas} must have a record"
        why = "an acknowledged write is lost with the disk of one broker"
        fix = "WRITEBEHIND_KAFKA__REPLICATION_FACTOR=3 and WRITEBEHIND_KAFKA__MIN_INSYNC_REPLICAS=2, with three brokers"
        yield warning(SERVER, what, why, fix)
    if kafka.retention_ms < DAY_MS:
        what = f"records are kept for {kafka.retention_ms / 3_600_000:.1f} h"
        why = "a database or flusher that is down for longer loses acknowledged writes"
        yield warning(SERVER, what, why, f"WRITEBEHIND_KAFKA__RETENTION_MS={7 * DAY_MS}, and the topics likewise")


def _allowed(admin: AdminClient, broker: Broker, needed: list[Acl]) -> dict[str, set[AclOperation]]:
    """What we may do with each topic."""
    names = [acl.name for acl in needed]
    asked = (
        admin.describe_topics(TopicCollection(names), include_authorized_operations=True, request_timeout=ANSWER_S)
        if names
        else {}
    )
    found: dict[str, set[AclOperation]] = {}
    for name, future in asked.items():
        with broker.told(f"topic {name} could not be described"):
            try:
                found[name] = set(future.result(2 * ANSWER_S).authorized_operations or ())
            except KafkaException as problem:
                if problem.args[0].code() > 0 and "AUTHORIZATION" in problem.args[0].name():
                    found[name] = set()
                else:
                    raise
    return found


def _refused(
    settings: Settings, role: Role, user: str, needed: list[Acl], allowed: dict[str, set[AclOperation]]
) -> Iterator[Finding]:
    for acl in needed:
        if lacking := [operation for operation in acl.operations if _ENOUGH[operation] not in allowed[acl.name]]:
            what = f"{user} may not {', '.join(lacking)} the topic {acl.name}"
            yield error(SERVER, what, f"the {role} needs it", acl.command(user, settings.kafka.bootstrap_servers))
