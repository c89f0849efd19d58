"""The pure parts of `writebehind letters`: filters, outcomes, lines of an export, and what was seen."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import psycopg
import pytest

from writebehind.flusher.letters import filters, ndjson
from writebehind.flusher.letters.item import Item, LetterRow, Message, parse, parse_place
from writebehind.flusher.letters.outcome import Outcome, judge, order, refusal, split
from writebehind.flusher.letters.seen import Seen
from writebehind.flusher.letters.validate import Valid
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import REFUSED, Cause, NotALetter, Origin, headers

NOW = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)
ORIGIN = Origin("t.thing", "id", 0, 7)
CAUSE = Cause(
    REFUSED, "psycopg.errors.CheckViolation", "said", "23514", None, None, 1, NOW.isoformat(), NOW.isoformat()
)


class Thing(Entity, table="things", strategy=WriteBehind(deletes=True)):
    """Rows that come and go."""

    id: Annotated[int, Key]
    note: str | None = None
    hits: Annotated[int, Sum] = 0


def message(origin: Origin = ORIGIN, key: bytes | None = b"1", value: bytes | None = b"\xff\x00") -> Message:
    own = [("trace", b"\xfe")]
    made: Any = headers(own, origin, entity="thing", table="things", version=5, cause=CAUSE, connector="c", task="0")
    return parse(key, value, made, "here")


def valid(key: int, version: int, mask: int) -> Valid:
    row = (0, version, 0, mask, key, None, None)
    return Valid(Origin("t.thing", "id", 0, version), declaration_of(Thing), row, str(key), 10)


def test_filters_admit_what_meets_every_group() -> None:
    row = LetterRow(ORIGIN, "thing", "refused", 0, NOW, "test")
    item = Item(ORIGIN, row, message())
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"entities": ["thing"], "reasons": ["CHECKVIOLATION"], "keys": ["1"], "states": ["refused"]}, True),
        ({"reasons": ["23514"]}, True),
        ({"reasons": ["23"]}, True),
        ({"reasons": ["22"]}, False),
        ({"keys": ["2"]}, False),
        ({"letters": ["t.thing/0/7"]}, True),
        ({"letters": ["t.thing/0/8"]}, False),
        ({"since": "2026-01-10T00:00:00"}, True),
        ({"until": "2026-01-10T00:00:00"}, False),
    ]
    for given, admitted in cases:
        assert filters.build(now=NOW, **given).admits(item) is admitted, given
    assert not filters.build(now=NOW).admits(Item(ORIGIN, None, message())), "void ones only when asked for"
    assert filters.build(now=NOW, void=True).admits(Item(ORIGIN, None, message()))
    assert filters.build(now=NOW).admits(Item(ORIGIN, row, None))
    assert not filters.build(now=NOW, keys=["1"]).admits(Item(ORIGIN, row, None)), "nobody knows its key"


def test_times_and_places_are_read_or_refused() -> None:
    assert filters.parse_time("36h", NOW) == NOW - dt.timedelta(hours=36)
    assert parse_place("a/b/1/2") == ("a/b", 1, 2)
    with pytest.raises(ConfigurationError):
        filters.parse_time("yesterday", NOW)
    for bad in ("a/1", "a/x/1", "nothing"):
        with pytest.raises(ConfigurationError):
            filters.build(now=NOW, letters=[bad])


def test_filters_that_no_letter_can_meet_are_refused() -> None:
    for given in (
        "23",
        "23514",
        "P0001",
        "CheckViolation",
        "psycopg.errors.checkviolation",
        "BadRecord",
        "struct.error",
    ):
        filters.build(now=NOW, reasons=[given])
    for typo in ("2351", "CheckVoilation", "SQLSTATE 23514", ""):
        with pytest.raises(ConfigurationError, match="no letter has the reason"):
            filters.build(now=NOW, reasons=["23", typo])
    filters.build(now=NOW, since="2d", until="1d")
    with pytest.raises(ConfigurationError, match="no time is both since 1d and before 2d"):
        filters.build(now=NOW, since="1d", until="2d")


def test_outcomes() -> None:
    slots = {"note": 1, "hits": 2}
    note, hits, delete = valid(1, 5, 1), valid(1, 5, 2), valid(1, 5, 0)
    assert judge(note, slots, {1: 5}, 0).outcome is Outcome.APPLIED
    assert judge(note, slots, {1: 6}, 0).outcome is Outcome.SUPERSEDED
    assert judge(hits, slots, {2: 6}, 0).outcome is Outcome.APPLIED, "a newer sum does not make an older one void"
    assert judge(hits, slots, {2: 6}, 6).outcome is Outcome.SUPERSEDED, "a newer delete does"
    assert judge(note, slots, None, 0).outcome is Outcome.REFUSED
    assert judge(delete, slots, None, 5).outcome is Outcome.APPLIED
    assert judge(delete, slots, None, 6).outcome is Outcome.SUPERSEDED


def test_letters_are_split_by_key_before_they_are_split_apart() -> None:
    one, two, three = valid(1, 3, 1), valid(2, 1, 1), valid(1, 2, 1)
    assert order([two, one, three]) == [three, one, two]
    assert split([three, one, two]) == [[three, one], [two]]
    assert split([three, one]) == [[three], [one]]
    assert split([one]) == []


def test_only_the_data_is_a_letters_own_fault() -> None:
    assert refusal(psycopg.errors.CheckViolation("secret value")) == "SQLSTATE 23514"
    assert refusal(psycopg.errors.UniqueViolation()) == "SQLSTATE 23505"
    for other in (psycopg.errors.DiskFull(), psycopg.errors.UndefinedTable(), KeyboardInterrupt()):
        assert refusal(other) is None


def test_an_export_comes_back_byte_for_byte_or_not_at_all() -> None:
    line = b""
    for given in (message(), message(key=None, value=None)):
        line = ndjson.encode(Item(ORIGIN, None, given), given)
        back = ndjson.decode(line, "here")
        assert back == given
    for broken in (b"{}", b"[" * 10_000, line[:-20], line.replace(b'"key":null', b'"key":"AA=="'), b"\xff"):
        with pytest.raises(ndjson.BadLine):
            ndjson.decode(broken, "here")


def test_headers_that_could_be_no_rows_place_are_no_letter() -> None:
    for origin in (Origin("t", "id", 2**31, 0), Origin("t", "id", 0, 2**63), Origin("t\0", "id", 0, 0)):
        with pytest.raises(NotALetter):
            message(origin)
    with pytest.raises(NotALetter):
        parse(None, None, [(name, b"9" * 5000) for name, _ in message().headers], "here")


def test_seen_knows_each_letter_once_and_whether_its_messages_agree() -> None:
    other = Origin("t.thing", "id", 0, 8)
    with Seen() as seen:
        seen.expect([ORIGIN, other])
        assert seen.note(ORIGIN, b"a")
        assert seen.note(ORIGIN, b"a")
        assert not seen.contested(ORIGIN)
        assert not seen.note(ORIGIN, b"b")
        assert seen.contested(ORIGIN)
        assert [seen.take(ORIGIN), seen.take(ORIGIN)] == [True, False]
        seen.untake()
        assert seen.take(ORIGIN)
        assert list(seen.missing()) == [other]
