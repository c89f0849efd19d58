"""Letters out to a file and back into their topic, for those that outlive the topic's retention.

An import restores; it never makes a letter. Refused are lines that were changed, letters whose place has no row in the
database (nothing was skipped there), and letters that differ from the one the topic still holds. What the topic has
already is left alone, so that an import can be run again.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as KafkaMessage

from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import Settings

from .. import servers
from ..topics import LETTER_EXTRA_BYTES
from . import ndjson
from .item import Item, Message
from .scan import Meter, Scan

LETTERS_MAX = 200  # produced before their acknowledgements are awaited
DELIVERY_S = 30.0  # how long a letter is tried


class Imported(enum.StrEnum):
    """What an import did with a line."""

    RESTORED = "restored"
    PRESENT = "present"
    REFUSED = "refused"


Tell = Callable[[str, Imported, str | None], None]  # where the line is, what became of it, and why


def export_letters(items: Iterable[Item], out: BinaryIO) -> tuple[int, int]:
    """Write letters as lines. Gives how many, and how many have no message any more."""
    written = lost = 0
    for item in items:
        if item.message is None:
            lost += 1
            continue
        out.write(ndjson.encode(item, item.message))
        written += 1
    out.flush()
    return written, lost


class Importer:
    """Puts letters back into their topics, each acknowledged by the broker before it counts as restored."""

    def __init__(self, settings: Settings, scan: Scan, tell: Tell) -> None:
        self.counts: Counter[Imported] = Counter()
        self._scan, self._tell = scan, tell
        self._broker = servers.Broker(settings)
        self._failed: KafkaError | None = None
        with self._broker.told():
            self._producer = Producer(
                {
                    **self._broker.client_config(),
                    "acks": "all",
                    "enable.idempotence": True,
                    "message.timeout.ms": int(DELIVERY_S * 1000),
                    "message.max.bytes": settings.kafka.max_message_bytes + 2 * LETTER_EXTRA_BYTES,
                }
            )

    def run(self, file: BinaryIO, name: str, meter: Meter) -> None:
        """Import a file. Raises ConfigurationError when a server does not do its part: run it again."""
        lines = ndjson.read(file, name)
        while part := list(islice(lines, LETTERS_MAX)):
            self._import([line for _, line in part])
            meter.advance(sum(size for size, _ in part))

    def _import(self, lines: list[Message | ndjson.BadLine]) -> None:
        messages = [line for line in lines if isinstance(line, Message)]
        rows = self._scan.rows.find([message.letter.origin for message in messages])
        restored: list[Message] = []
        for line in lines:
            if isinstance(line, ndjson.BadLine):
                self._conclude("", Imported.REFUSED, str(line))
                continue
            origin = line.letter.origin
            row = rows.get(origin)
            known = self._scan.known.digest(origin)
            if row is None:
                self._conclude(line.source, Imported.REFUSED, "no record was skipped at this letter's place")
            elif row.entity != line.letter.entity:
                self._conclude(line.source, Imported.REFUSED, "its entity is not the one of its row in the database")
            elif known is not None and known != line.digest:
                self._conclude(line.source, Imported.REFUSED, "it differs from the letter in the topic")
            elif known is not None:
                self._conclude(line.source, Imported.PRESENT, None)
            elif not self._scan.source.exists(origin.topic):
                name = naming.dead_letter_topic(origin.topic)
                self._conclude(line.source, Imported.REFUSED, f"there is no topic {name}: run `writebehind migrate`")
            else:
                self._scan.known.note(origin, line.digest)
                restored.append(line)
        self._produce(restored)

    def _produce(self, messages: list[Message]) -> None:
        for message in messages:
            headers: Any = list(message.headers)
            topic = naming.dead_letter_topic(message.letter.origin.topic)
            with self._broker.told(f"{topic} cannot be written", self._producer.poll):
                self._producer.produce(
                    topic, message.value, message.key, headers=headers, on_delivery=self._on_delivery
                )
        left = self._producer.flush(DELIVERY_S + 5)
        if left or self._failed is not None:
            said = "no answer" if self._failed is None else self._failed.name()
            raise ConfigurationError(f"letters could not be written ({said}); those restored stay: run it again")
        for message in messages:
            self._conclude(message.source, Imported.RESTORED, None)

    def _on_delivery(self, error: KafkaError | None, _message: KafkaMessage) -> None:
        self._failed = self._failed or error

    def _conclude(self, source: str, imported: Imported, reason: str | None) -> None:
        self.counts[imported] += 1
        self._tell(source, imported, reason)


def from_file(scan: Scan, file: BinaryIO, name: str, meter: Meter, bad: Callable[[str], None]) -> Iterator[Item]:
    """The letters of a file as a scan gives those of the topics; `bad` is told of lines that hold none."""
    lines = ndjson.read(file, name)
    while part := list(islice(lines, LETTERS_MAX)):
        messages: list[Message] = []
        for _, line in part:
            if isinstance(line, ndjson.BadLine):
                bad(str(line))
            else:
                scan.known.note(line.letter.origin, line.digest)
                messages.append(line)
        yield from scan.join(messages)
        meter.advance(sum(size for size, _ in part))
