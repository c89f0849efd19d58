"""What each role has to be allowed in Kafka.

READ and WRITE imply DESCRIBE; an idempotent producer needs no more than WRITE.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from writebehind.shared import naming
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from .roles import Role

Kind = Literal["topic", "group"]
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]


@dataclass(frozen=True, slots=True)
class Acl:
    """Operations on one topic or group, or on all whose names begin so."""

    kind: Kind
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False

    def command(self, principal: str, bootstrap_servers: str) -> str:
        """The command of Kafka's own tool that gives it. `--command-config` names who may give rights."""
        parts = ["kafka-acls", "--bootstrap-server", bootstrap_servers, "--command-config", "admin.properties", "--add"]
        parts += ["--allow-principal", f"User:{principal}"]
        for operation in self.operations:
            parts += ["--operation", operation]
        parts += [f"--{self.kind}", self.name]
        return shlex.join(parts + (["--resource-pattern-type", "prefixed"] if self.prefixed else []))


def acls(role: Role, registry: Registry, settings: Settings) -> list[Acl]:
    """What a role needs."""
    prefix, group = settings.kafka.topic_prefix, settings.flusher.group
    topics = [naming.topic(prefix, d.name) for d in registry.write_behind]
    invalidations = [naming.invalidations_topic(prefix)] if registry.direct else []
    letters = [naming.dead_letter_topic(topic) for topic in topics]
    match role:
        case Role.MIGRATOR:
            return _each("topic", (*topics, *letters, *invalidations), "Create", "Describe", "DescribeConfigs")
        case Role.PRODUCER:
            # The configuration shows a min.insync.replicas that no write could meet.
            written = _each("topic", (*topics, *invalidations), "Write", "DescribeConfigs")
            # After an outage of the cache it asks how far flushers have come.
            asked = [naming.invalidations_group(group)] * bool(invalidations)
            return [*written, *_each("group", asked, "Describe")]
        case Role.FLUSHER:
            groups = [group] * bool(topics) + [naming.invalidations_group(group)] * bool(invalidations)
            # The configurations are for `writebehind check`.
            read = _each("topic", (*topics, *invalidations), "Read", "DescribeConfigs")
            return [*read, *_each("group", groups, "Read"), *_each("topic", letters, "Write", "DescribeConfigs")]
        case Role.AUDITOR:
            # Its consumers join no group, but ask where theirs would be.
            asks = [Acl("group", "writebehind-", ("Describe",), prefixed=True)]
            asks += _each("group", [naming.invalidations_group(group)] * bool(invalidations), "Describe")
            # `whereis` tells which invalidations of a key wait.
            return [*_each("topic", (*topics, *letters, *invalidations), "Read"), *asks]


def _each(kind: Kind, names: Iterable[str], *operations: Operation) -> list[Acl]:
    return [Acl(kind, name, operations) for name in names]
