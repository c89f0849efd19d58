"""Wiring: a flusher process put together from its parts, started, and stopped within its bound in every state."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import AdminClient

from writebehind.shared import naming, telemetry
from writebehind.shared.record import Codec
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, kafka_client_config

from .batch import Limits
from .claims import Claims, Place
from .database import Writer
from .health import Health
from .health_server import serving
from .invalidations import Invalidations
from .lag import Lag
from .lane import Backoff, Lane, Outcome
from .letterbox import Letterbox
from .loop import Loop, Route
from .measures import Measures
from .membership import Membership, group_config
from .preflight import Prepared, preflight_when_reachable
from .settle import Settler
from .telemetry import Telemetry
from .who import process

log = logging.getLogger("writebehind.flusher")

DRAIN_S = 5.0  # how long a revoked partition waits for its batch; the session time-out must be longer
FETCH_MAX = 5_000  # records per consume call
IDLE_S = 0.2  # between two looks at whether to stop, when there is nothing to flush


class App:
    """One flusher process: a consumer and its lanes, and beside them the invalidations of direct entities."""

    def __init__(
        self,
        settings: Settings,
        prepared: dict[str, Prepared],
        measures: Measures | None = None,
        *,
        invalidates: bool = False,
    ) -> None:
        self._settings = settings
        self._measures = measures or Measures()
        self._letterbox = Letterbox(settings)
        routes = {naming.topic(settings.kafka.topic_prefix, name): self._route(one) for name, one in prepared.items()}
        self._routes = routes
        admin = AdminClient(kafka_client_config(settings))
        claims = Claims(
            settings.database.url.get_secret_value(),
            settings.database.schema_,
            admin,
            process(),
            stall_timeout_s=settings.database.stall_timeout_s,
        )
        self._membership = Membership(
            Consumer(consumer_config(settings), logger=log), claims, list(routes), self._on_gone, self._measures
        )
        self._loop = Loop(routes, self._membership, fetch_max=FETCH_MAX)
        self._lanes = [lane for route in routes.values() for lane in route.lanes]
        self._invalidations = Invalidations(settings) if invalidates else None
        self.health = Health(self._membership, self._lanes, liveness_timeout_s=settings.flusher.liveness_timeout_s)
        self._measures.watch(telemetry.STOPPED, self.health.stopped)
        self._lag = Lag(self._membership, self._lanes, admin, self._measures) if self._measures.on else None

    def run(self, stopping: threading.Event) -> None:
        """Flush until told to stop. Raises what must end the process."""
        parent = multiprocessing.parent_process()
        for lane in self._lanes:
            lane.start()
        if self._routes:
            self._membership.join()
        if self._invalidations is not None:
            self._invalidations.start()
        log.info("flushing %s", ", ".join(sorted(self._routes)) or "nothing; only invalidations are carried out")
        try:
            while not stopping.is_set() and (parent is None or parent.is_alive()):
                if self._routes:
                    self._loop.step()
                else:
                    stopping.wait(IDLE_S)
                if self._invalidations is not None and self._invalidations.failure is not None:
                    raise self._invalidations.failure
                if self._lag is not None:
                    self._lag.maintain(time.monotonic())
                self.health.beat()
        finally:
            self._stop()

    def _stop(self) -> None:
        # A batch that is in the database is finished, one that waits is abandoned; the next owner reads it again.
        deadline = time.monotonic() + self._settings.flusher.shutdown_timeout_s / 2
        log.info("stopping")
        self.health.stopping = True
        finished = [lane.stop(max(0.1, deadline - time.monotonic())) for lane in self._lanes]
        self._loop.step_outcomes()
        if self._invalidations is not None:
            self._invalidations.stop(max(0.1, deadline - time.monotonic()))
        log.info("leaving the group")
        self._membership.leave()
        log.info("stopped%s", "" if all(finished) else "; a batch was abandoned and will be read again")

    def _route(self, prepared: Prepared) -> Route:
        settings, declaration = self._settings, prepared.declaration
        topic = naming.topic(settings.kafka.topic_prefix, declaration.name)
        statements = prepared.statements(settings.database.schema_)
        limits = Limits(
            settings.flusher.batch_rows_max,
            settings.flusher.batch_records_max,
            settings.flusher.batch_bytes_max,
            declaration.write_behind.flush_delay_s,
        ).of_each(settings.flusher.connections)
        backoff = Backoff(settings.flusher.retry_delay_min_s, settings.flusher.retry_delay_max_s)

        def lane() -> Lane:
            writer = Writer(
                declaration,
                statements,
                settings.database.url.get_secret_value(),
                bookkeeping=settings.database.schema_,
                statement_timeout_s=settings.database.statement_timeout_s,
                lock_timeout_s=settings.database.lock_timeout_s,
                stall_timeout_s=settings.database.stall_timeout_s,
                key_indexes=prepared.table.indexes_on_key(declaration),
            )
            owned = partial(writer.owned, topic)
            settler = Settler(declaration, settings.cache, writer.find, owned, prepared.slots, self._measures)
            return Lane(
                topic, writer, settler, self._letterbox, limits, backoff, self._measures, on_outcome=self._on_outcome
            )

        return Route(declaration, Codec(declaration), [lane() for _ in range(settings.flusher.connections)])

    def _on_outcome(self, outcome: Outcome) -> None:
        self._loop.outcomes.put(outcome)

    def _on_gone(self, places: set[Place], drain: bool) -> None:
        """Partitions are not ours any more: forget what is buffered, and give a batch in the database and its
        settlement a moment to finish.
        """
        lanes: dict[Lane, set[int]] = {}
        for topic, partition in places:
            if topic in self._routes:
                lanes.setdefault(self._routes[topic].lane(partition), set()).add(partition)
        for lane, partitions in lanes.items():
            lane.buffer.drop(partitions)
            lane.draining = drain
        deadline = time.monotonic() + DRAIN_S
        while drain and time.monotonic() < deadline and not all(lane.at_rest or lane.backing_off for lane in lanes):
            time.sleep(0.005)
        for lane in lanes:
            lane.draining = False


def consumer_config(settings: Settings) -> dict[str, str | int | float | bool | object]:
    """librdkafka's settings for the flusher; what the protocol depends on cannot be overridden."""
    instance_id = settings.flusher.instance_id
    # A static member does not leave the group when it closes: its partitions wait for its return.
    static = {} if instance_id is None else {"group.instance.id": instance_id}
    return {
        # Per partition. With 100,000 of four partitions, what is fetched ahead falls out of the processor's caches: a
        # fifth fewer hot messages a second, and 25 MiB more.
        "queued.min.messages": 25_000,
        "queued.max.messages.kbytes": 32 * 1024,  # per partition and process: bounds memory
        "fetch.queue.backoff.ms": 10,  # the default of 1,000 leaves gaps of a second when the queue was full
        **group_config(settings, settings.flusher.group),  # commits nothing by itself: progress is in Postgres
        "client.id": "writebehind-flusher",
        **static,
        "auto.offset.reset": "error",  # a lost offset is a loss to be told, not a place to go on from
        "partition.assignment.strategy": "cooperative-sticky",
        "check.crcs": True,
        "error_cb": _log_kafka_error,
    }


