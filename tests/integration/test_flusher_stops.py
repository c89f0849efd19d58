"""What the flusher must not go on from by itself: gaps in the log."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.cimpl import NewTopic

from tests.integration.flusher_entities import Counter, ProfileName, Strict, Town
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World, world
from writebehind.embedded.isolation import Isolation
from writebehind.shared.entity import Entity


def put_both(w: World, *entities: type[Entity], count: int = 5) -> None:
    """Records for both partitions of each entity, under keys of their own."""
    for cls in entities:
        for number in range(count):
            for partition in (0, 1):
                key = 1000 * partition + number
                if cls is Town:
                    w.put(Town, ("NL", str(key)), partition=partition, paid=Decimal(1))
                elif cls is ProfileName:
                    w.put(ProfileName, key, partition=partition, name="n")
                elif cls is Strict:
                    w.put(Strict, key, partition=partition, amount=1)
                else:
                    w.put(Counter, key, partition=partition, hits=1)
    w.send()


def recreate(w: World, cls: type[Entity]) -> None:
    """Delete a topic and create it again, as soon as the broker lets us."""
    topic = w.topic(cls)
    w.admin.delete_topics([topic], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)

    def created() -> bool:
        try:
            w.admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            return False
        return True

    w.wait(created, "the topic to be created again")


def expire(w: World, cls: type[Entity], partition: int, below: int) -> None:
    """Make the broker forget what is below an offset, as retention does."""
    place = TopicPartition(w.topic(cls), partition, below)
    for future in w.admin.delete_records([place]).values():
        future.result(TIMEOUT_S)


def test_gaps_found_at_the_start_stop_their_partitions_only(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town, ProfileName, Strict) as w:
        put_both(w, *w.entities)
        flusher = w.flusher()
        w.wait_flushed()
        flusher.stop()
        recreate(w, Town)
        put_both(w, *w.entities, count=10)
        expire(w, ProfileName, 1, 8)
        w.execute(
            f'UPDATE "{w.corner.bookkeeping_schema}".progress SET next_offset = 22'
            f" WHERE topic = '{w.topic(Strict)}' AND partition = 0"
        )
        flusher = w.flusher()
        town, profile, strict = w.topic(Town), w.topic(ProfileName), w.topic(Strict)
        flusher.wait_log(f"{town}[0]: the topic was deleted and created again")
        flusher.wait_log(f"{town}[1]: the topic was deleted and created again")
        flusher.wait_log(f"{profile}[1]: 3 records from offset 5 on expired before they were flushed")
        flusher.wait_log(f"{strict}[0]: the log ends at 15, 7 records before what Postgres already has")
        w.wait_flushed(Counter)
        w.wait(lambda: w.progress(ProfileName)[0] == w.progress(Strict)[1] == 15, "the others to go on")
        put_both(w, Counter)
        w.wait_flushed(Counter)
        w.tally.check(Counter, w.rows(Counter))
        assert w.progress(Town) == {0: 5, 1: 5}
        assert w.progress(ProfileName) == {0: 15, 1: 5}
        assert w.progress(Strict) == {0: 22, 1: 15}
        assert flusher.log.count("The partition is stopped; nothing was skipped") == 4
        flusher.stop()


def test_records_that_expire_under_a_running_flusher_stop_their_partition(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        put_both(w, Counter)
        # A fetch that was under way when the flusher froze brings one batch of records, so the gap comes after several.
        flusher = w.flusher(**w.kafka_options(fetch_wait_max_ms="1", fetch_message_max_bytes="1"))
        w.wait_flushed()
        flusher.freeze()
        for _ in range(4):
            put_both(w, Counter)
        expire(w, Counter, 0, 24)
        flusher.thaw()

        def told() -> bool:
            at = w.progress(Counter)[0]
            said = f"{w.topic(Counter)}[0]: {24 - at} records from offset {at} on expired before they were flushed"
            return at < 24 and said in flusher.log

        w.wait(told, "the gap to be told")
        put_both(w, Counter)
        w.wait(lambda: w.progress(Counter)[1] == 30, "the other partition to go on")
        assert told(), "the stopped partition stays where it was"
        flusher.stop()


def test_a_topic_recreated_under_a_running_flusher_stops(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town) as w:
        put_both(w, Counter, Town)
        flusher = w.flusher()
        w.wait_flushed()
        recreate(w, Town)
        put_both(w, Counter, Town, count=10)  # the new topic is longer than what was flushed of the old one
        for partition in (0, 1):
            flusher.wait_log(f"{w.topic(Town)}[{partition}]: the topic was deleted and created again")
        put_both(w, Counter)
        w.wait_flushed(Counter)
        w.tally.check(Counter, w.rows(Counter))
        assert w.progress(Town) == {0: 5, 1: 5}
        flusher.stop()
