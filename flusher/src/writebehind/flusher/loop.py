"""The life of a batch, on one page.

    consume → drop repeated offsets → decode → collect per lane → fold → (lane: one transaction) → settle → tell Kafka

This is the only thread that touches the consumer. It never waits for the database: a lane that can take nothing more
has
its partitions paused while the others go on, and the consumer is polled all the same, so that membership survives.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from writebehind.shared.declaration import Declaration
from writebehind.shared.record import BadRecord, Codec, Row, version_of

from .batch import Span
from .claims import Place
from .doubts import newest
from .lane import Lane, Outcome
from .letterbox import Draft, unreadable
from .membership import Membership, Owned
from .triage import Verdict

log = logging.getLogger("writebehind.flusher")

POLL_S = 0.05  # longest wait in consume: bounds how late a finished batch or a stop is noticed
PAUSE_AFTER_S = 1.0  # a lane that is merely slow is waited for; pausing would throw away what was fetched ahead


@dataclass(frozen=True, slots=True)
class Route:
    """Where the records of a topic go: its declaration, codec, and a lane for every `partition % len(lanes)`."""

    declaration: Declaration
    codec: Codec
    lanes: Sequence[Lane]

    def lane(self, partition: int) -> Lane:
        return self.lanes[partition % len(self.lanes)]


class Loop:
    """Feeds the lanes. `step` is called until the process is told to stop; it raises what must end the process."""

    def __init__(self, routes: Mapping[str, Route], membership: Membership, *, fetch_max: int) -> None:
        self._routes = routes
        self._lanes = [lane for route in routes.values() for lane in route.lanes]
        self._membership = membership
        self._fetch_max = fetch_max
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._blocked_since: dict[Lane, float] = {}

    def step(self) -> None:
        now = time.monotonic()
        self._collect_outcomes(timeout_s=0)
        self._membership.maintain(now)
        wait_s = self._dispatch(now)
        if self._held_up(now):
            self._collect_outcomes(timeout_s=POLL_S)
            return
        messages = self._membership.consume(self._fetch_max, min(wait_s, POLL_S))
        if messages:
            self._distribute(messages, time.monotonic())

    def _distribute(self, messages: Sequence[Message], now: float) -> None:
        """Sort messages into the lanes' buffers. Runs of one partition, so that the work is done per run."""
        if any(map(Message.error, messages)):
            messages = self._membership.without_errors(messages)
        by_topic = (
            groupby(messages, key=Message.topic)
            if len(self._routes) > 1
            else [(messages[0].topic(), messages)]
            if messages
            else []
        )
        for topic, of_topic in by_topic:
            route = self._routes[str(topic)]
            for number, run in groupby(of_topic, key=Message.partition):
                self._collect(route, str(topic), int(number or 0), list(run), now)

    def _collect(self, route: Route, topic: str, number: int, run: list[Message], now: float) -> None:
        partition = self._membership.owned.get((topic, number))
        if partition is None:
            return  # fetched before it was taken from us, or stopped
        offsets: list[int] = list(map(Message.offset, run))  # type: ignore[arg-type]  # consumed messages have offsets
        first = partition.position
        if offsets != list(range(first, first + len(run))):
            # librdkafka has delivered an offset twice after an assignment (PostHog PR#95009): a delta must
            # not count twice.
            by_offset = {offset: message for offset, message in zip(offsets, run, strict=True) if offset >= first}
            offsets, run = sorted(by_offset), [by_offset[offset] for offset in sorted(by_offset)]
            if not run:
                return
            if offsets != list(range(first, first + len(run))):
                self._membership.stop_at_gap((topic, number), first, offsets)
                return
        if first < partition.flushed:
            run = self._doubt(route, number, partition, run)
            first = partition.position
            if not run:
                return
        oldest, values = run[0], list(map(Message.value, run))
        rows, letters = self._decode(route, (topic, number), run, values)
        if letters or len(rows) < len(run):
            unreadable = {draft.place[1] for draft in letters}
            run = [message for message in run[: len(rows) + len(letters)] if message.offset() not in unreadable]
        if rows or letters:
            partition.position = first + len(rows) + len(letters)
            span = Span(number, partition.epoch, first, partition.position, _written_at(oldest))
            route.lane(number).buffer.add(span, rows, run, sum(map(len, filter(None, values))), now, letters)

    def _doubt(self, route: Route, number: int, partition: Owned, run: list[Message]) -> list[Message]:
        """Note the records that are in the database already, and that the cache may not know. Returns the rest."""
        first = partition.position
        again, rest = run[: partition.flushed - first], run[partition.flushed - first :]
        partition.position = first + len(again)
        records = [(key.decode(errors="replace"), m.value()) for m in again if (key := m.key()) is not None]
        doubtful = newest((key, version_of(value)) for key, value in records)
        route.lane(number).doubt(Span(number, partition.epoch, first, partition.position), doubtful)
        return rest

    def _decode(
        self, route: Route, place: Place, run: Sequence[Message], values: Sequence[bytes | None]
    ) -> tuple[list[Row], list[Draft]]:
        """The rows of a run, and letters for the records that cannot be read.

        A record of another declaration is not at fault: it stops the partition, and what came before it is taken.
        """
        try:
            return route.codec.decode(values), []
        except BadRecord:
            pass  # found again below, one by one
        rows: list[Row] = []
        letters: list[Draft] = []
        for message, value in zip(run, values, strict=True):
            try:
                rows += route.codec.decode([value])
            except BadRecord as bad:
                if bad.fingerprint is not None:
                    self._membership.stop(place, f"{place[0]}[{place[1]}]: {bad.reason}", drop=False)
                    break
                letters.append(Draft(message, None, unreadable(bad.reason)))
        return rows, letters

    def _dispatch(self, now: float) -> float:
        """Send every due batch whose lane has room. Returns the seconds until the next one is due."""
        wait_s = POLL_S
        for lane in self._lanes:
            due_s = lane.buffer.due_in(now)
            if due_s is None or not lane.has_room:
                continue
            if due_s > 0:
                wait_s = min(wait_s, due_s)
                continue
            batch = lane.buffer.take()
            batch.topic_id, batch.same_topic = self._membership.same_topic(lane.topic, batch.spans.values())
            lane.prepare(batch)
            lane.submit(batch)
        return wait_s

    def _held_up(self, now: float) -> bool:
        """Whether to wait for a lane before consuming more. A lane that stays blocked is paused instead."""
        waiting = False
        for lane in self._lanes:
            if not lane.blocked:
                self._blocked_since.pop(lane, None)
                if lane.paused:
                    lane.paused = False
                    self._membership.resume(self._places(lane))
            elif not lane.paused:
                since = self._blocked_since.setdefault(lane, now)
                if lane.backing_off or now - since > PAUSE_AFTER_S:
                    lane.paused = True
                    self._membership.pause(self._places(lane))
                else:
                    waiting = True
        return waiting

    def _places(self, lane: Lane) -> list[Place]:
        route = self._routes[lane.topic]
        return [place for place in self._membership.owned if place[0] == lane.topic and route.lane(place[1]) is lane]

    def step_outcomes(self) -> None:
        """Take note of what finished, without consuming anything more."""
        self._collect_outcomes(timeout_s=0)

    def _collect_outcomes(self, timeout_s: float) -> None:
        try:
            outcome = self.outcomes.get(timeout=timeout_s) if timeout_s else self.outcomes.get_nowait()
            while True:
                self._conclude(outcome)
                outcome = self.outcomes.get_nowait()
        except queue.Empty:
            return

    def _conclude(self, outcome: Outcome) -> None:
        spans = outcome.batch.spans.values()
        topic = outcome.batch.topic
        match outcome.verdict:
            case None:
                self._membership.flushed(topic, spans)
            case Verdict.FENCED:
                self._membership.fenced(topic, spans)
            case _:
                raise RuntimeError(f"{topic}: a batch failed in a way that is not understood") from outcome.error


def _written_at(message: Message) -> float:
    """When the broker took a record, in seconds since 1970; 0 when it does not say."""
    kind, at_ms = message.timestamp()
    return at_ms / 1000 if kind != TIMESTAMP_NOT_AVAILABLE else 0.0
