"""Checks of what is not flushed yet: how soon it would go with the broker's retention, and whether some is gone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from confluent_kafka.admin import AdminClient

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..gap import Log, Progress, gap
from ..grants.roles import Role
from ..servers import Broker
from ..status import GROUP, PartitionStatus, Sampler
from ..topics import ANSWER_S, configs
from .finding import Finding, error, hint, warning
from .kafka import SERVER

READERS = (Role.FLUSHER, Role.AUDITOR)  # who may read records and progress


def look(settings: Settings, registry: Registry, role: Role) -> list[Finding]:
    """Findings for each partition. Raises ConfigurationError when broker or database cannot be asked."""
    group = settings.flusher.group if role is Role.FLUSHER else GROUP
    with closing(Sampler(settings, registry, group=group, oldest_s=ANSWER_S)) as sampler:
        partitions = sampler.sample().partitions
    kept = _retentions(settings, sorted({one.topic for one in partitions}))
    found = [threatened(one, kept.get(one.topic, settings.kafka.retention_ms)) for one in partitions]
    return [one for one in found if one is not None]


def threatened(partition: PartitionStatus, retention_ms: int) -> Finding | None:
    """What the broker has lost of a partition, or is about to: its retention is half over. Negative: none. Pure."""
    place, flushed = (partition.topic, partition.partition), partition.flushed
    name = f"{partition.topic}[{partition.partition}]"
    if flushed is not None:
        # Of the same topic: one that was created again the flusher tells, which knows its id.
        lost = gap(place, Progress("", flushed, 0, ""), Log("", partition.start, partition.end))
        if lost is not None:
            why = "its partition stops, and flushes nothing more, until somebody has seen it"
            return error(SERVER, f"{name}: {lost.reason}", why, f"to go on without them: {lost.command}")
    if retention_ms < 0 or max(flushed or 0, partition.start) >= partition.end:
        return None
    if partition.lag_s is None:
        what = f"{name}: {partition.lag_records} records are not flushed, and the oldest could not be read in time"
        return hint(SERVER, what, "whether they go before they are flushed is not known", "run the check again")
    if partition.lag_s * 1000 <= retention_ms / 2:
        return None
    age, kept = _told(partition.lag_s), _told(retention_ms / 1000)
    what = f"{name}: {partition.lag_records} records are not flushed, the oldest is {age} old; they are kept for {kept}"
    fix = (
        "let a flusher run that nothing holds up (its /readyz names what does); until then keep them longer: "
        f"kafka-configs --alter --entity-type topics --entity-name {partition.topic} "
        f"--add-config retention.ms={4 * retention_ms}"
    )
    return warning(SERVER, what, "what is older than retention.ms is deleted, flushed or not", fix)


def _retentions(settings: Settings, topics: Sequence[str]) -> dict[str, int]:
    """`retention.ms` by topic; nothing for topics whose configuration we may not see."""
    broker = Broker(settings)
    with broker.told():
        admin = AdminClient(broker.client_config())
    try:
        found = configs(broker, admin, topics)
    except ConfigurationError:
        return {}
    return {topic: int(config.get("retention.ms") or settings.kafka.retention_ms) for topic, config in found.items()}


def _told(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
