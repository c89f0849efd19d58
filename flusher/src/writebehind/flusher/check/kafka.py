"""Checks of Kafka: the topics, their settings, and what we may do with each and with the groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import tenacity
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclOperation

from writebehind.shared.registry import Registry
from writebehind.shared.settings import KafkaSettings, Settings
from writebehind.shared.transport import kafka_is_encrypted

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
# The first group of all makes the broker create its topic of groups, and one that has moved is loaded.
_NOT_YET: Final = frozenset(
    {KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR}
)

Allowed = Mapping[Acl, Collection[AclOperation]]


def look(settings: Settings, registry: Registry, role: Role, user: str) -> tuple[list[Finding], dict[str, Any]]:
    """Findings, and what the cluster says of itself. Raises ConfigurationError when it cannot be asked."""
    broker = Broker(settings)
    with broker.told():
        admin = AdminClient(broker.client_config())
    with broker.told(poll=admin.poll):
        cluster = admin.list_topics(timeout=ANSWER_S)
    found = list(durability(settings.kafka))
    if role is not Role.MIGRATOR:
        needed = acls(role, registry, settings)
        topics = [acl for acl in needed if acl.kind == "topic"]
        present = [acl for acl in topics if acl.name in cluster.topics]
        groups = [acl for acl in needed if acl.kind == "group"]
        found += absent(settings.kafka, user, [acl for acl in topics if acl not in present])
        allowed = {**_topics(admin, broker, present), **_groups(admin, broker, groups)}
        found += refused(settings.kafka, role, user, allowed)
        wanted = find(settings.kafka, registry)
        seen = {a.name: wanted[a.name] for a in present if AclOperation.DESCRIBE_CONFIGS in allowed[a]}
        for what, fix in compare(broker, admin, settings.kafka, cluster, seen):
            why = "writes wait or fail, records go before they are flushed, or less is kept safe than the settings say"
            found.append(error(SERVER, what, why, fix))
    options = {name: value.get_secret_value() for name, value in settings.kafka.options.items()}
    tls = kafka_is_encrypted(options)
    return found, {"tls": tls, "brokers": len(cluster.brokers), "cluster_id": cluster.cluster_id}


def durability(kafka: KafkaSettings) -> Iterator[Finding]:
    """What the settings say of how safe a record is. Pure."""
    if kafka.replication_factor < 3 or kafka.min_insync_replicas < 2:
        what = f"{kafka.replication_factor} replicas, of which {kafka.min_insync_replicas} must have a record"
        why = "an acknowledged write is lost with the disk of one broker"
        fix = "WRITEBEHIND_KAFKA__REPLICATION_FACTOR=3 and WRITEBEHIND_KAFKA__MIN_INSYNC_REPLICAS=2, with three brokers"
        yield warning(SERVER, what, why, fix)
    if kafka.retention_ms < DAY_MS:
        what = f"records are kept for {kafka.retention_ms / 3_600_000:.1f} h"
        why = "a database or flusher that is down for longer loses acknowledged writes"
        yield warning(SERVER, what, why, f"WRITEBEHIND_KAFKA__RETENTION_MS={7 * DAY_MS}, and the topics likewise")


def absent(kafka: KafkaSettings, user: str, topics: Iterable[Acl]) -> Iterator[Finding]:
    """Topics that are needed and not there. Pure."""
    for acl in topics:
        why = "nothing can be written to it; or we may not see it"
        fix = f"writebehind migrate, or {acl.command(user, kafka.bootstrap_servers)}"
        yield error(SERVER, f"there is no topic {acl.name}", why, fix)


def refused(kafka: KafkaSettings, role: Role, user: str, allowed: Allowed) -> Iterator[Finding]:
    """What is needed and not allowed, of topics and groups. Pure."""
    for acl, held in allowed.items():
        if lacking := [operation for operation in acl.operations if _ENOUGH[operation] not in held]:
            name = f"{acl.name}*" if acl.prefixed else acl.name
            what = f"{user} may not {', '.join(lacking)} the {acl.kind} {name}"
            yield error(SERVER, what, f"the {role} needs it", acl.command(user, kafka.bootstrap_servers))


def _topics(admin: AdminClient, broker: Broker, needed: Sequence[Acl]) -> dict[Acl, set[AclOperation]]:
    """What we may do with each topic."""
    names = TopicCollection([acl.name for acl in needed])
    options: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": ANSWER_S}
    asked = admin.describe_topics(names, **options) if needed else {}
    return {acl: _operations(broker, acl, asked[acl.name].result) for acl in needed}


def _groups(admin: AdminClient, broker: Broker, needed: Sequence[Acl]) -> dict[Acl, set[AclOperation]]:
    """What we may do with each group, also with one that nobody has joined yet."""

    @tenacity.retry(
        retry=tenacity.retry_if_exception(_not_yet),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
        stop=tenacity.stop_after_delay(ANSWER_S),
        reraise=True,
    )
    def answer(name: str, timeout_s: float) -> Any:
        asked = admin.describe_consumer_groups([name], include_authorized_operations=True, request_timeout=ANSWER_S)
        return asked[name].result(timeout_s)

    found: dict[Acl, set[AclOperation]] = {}
    for acl in needed:
        name = f"{acl.name}check" if acl.prefixed else acl.name  # one of those that begin so
        found[acl] = _operations(broker, acl, partial(answer, name))
    return found


def _operations(broker: Broker, acl: Acl, answer: Callable[[float], Any]) -> set[AclOperation]:
    with broker.told(f"{acl.kind} {acl.name} could not be described"):
        try:
            return set(answer(2 * ANSWER_S).authorized_operations or ())
        except KafkaException as problem:
            if problem.args[0].code() > 0 and "AUTHORIZATION" in problem.args[0].name():
                return set()
            raise


def _not_yet(problem: BaseException) -> bool:
    return isinstance(problem, KafkaException) and problem.args[0].code() in _NOT_YET
