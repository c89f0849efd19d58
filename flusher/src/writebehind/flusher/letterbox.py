"""Writing dead letters: every one acknowledged by the broker before the transaction that skips its record."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from writebehind.shared import letter, naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.letter import Cause
from writebehind.shared.settings import Settings, kafka_client_config
from writebehind.shared.statement import ROW_MISSING

from .topics import LETTER_EXTRA_BYTES
from .who import process

POST_TIMEOUT_S = 10.0  # longest wait for the broker


class NotPosted(ConnectionError):
    """The broker did not acknowledge every letter; nothing may be skipped."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that is to be skipped, and why. `version` is None when it could not be read."""

    message: Message
    version: int | None
    cause: Cause

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return int(self.message.partition() or 0), int(self.message.offset() or 0)


def refused(error: BaseException, *, attempts: int, first_failed_at: str) -> Cause:
    """The cause of a letter for a record that the database, or the encoding for it, refused.

    The server's own message is left out: it quotes values ('invalid input syntax for type integer: "…"').
    """
    diag = error.diag if isinstance(error, psycopg.Error) else None
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    name = f"{type(error).__module__}.{type(error).__name__}"
    said = f"the database refuses the record: SQLSTATE {state}" if state else "the record has a value without encoding"
    if state == ROW_MISSING:
        said = "there is no row of this key, and on_missing='dead_letter' makes none"
    places = {
        "constraint": diag.constraint_name if diag else None,
        "table": diag.table_name if diag else None,
        "column": diag.column_name if diag else None,
    }
    message = ", ".join([said, *(f"{what} {where}" for what, where in places.items() if where)])
    return Cause(
        letter.REFUSED, name, message, state, places["constraint"], places["column"], attempts, first_failed_at, now()
    )


def unreadable(reason: str) -> Cause:
    """The cause of a letter for a record that cannot be read."""
    at = now()
    return Cause(letter.UNREADABLE, "writebehind.shared.record.BadRecord", reason, None, None, None, 1, at, at)


def now() -> str:
    return dt.datetime.now(dt.UTC).isoformat()


class Letterbox:
    """Posts letters. One per process, shared by the lanes; its producer is made when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._group = settings.flusher.group
        self._member = process()
        self._config = {
            **kafka_client_config(settings),
            "client.id": "writebehind-letters",
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "delivery.timeout.ms": int(POST_TIMEOUT_S * 1000),
            "message.max.bytes": settings.kafka.max_message_bytes + LETTER_EXTRA_BYTES,
            "partitioner": "murmur2_random",
        }
        self._lock = threading.Lock()
        self._producer: Producer | None = None

    def post(
        self,
        declaration: Declaration,
        topic: str,
        topic_id: str,
        drafts: Sequence[Draft],
        stopping: threading.Event,
        timeout_s: float,
    ) -> None:
        """Write letters and wait until the broker has all of them. Raises NotPosted; write all of them again then."""
        with self._lock:
            self._producer = self._producer or Producer(self._config)
            try:
                self._post(self._producer, declaration, topic, topic_id, drafts, stopping, timeout_s)
            except (NotPosted, KafkaException) as error:
                # After a fatal error a producer is of no use any more. What it still holds need not be sent.
                self._producer.purge()
                self._producer = None
                raise NotPosted(str(error) if isinstance(error, NotPosted) else error.args[0].name()) from error

    def _post(
        self,
        producer: Producer,
        declaration: Declaration,
        topic: str,
        topic_id: str,
        drafts: Sequence[Draft],
        stopping: threading.Event,
        timeout_s: float,
    ) -> None:
        answers: list[KafkaError | None] = []
        deadline = time.monotonic() + timeout_s
        for draft in drafts:
            headers = self._headers(declaration, topic, topic_id, draft)
            while True:
                try:
                    producer.produce(
                        naming.dead_letter_topic(topic),
                        key=draft.message.key(),
                        value=draft.message.value(),
                        headers=headers,
                        on_delivery=lambda error, _message: answers.append(error),
                    )
                    break
                except BufferError:
                    _wait(producer, deadline, stopping)
        while len(answers) < len(drafts):
            _wait(producer, deadline, stopping)
        if failures := [error for error in answers if error is not None]:
            raise NotPosted(failures[0].name())

    def _headers(
        self, declaration: Declaration, topic: str, topic_id: str, draft: Draft
    ) -> list[tuple[str, str | bytes | None]]:
        own = draft.message.headers() or []
        return letter.headers(
            own.items() if isinstance(own, dict) else own,
            letter.Origin(topic, topic_id, *draft.place),
            entity=declaration.name,
            table=declaration.table,
            version=draft.version,
            cause=draft.cause,
            connector=self._group,
            task=self._member,
        )


def _wait(producer: Producer, deadline: float, stopping: threading.Event) -> None:
    if stopping.is_set():
        raise NotPosted("stopping")
    if time.monotonic() > deadline:
        raise NotPosted("no answer")
    producer.poll(0.05)