def _log_kafka_error(error: KafkaError) -> None:
    log.warning("kafka: %s", error.name())


def run(settings: Settings, registry: Registry) -> int:
    """Run the flusher until SIGTERM or SIGINT. Returns the exit code: 0 stopped, 1 ended by an unexpected error."""
    if settings.flusher.workers > 1:
        from .workers import supervise

        return supervise(settings)
    stopping = threading.Event()
    with _signals(stopping, settings.flusher.shutdown_timeout_s):
        prepared = preflight_when_reachable(settings, registry, stopping)
        return 0 if prepared is None else _flush(settings, registry, prepared, stopping)


def _flush(settings: Settings, registry: Registry, prepared: dict[str, Prepared], stopping: threading.Event) -> int:
    _tune_interpreter()
    address = settings.flusher.health_address
    with Telemetry.open(os.environ, prometheus=address != "off") as told:
        app = App(
            settings,
            prepared,
            Measures(told.meter, told.tracer, group=settings.flusher.group),
            invalidates=bool(registry.direct),
        )
        with serving(address, app.health, told.prometheus_text):
            try:
                app.run(stopping)
            except Exception:
                log.exception("ended by an unexpected error; nothing was skipped")
                return 1
    return 0


def _tune_interpreter() -> None:
    # Records are tuples of plain values and never part of a cycle: the collector's passes over them were a third
    # of our time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
    # A lane that waits for the interpreter while the loop decodes leaves Postgres idle; 5 ms, the default, is a
    # tenth of a batch.
    sys.setswitchinterval(0.001)


@contextmanager
def _signals(stopping: threading.Event, timeout_s: float) -> Iterator[None]:
    """The first SIGTERM or SIGINT stops within the bound, whatever hangs; the second stops at once.

    A thread acts on them: Python runs handlers in the main thread between two of its instructions, and a call into
    librdkafka can last for ever when the broker is unreachable (closing a consumer: confluent-kafka-python#1667).
    Leaving at once is safe at any point: what is not committed in Postgres will be read again.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def watch() -> None:
        if receiver.recv(1):
            stopping.set()
            receiver.settimeout(timeout_s)
            with suppress(TimeoutError):
                if not receiver.recv(1):
                    return
            os._exit(0)

    with receiver, sender:
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        wakeup_before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        watcher = threading.Thread(target=watch, name="signals", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            sender.shutdown(socket.SHUT_WR)
            watcher.join()
