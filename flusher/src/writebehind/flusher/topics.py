"""The topics of entities, dead letters and invalidations: missing ones are created, the others are only compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._metadata import ClusterMetadata
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import KafkaSettings, Settings

from .report import Report
from .servers import Broker

LETTER_EXTRA_BYTES = 65_536  # a letter is its record plus headers
ANSWER_S = 10.0  # longest answer of the broker
CREATE_S = 30.0  # longest creation of all topics

Configs = Mapping[str, Mapping[str, str]]


def migrate_topics(settings: Settings, registry: Registry, report: Report) -> None:
    """Create what is missing, report what differs. Raises ConfigurationError when the cluster cannot do it."""
    broker, kafka = Broker(settings), settings.kafka
    with broker.told():
        admin = AdminClient(broker.client_config())
    with broker.told(poll=admin.poll):
        cluster = admin.list_topics(timeout=ANSWER_S)
    if kafka.replication_factor > len(cluster.brokers):
        raise ConfigurationError(
            f"kafka.replication_factor is {kafka.replication_factor}, the cluster has {len(cluster.brokers)} brokers; "
            f"kafka.min_insync_replicas ({kafka.min_insync_replicas}) could not be met either"
        )
    wanted = find(kafka, registry)
    present = {name: config for name, config in wanted.items() if name in cluster.topics}
    report.problems += compare(broker, admin, kafka, cluster, present)
    missing = {name: config for name, config in wanted.items() if name not in present}
    _create(broker, admin, kafka, missing, report)


def compare(
    broker: Broker, admin: AdminClient, kafka: KafkaSettings, cluster: ClusterMetadata, wanted: Configs
) -> list[tuple[str, str]]:
    """How topics that exist differ from what is wanted. Raises ConfigurationError when we may not see it."""
    found: list[tuple[str, str]] = []
    for name, config in configs(broker, admin, list(wanted)).items():
        replicas = [len(partition.replicas) for partition in cluster.topics[name].partitions.values()]
        found += differences(kafka, name, replicas, wanted[name], config)
    return found


def differences(
    kafka: KafkaSettings,
    name: str,
    replicas_of_partitions: Sequence[int],
    wanted: Mapping[str, str],
    actual: Mapping[str, str | None],
) -> list[tuple[str, str]]:
    """How a topic differs from the settings, each with the command that mends it. Pure."""
    partitions, replicas = len(replicas_of_partitions), min(replicas_of_partitions, default=0)
    found: list[tuple[str, str]] = []
    if replicas < kafka.replication_factor:
        fix = f"kafka-reassign-partitions, with {kafka.replication_factor} replicas for each partition of {name}"
        found.append((f"topic {name} has {replicas} replicas, the settings say {kafka.replication_factor}", fix))
    if partitions < kafka.partitions:
        # Later records of a key may go to another partition: both must not be in flight at once.
        command = f"kafka-topics --alter --topic {name} --partitions {kafka.partitions}"
        fix = f"stop the producers, wait until `writebehind status` shows no lag, then {command}"
        found.append((f"topic {name} has {partitions} partitions, the settings say {kafka.partitions}", fix))
    for key, value in wanted.items():
        there = actual.get(key)
        alter = f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config {key}="
        if key == "min.insync.replicas" and int(there or 1) > replicas:
            message = f"topic {name}: {key} is {there} and there are {replicas} replicas: no write is acknowledged"
            found.append((message, f"{alter}{replicas}, or more replicas"))
        elif there != value:
            # Raised beyond the replicas there are, min.insync.replicas would stop every write.
            after = (
                "after there are enough replicas: " if key == "min.insync.replicas" and int(value) > replicas else ""
            )
            found.append((f"topic {name}: {key} is {there}, the settings say {value}", f"{after}{alter}{value}"))
    return found


def find(kafka: KafkaSettings, registry: Registry) -> dict[str, dict[str, str]]:
    """The topics of a deployment, and how each is to be configured."""
    wanted: dict[str, dict[str, str]] = {}
    for declaration in registry.write_behind:
        name = naming.topic(kafka.topic_prefix, declaration.name)
        wanted[name] = _config(kafka, kafka.max_message_bytes)
        wanted[naming.dead_letter_topic(name)] = _config(kafka, kafka.max_message_bytes + LETTER_EXTRA_BYTES)
    if registry.direct:
        wanted[naming.invalidations_topic(kafka.topic_prefix)] = _config(kafka, kafka.max_message_bytes)
    return wanted


def _config(kafka: KafkaSettings, max_message_bytes: int) -> dict[str, str]:
    return {
        "cleanup.policy": "delete",  # a compacted topic would drop patches and deltas
        "min.insync.replicas": str(kafka.min_insync_replicas),
        "retention.ms": str(kafka.retention_ms),
        "max.message.bytes": str(max_message_bytes),
    }


def configs(broker: Broker, admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """How topics are configured. Raises ConfigurationError when we may not see it."""
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str | None]] = {}
    for resource, future in admin.describe_configs(resources).items() if resources else ():
        with broker.told(f"topic {resource.name} could not be described"):
            found[resource.name] = {key: entry.value for key, entry in future.result(CREATE_S).items()}
    return found


def _create(broker: Broker, admin: AdminClient, kafka: KafkaSettings, topics: Configs, report: Report) -> None:
    new = [
        NewTopic(name, kafka.partitions, kafka.replication_factor, config=dict(config))
        for name, config in topics.items()
    ]
    for name, future in admin.create_topics(new, operation_timeout=CREATE_S).items() if new else ():
        with broker.told(f"topic {name} could not be created"):
            try:
                future.result(2 * CREATE_S)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue  # by a migration that runs at the same time
                raise
            report.done.append(f"created topic {name}")
