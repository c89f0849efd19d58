"""Our place in the consumer group: which partitions are ours, from which offset, and which had to be stopped.

Correctness does not depend on any callback being called (librdkafka#5604 lost `on_lost`): whatever is flushed must
find its
epoch in Postgres. Callbacks never raise (confluent-kafka-python#729): an error is kept and raised by `maintain`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from writebehind.shared.settings import Settings, kafka_client_config

from .batch import Span
from .changes import Changes
from .claims import Claim, ClaimFailed, Claims, Place
from .gap import Progress, resolution
from .measures import Measures

log = logging.getLogger("writebehind.flusher")

RETRY_CLAIM_S = 1.0  # also gives a zombie the time to hear from its group before it claims anything back
COMMIT_EVERY_S = 1.0


@dataclass(slots=True)
class Owned:
    """A partition that is ours: its epoch, and the offset of the next record we expect from the broker.

    What it expects below `flushed` is in the database, and only the cache may not know it.
    """

    epoch: int
    position: int
    topic_id: str
    flushed: int  # the offset up to which the database has it


def group_config(settings: Settings, group: str) -> dict[str, str | int | float | bool]:
    """librdkafka's settings for a member of a group: how soon its partitions move when it dies."""
    session_ms = int(settings.flusher.session_timeout_s * 1000)
    return {
        "session.timeout.ms": session_ms,
        # How long a rebalance may wait for a member that does not come: the default of 300 s once stopped everything
        # for as long, after a broker had been killed. The loops poll all the time.
        "max.poll.interval.ms": max(60_000, session_ms),
        **kafka_client_config(settings),
        "group.id": group,
        "enable.auto.commit": False,
        "allow.auto.create.topics": False,
    }


