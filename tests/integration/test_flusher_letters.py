"""A batch that the database refuses: the records at fault become dead letters, everything else is committed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from confluent_kafka.cimpl import NewTopic

from tests.faults.proxy import Moment
from tests.integration.flusher_entities import Counter, Item, Sluggish, Strict, Town
from tests.integration.flusher_letters import posted, put_bad, skipped
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_producer import client, pending, settled, shown
from tests.integration.flusher_world import World, world
from tests.integration.test_flusher_kills import faulty
from writebehind.embedded.isolation import Isolation
from writebehind.shared import letter, naming

TOO_MANY = 2**62  # two of them do not fit into a bigint
SECRET = "a value of somebody's"


def block(connection: psycopg.Connection[Any]) -> None:
    """Let nobody write to the table until the connection is closed."""
    connection.execute("BEGIN")
    connection.execute("LOCK TABLE counters IN EXCLUSIVE MODE")


def put_good(w: World, first: int, count: int) -> None:
    for key in range(first, first + count):
        w.put(Strict, key, partition=key % 2, amount=1)


def test_the_bad_records_are_letters_and_the_rest_lands(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict, Town) as w:
        put_good(w, 0, 100)
        values = [put_bad(w, Strict, 1000, partition=0, amount=-1)]  # the table has a CHECK
        put_good(w, 100, 100)
        w.put(Strict, 1001, partition=0, amount=TOO_MANY)
        values.append(put_bad(w, Strict, 1001, partition=0, amount=TOO_MANY))  # fits alone, and not with its row
        w.raw(Strict, b"no record", "7", 0)
        values.append(b"no record")
        put_bad(w, Strict, 1003, partition=1, amount=-20)
        w.put(Strict, 1003, partition=1, amount=5)  # of the same key, and good
        put_good(w, 200, 50)
        values.append(put_bad(w, Strict, 2000, partition=0, amount=-(2**63)))  # the last of its batch
        w.put(Town, ("NL", "Delft"), mayor="Ann")
        flusher = w.flusher()
        w.wait_flushed()
        w.check()
        letters = posted(w, Strict)
        assert [one.value for one in letters if one.place[0] == 0] == values
        assert [one.place for one in letters] == skipped(w, Strict)
        assert len(letters) == 5
        assert posted(w, Town) == []
        reasons = {(one.letter.cause.stage, one.letter.cause.sqlstate, one.letter.cause.constraint) for one in letters}
        assert reasons == {
            (letter.REFUSED, "23514", "strict_amount_check"),
            (letter.REFUSED, "22003", None),
            (letter.UNREADABLE, None, None),
        }
        assert {one.letter.origin.topic for one in letters} == {w.topic(Strict)}
        assert {(one.letter.entity, one.letter.table) for one in letters} == {("strict", "strict")}
        flusher.stop()


def test_all_records_may_be_bad(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict) as w:
        values = sorted(put_bad(w, Strict, key, partition=key % 2, amount=-1) for key in range(40))
        flusher = w.flusher()
        w.wait_flushed()
        assert sorted(one.value or b"" for one in posted(w, Strict)) == values
        assert len(skipped(w, Strict)) == 40
        w.check()
        flusher.stop()


def test_headers_and_logs_hold_no_values(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        w.execute("ALTER TABLE counters ALTER note TYPE varchar(10)")
        w.execute("ALTER TABLE counters ADD CONSTRAINT shy CHECK (high <> 77_777)")
        put_bad(w, Counter, 1, partition=0, note=SECRET)
        put_bad(w, Counter, 2, partition=0, high=77_777)
        own: list[tuple[str, str | bytes | None]] = [
            ("traceparent", b"00-1"),
            ("traceparent", b"again"),
            ("empty", None),
        ]
        w.producer.produce(w.topic(Counter), b"no record", b"3", headers=own, partition=0)
        flusher = w.flusher()
        w.wait_flushed()
        letters = posted(w, Counter)
        assert [one.letter.cause.sqlstate for one in letters] == ["22001", "23514", None]
        assert letters[2].headers[:3] == own
        assert letters[2].key == b"3"
        flusher.stop()
        told = flusher.log + repr([one.headers for one in letters])
        assert not re.search(rf"{SECRET}|77777", told)


def test_a_letter_of_the_largest_record_fits(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w:
        largest = b"x" * (1_048_576 - 100)  # the batch's own header and the key count as well
        producer = Producer({"bootstrap.servers": w.corner.bootstrap_servers, "message.max.bytes": 2_000_000})
        producer.produce(w.topic(Counter), largest, b"1", partition=0)
        assert producer.flush(TIMEOUT_S) == 0
        w.put(Counter, 2, partition=0, hits=1)
        flusher = w.flusher()
        w.wait_flushed()
        assert [one.value for one in posted(w, Counter)] == [largest]
        w.check()
        flusher.stop()


def test_nothing_is_skipped_while_the_letter_cannot_be_written(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict) as w:
        topic = naming.dead_letter_topic(w.topic(Strict))
        w.admin.delete_topics([topic], operation_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)
        put_good(w, 0, 10)
        w.send()
        bad = w.ends(Strict)[0]
        put_bad(w, Strict, 1000, partition=0, amount=-1)
        flusher = w.flusher()
        flusher.wait_log("the broker does not take or tell what it has to")
        assert w.progress(Strict)[0] <= bad  # which good records share the bad one's batch is the consumer's affair
        assert (1000,) not in w.rows(Strict)
        assert skipped(w, Strict) == []
        w.admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(TIMEOUT_S)
        w.wait_flushed()
        w.check()
        assert len(posted(w, Strict)) == len(skipped(w, Strict)) == 1
        flusher.stop()


def test_killed_around_the_letter_no_record_is_lost_or_skipped_twice(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Strict) as w, faulty(w) as f:
        points = [
            ("ROLLBACK", Moment.BEFORE_REQUEST),  # the bad record is found, its letter is not written
            ("INSERT INTO {letter}", Moment.BEFORE_REQUEST),  # the letter is written
            ("COMMIT", Moment.BEFORE_REQUEST),
            ("COMMIT", Moment.BEFORE_REPLY),  # the record is skipped, and the flusher does not know
        ]
        letter_table = f'"{w.corner.bookkeeping_schema}"."letter"'
        for number, (request, moment) in enumerate(points):
            flusher = f.flusher(WRITEBEHIND_FLUSHER__GROUP=f"{w.corner.group}-{number}").wait_ready()
            w.wait_flushed()
            trap = f.proxies["database"].trap(request.format(letter=letter_table), moment, flusher.kill, cut=True)
            put_bad(w, Strict, 1000 + number, partition=0, amount=-1)  # the first of all: in the batch of the trap
            for key in range(10 * number, 10 * number + 10):
                w.put(Strict, key, partition=0, amount=1)
            w.send()
            w.wait(trap.hit.is_set, f"{request}: {moment}")
        w.flusher()
        w.wait_flushed()
        w.check()
        assert len(skipped(w, Strict)) == len(points)
        assert {one.place for one in posted(w, Strict)} == set(skipped(w, Strict))


def test_what_was_refused_leaves_the_cache(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, client(w) as c:
        w.execute("ALTER TABLE counters ADD CONSTRAINT shy CHECK (high < 100 AND hits < 100)")
        for key in range(4):
            c.update(Counter, key, high=key, note="before")
        flusher = w.flusher()
        w.wait_flushed()
        c.update(Counter, 0, high=500, note="refused")
        c.add(Counter, 1, hits=500)
        c.update(Counter, 2, note="good")
        w.wait_flushed()
        w.wait(lambda: not any(pending(w, Counter, range(4))), "the entries to be settled")
        assert [(shown(c, key).high, shown(c, key).hits, shown(c, key).note) for key in range(4)] == [
            (0, 0, "before"),
            (1, 0, "before"),
            (2, 0, "good"),
            (3, 0, "before"),
        ]
        flusher.stop()


def test_what_is_newer_than_a_refused_write_stays_in_the_cache(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, faulty(w) as f, client(w) as c:
        w.execute("ALTER TABLE counters ADD CONSTRAINT shy CHECK (note <> 'refused')")
        c.update(Counter, 1, note="before", high=1)
        flusher = f.flusher()
        w.wait(lambda: settled(w, Counter, [1]), "the first write to be settled: the trap is for the next one")
        blocker = w.connect()
        trap = f.proxies["cache"].trap("EVALSHA", Moment.BEFORE_REQUEST, lambda: block(blocker))
        c.update(Counter, 1, note="refused", high=7)
        w.wait(trap.hit.is_set, "the refused write to be skipped")
        c.update(Counter, 1, high=9)
        w.wait(lambda: shown(c, 1).note == "before", "the refused note to leave the cache")
        assert shown(c, 1).high == 9  # not flushed yet
        blocker.close()
        w.wait_flushed()
        assert (shown(c, 1).note, shown(c, 1).high) == ("before", 9)
        flusher.stop()


def test_a_delete_that_is_refused_is_a_letter(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Item) as w:
        w.execute("CREATE TABLE orders (item bigint REFERENCES items DEFERRABLE INITIALLY DEFERRED)")
        for key in range(6):
            w.put(Item, key, title=f"item {key}", stock=1)
        flusher = w.flusher()
        w.wait_flushed()
        w.execute("INSERT INTO orders VALUES (3)")
        bad = put_bad(w, Item, 3, partition=0)
        for key in (1, 5):
            w.put(Item, key, partition=0)
        w.wait_flushed()
        assert sorted(w.rows(Item)) == [(0,), (2,), (3,), (4,)]
        assert [(one.value, one.letter.cause.sqlstate) for one in posted(w, Item)] == [(bad, "23503")]
        assert len(skipped(w, Item)) == 1
        flusher.stop()


def test_other_entities_and_later_records_go_on(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Strict, Sluggish) as w:
        flusher = w.flusher()
        for number in range(5):
            put_bad(w, Strict, 9000 + number, partition=0, amount=-1)
            put_good(w, 100 * number, 20)
            w.put(Sluggish, number, hits=1)
            w.wait_flushed()
        w.check()
        assert len(posted(w, Strict)) == 5
        flusher.stop()