class Membership:
    """Wraps the consumer. Used by the loop's thread only.

    `on_gone` is told which partitions are not ours any more, so that nothing of them stays buffered; with `drain`
    True it
    may wait a moment for a batch in the database, so that the next owner starts after it.
    """

    def __init__(
        self,
        consumer: Consumer,
        claims: Claims,
        topics: Sequence[str],
        on_gone: Callable[[set[Place], bool], None],
        measures: Measures,
    ) -> None:
        self._consumer = consumer
        self._claims = claims
        self._topics = list(topics)
        self._on_gone = on_gone
        self._measures = measures
        self.owned: dict[Place, Owned] = {}
        self.stopped: dict[Place, str] = {}
        self._unclaimed: dict[Place, float] = {}  # assigned but not claimed yet, with the time of the next attempt
        self._flushed: dict[Place, int] = {}
        self._commit_at = 0.0
        self._changes = Changes(claims, topics)
        self._stopped_epochs: dict[Place, int] = {}  # of the progress rows of what is stopped
        self._failure: BaseException | None = None
        self._now = 0.0
        self.is_member = False  # read by other threads
        self.has_joined = False

    def join(self) -> None:
        """Subscribe; partitions arrive while the consumer is polled."""
        self._consumer.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def leave(self) -> None:
        """Leave the group. The group's offsets are told a last time, for the lag tools."""
        self._commit(asynchronous=False)
        self._consumer.close()
        self._claims.close()

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        messages = self._consumer.consume(count, timeout_s)
        self._raise_failure()
        return messages

    def maintain(self, now: float) -> None:
        """Retry claims, tell Kafka how far we are, look whether a topic was recreated or progress moved."""
        self._now = now
        self._raise_failure()
        due = [place for place, at in self._unclaimed.items() if at <= now]
        if due:
            self._claim(due, assign=False)
        if self._flushed and now >= self._commit_at:
            self._commit_at = now + COMMIT_EVERY_S
            self._commit(asynchronous=True)
        for topic in self._changes.recreated(now):
            self._claim_again([place for place in self.owned if place[0] == topic])
        self._claim_moved(self._changes.progress(now, [*self.owned, *self.stopped]))

    def without_errors(self, messages: Sequence[Message]) -> list[Message]:
        """The messages that are records.

        A partition with an error is claimed again, which finds out what is wrong with it.
        """
        good: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append(message)
                continue
            # A fenced static member hears _FATAL, on which librdkafka does not set the flag; it would idle for ever.
            if error.fatal() or error.code() == KafkaError._FATAL:
                raise KafkaException(error)
            log.warning("%s[%s]: %s", message.topic(), message.partition(), error.name())
            topic, partition = message.topic(), message.partition()
            if topic is not None and partition is not None and partition >= 0:
                self._claim_again([(topic, partition)])
        return good

    def flushed(self, topic: str, spans: Iterable[Span]) -> None:
        for span in spans:
            self._flushed[topic, span.partition] = span.next
            if self._is_current(topic, span):
                self.owned[topic, span.partition].flushed = span.next

    def fenced(self, topic: str, spans: Iterable[Span]) -> None:
        """A batch was refused because another flusher claimed one of its partitions.

        The rest of them are read again.
        """
        self._measures.fenced(topic)
        ours = [(topic, span.partition) for span in spans if self._is_current(topic, span)]
        if ours:
            log.warning(
                "%s: fenced; partitions %s are claimed again if they are still ours",
                topic,
                [number for _, number in ours],
            )
            self._claim_again(ours)

    def same_topic(self, topic: str, spans: Iterable[Span]) -> tuple[str, Callable[[], bool]]:
        """The claimed topic's id, and whether consumed records are of that topic; the answer is waited for when called.

        A topic that was recreated keeps its name, and the consumer goes on in the new one at the old one's offset.
        """
        ids = {self.owned[topic, span.partition].topic_id for span in spans if self._is_current(topic, span)}
        if len(ids) != 1:
            return "", lambda: False
        topic_id = ids.pop()
        return topic_id, self._claims.still(topic, topic_id)

    def stop(self, place: Place, reason: str, *, drop: bool = True) -> None:
        """Stop a partition, loudly, without moving its offset. `drop`: also forget what of it waits for a batch."""
        self._tell_stop(place, reason)
        owned = self.owned.pop(place, None)
        self.stopped[place] = reason
        self._stopped_epochs[place] = owned.epoch if owned is not None else 0
        if drop:
            self._on_gone({place}, False)
        self.pause([place])

    def _tell_stop(self, place: Place, reason: str) -> None:
        log.error("%s. The partition is stopped; nothing was skipped", reason)
        self._measures.stop(place[0], "partition")

    def stop_at_gap(self, place: Place, expected: int, offsets: Sequence[int]) -> None:
        """The broker left out records: nobody produces here with transactions, so they are lost."""
        found = next(offset for at, offset in enumerate(offsets, expected) if offset != at)
        self.stop(
            place,
            f"{place[0]}[{place[1]}]: the broker skips records before offset {found} (offset {expected} was next); "
            f"to go on without them: `{resolution(place, found)}`",
            drop=False,
        )

    def pause(self, places: Sequence[Place]) -> None:
        self._consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Sequence[Place]) -> None:
        self._consumer.resume([TopicPartition(*place) for place in places if place in self.owned])

    def _is_current(self, topic: str, span: Span) -> bool:
        owned = self.owned.get((topic, span.partition))
        return owned is not None and owned.epoch == span.epoch

    def _claim_again(self, places: Sequence[Place]) -> None:
        for place in places:
            if self.owned.pop(place, None) is not None or place in self._unclaimed:
                self._unclaimed[place] = self._now + RETRY_CLAIM_S
        self._on_gone(set(places), False)
        self.pause(places)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(tp.topic, tp.partition) for tp in partitions]
        log.info("assigned %s", places)
        self.is_member = self.has_joined = True
        try:
            self._claim(places, assign=True)
        except BaseException as error:  # noqa: BLE001  # raised by `maintain`; an error out of a callback surfaces anywhere
            self._failure = error

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = {(tp.topic, tp.partition) for tp in partitions}
        log.info("revoked %s", sorted(places))
        try:
            self._on_gone(places, True)
            self._commit(asynchronous=True)
            for place in places:
                for known in (self.owned, self._unclaimed, self.stopped, self._stopped_epochs, self._flushed):
                    known.pop(place, None)
        except BaseException as error:  # noqa: BLE001  # raised by `maintain`; an error out of a callback surfaces anywhere
            self._failure = error

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.is_member = False
        self._on_revoke(consumer, partitions)

    def _claim(self, places: Sequence[Place], *, assign: bool) -> None:
        """Claim partitions and start fetching them. What cannot be claimed now stays paused and is tried again."""
        claims: list[Claim] = []
        waiting = dict.fromkeys(places)
        try:
            for answer in self._claims.claim(self._consumer, places):
                place = (answer.topic, answer.partition)
                del waiting[place]
                self._unclaimed.pop(place, None)
                if isinstance(answer, Claim):
                    claims.append(answer)
                else:
                    self.stopped[place], self._stopped_epochs[place] = answer.reason, answer.epoch
                    self._tell_stop(place, answer.reason)
        except ClaimFailed as error:
            log.warning("cannot claim partitions: %s; trying again", error)
        self._unclaimed.update(dict.fromkeys(waiting, self._now + RETRY_CLAIM_S))
        starts = {(claim.topic, claim.partition): claim.settled_offset for claim in claims}
        if assign:
            self._consumer.incremental_assign(
                [TopicPartition(*place, starts.get(place, OFFSET_BEGINNING)) for place in places]
            )
            if idle := [place for place in places if place not in starts]:
                self.pause(idle)
        for claim in claims:
            place = (claim.topic, claim.partition)
            if again := claim.next_offset - claim.settled_offset:
                log.info("%s[%s]: %d flushed records are read again: the cache may not know them", *place, again)
            if assign or self._seek(place, claim.settled_offset):
                self.owned[place] = Owned(claim.epoch, claim.settled_offset, claim.topic_id, claim.next_offset)

    def _seek(self, place: Place, offset: int) -> bool:
        try:
            self._consumer.seek(TopicPartition(*place, offset))
            self._consumer.resume([TopicPartition(*place)])
        except KafkaException as error:
            log.warning("%s[%s]: cannot seek yet (%s); trying again", *place, error.args[0].name())
            self._unclaimed[place] = self._now + RETRY_CLAIM_S
            return False
        return True

    def _commit(self, *, asynchronous: bool) -> None:
        """Tell the group's offsets, which nothing but lag tools and autoscalers read."""
        offsets = [TopicPartition(*place, offset) for place, offset in self._flushed.items()]
        self._flushed.clear()
        if not offsets:
            return
        try:
            if asynchronous:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.info("group offsets not told (%s)", error.args[0].name())

    def _claim_moved(self, standing: Mapping[Place, Progress]) -> None:
        """Claim again what `writebehind progress set` moved, also where nothing is flushed, and what a flusher claimed
        that had not heard yet that it is ours: it may have committed what it never settled.

        A stopped partition is claimed for no other reason. A log that lost its tail grows beyond the stored offset in
        time, and would then look as if nothing had ever been lost.
        """
        for place, progress in standing.items():
            owned = self.owned.get(place)
            before = owned.epoch if owned is not None else self._stopped_epochs.get(place, progress.epoch)
            if progress.epoch <= before:
                continue
            if progress.by_hand:
                log.info("%s[%s]: %s, to offset %d", *place, progress.owner, progress.next_offset)
                self.stopped.pop(place, None)
                self._stopped_epochs.pop(place, None)
                self._unclaimed[place] = self._now
                self._claim_again([place])
            elif owned is not None:
                log.warning("%s[%s]: claimed by %s; claimed again if it is still ours", *place, progress.owner)
                self._claim_again([place])

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
