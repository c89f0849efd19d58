"""The audit's comparison: what counts as the same, and the verdict on what does not."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from writebehind.flusher.audit.diff import DELETE, ROW, Comparer, Verdict
from writebehind.flusher.audit.entry import Cached, Unreadable, read_entry
from writebehind.flusher.audit.same import Beyond, same
from writebehind.shared.bookkeeping import short_names
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity, Json, Key, Max, Min, Numeric, Sum, WriteBehind
from writebehind.shared.kinds import CACHE_NULL

OLD, NEW = 1_700_000_000_000_001, 1_700_000_000_000_009


class Mood(enum.Enum):
    GLAD = "glad"


class Player(Entity, table="players", strategy=WriteBehind(deletes=True)):
    id: Annotated[int, Key]
    name: str | None = None
    score: Annotated[int, Sum] = 0
    best: Annotated[int | None, Max] = None
    first: Annotated[int | None, Min] = None


class Every(Entity, table="every", strategy=WriteBehind()):
    id: Annotated[int, Key]
    real: float | None = None
    money: Annotated[Decimal | None, Numeric(12, 2)] = None
    number: Decimal | None = None
    at: dt.datetime | None = None
    day: dt.date | None = None
    mood: Mood | None = None
    data: Annotated[Any, Json] = None
    tags: list[int | None] | None = None
    flag: bool | None = None
    blob: bytes | None = None


class Skipped(Entity, table="skipped", strategy=WriteBehind(on_missing="skip")):
    id: Annotated[int, Key]
    name: str


EVERY = declaration_of(Every)
SLOTS = {"name": 1, "score": 2, "best": 3, "first": 4}
PLAYERS = Comparer(declaration_of(Player), SLOTS)
NAME, SCORE, BEST, FIRST = short_names(["name", "score", "best", "first"])
ROW_VALUES = ("Ada", 10, 7, 2, [OLD, OLD, OLD, OLD])


def entry(
    state: str = "c", *texts: str | None, version: int = OLD, generation: int = OLD, parts: str = "", pending: str = ""
) -> Cached:
    header = f"{version} {generation}{state}{pending}{parts}"
    fields = texts or ("Ada", "10", "7", "2")
    found = read_entry([header.encode(), *(None if text is None else text.encode() for text in fields)])
    assert isinstance(found, Cached)
    return found


def judge(cached: Cached, row: Any, *, flushed: bool = True, letters: tuple[int, ...] = ()) -> Verdict:
    return PLAYERS.judge(cached, row, flushed=flushed, letters=letters)


@pytest.mark.parametrize(
    ("name", "text", "value", "expected"),
    [
        ("real", "nan", float("nan"), True),
        ("real", "1.0", 1.0, True),
        ("real", "inf", float("-inf"), False),
        ("real", "-0.0", 0.0, True),
        ("money", "1.5", Decimal("1.50"), True),
        ("money", "1.51", Decimal("1.50"), False),
        ("number", "NaN", Decimal("NaN"), True),
        ("number", "1E+2", Decimal(100), True),
        ("number", "9007199254740993", Decimal(2**53), False),
        ("at", "2026-01-01T02:00:00.000000+02:00", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), True),
        ("at", "2026-01-01T02:00:00.000001+02:00", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), False),
        ("at", "2026-01-01T00:00:00.000000", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), False),
        ("at", "2026-01-01T00:00:00.000000+00:00", Beyond("infinity"), False),
        ("at", "infinity", Beyond("infinity"), True),
        ("day", "2026-01-01", dt.date(2026, 1, 1), True),
        ("day", "9999-12-31", Beyond("infinity"), False),
        ("mood", "glad", "glad", True),
        ("mood", "sad", "glad", False),
        ("mood", "glad", "of a newer schema", False),
        ("data", '{"b":[1,2.0],"a":null}', {"a": None, "b": [1.0, 2]}, True),
        ("data", "[1]", [True], False),
        ("data", '{"a":1}', {"a": 1, "b": 1}, False),
        ("data", "{", {}, False),
        ("tags", '["1",null]', [1, None], True),
        ("tags", '["1"]', [1, None], False),
        ("flag", "t", True, True),
        ("flag", "t", False, False),
        ("blob", "\\x00ff", b"\x00\xff", True),
        ("blob", "\\x0", b"\x00", False),
        ("blob", CACHE_NULL, None, True),
        ("blob", CACHE_NULL, b"", False),
        ("blob", "\\x", None, False),
    ],
)
def test_values_are_compared_by_value(name: str, text: str, value: Any, expected: bool) -> None:
    assert same(EVERY.by_name[name], text, value) is expected


@given(st.floats(), st.decimals(-(10**9), 10**9, allow_nan=False, places=2))
def test_what_a_write_caches_is_the_same_as_what_the_row_gives_back(real: float, money: Decimal) -> None:
    column = EVERY.by_name["real"]
    assert same(column, column.kind.to_cache(real), real)
    column = EVERY.by_name["money"]
    assert same(column, column.kind.to_cache(column.kind.check(money)), money)


@pytest.mark.parametrize(
    ("cached", "row", "expected"),
    [
        (entry(), ROW_VALUES, []),
        (entry("c", "Bob", "10", "7", None), ROW_VALUES, ["name", "first"]),
        (entry("c", "Ada", "no number", "7", "2"), ROW_VALUES, ["score"]),
        (entry("p", None, None, "6", "3"), ROW_VALUES, []),
        (entry("p", "Bob", None, "8", "1"), ROW_VALUES, ["name", "best", "first"]),
        (entry("p", None, None, CACHE_NULL, None), ROW_VALUES, []),
        (entry("p", None, None, "7", None), ("Ada", 10, None, 2, None), ["best"]),
        (entry("p", None, None, None, None, parts=" lT:1"), None, []),
        (entry("n", None, None, None, None), None, []),
        (entry("n", None, None, None, None), ROW_VALUES, [ROW]),
        (entry("n", "Ada", None, None, None), ROW_VALUES, []),
        (entry("n", "Ada", None, None, None), None, [ROW]),
        (entry(), None, [ROW]),
    ],
)
def test_what_a_reader_is_shown_is_compared_with_the_row(cached: Cached, row: Any, expected: list[str]) -> None:
    assert PLAYERS.differences(cached, row) == expected
    raw = [cached.header.encode(), *(None if text is None else text.encode() for text in cached.texts)]
    assert not PLAYERS.is_plainly_the_same(raw, row) or not expected


def test_a_field_that_an_older_declaration_did_not_know_shows_its_default() -> None:
    assert PLAYERS.differences(entry("c", "Ada", None, None, None), ("Ada", 0, None, None, None)) == []


def test_a_total_without_a_row_under_it_is_not_held_against_the_tables_default() -> None:
    comparer = Comparer(declaration_of(Player), SLOTS, {"score": "100"})
    assert comparer.differences(entry("n", None, "5", None, None), (None, 105, None, None, None)) == []
    assert PLAYERS.differences(entry("n", None, "5", None, None), (None, 105, None, None, None)) == ["score"]


def test_a_lease_does_not_change_what_is_compared() -> None:
    assert entry("c", parts=" ltoken:18bc").header == entry().header


@pytest.mark.parametrize("values", [[b"nonsense", b"x"], [None, b"x"], [b"\xff", None]])
def test_what_is_no_entry_is_unreadable(values: list[bytes | None]) -> None:
    assert isinstance(read_entry(values), Unreadable)
    assert read_entry([None, None]) is None


LOST_NAME = entry("c", "Bob", "10", "7", "2", version=NEW, pending="1", parts=f" ={NAME}")
LOST_SCORE = entry("c", "Ada", "15", "7", "2", version=NEW, pending="1", parts=f" +{SCORE}5")
DOUBTFUL = entry("c", "Ada", "15", "7", "2", version=NEW, pending="2", parts=f" +{SCORE}8")
LOST_BEST = entry("p", None, None, "9", None, version=NEW, pending="1", parts=f" ={BEST}")
LOST_DELETE = entry("n", None, None, None, None, version=NEW, pending="1", parts=f" d{NEW}")
LOST_INSERT = entry("n", "Bob", "5", None, None, version=NEW, pending="1", parts=f" ={NAME} +{SCORE}5")
FLUSHED = entry("c", version=NEW, pending="1", parts=f" ={NAME}")
NEWER_ROW = ("Bob", 10, 7, 2, [NEW, OLD, OLD, OLD])


@pytest.mark.parametrize(
    ("cached", "row", "verdict", "patch"),
    [
        (entry(), ROW_VALUES, Verdict.IN_SYNC, None),
        (FLUSHED, ROW_VALUES, Verdict.UNSETTLED, None),
        (LOST_NAME, ROW_VALUES, Verdict.LOST, [(0, "Bob")]),
        (LOST_SCORE, ROW_VALUES, Verdict.LOST, [(1, 5)]),
        (DOUBTFUL, ROW_VALUES, Verdict.DIFFERS, None),
        (LOST_BEST, ROW_VALUES, Verdict.LOST, [(2, 9)]),
        (LOST_DELETE, ROW_VALUES, Verdict.LOST, DELETE),
        (LOST_DELETE, None, Verdict.UNSETTLED, None),
        (LOST_INSERT, None, Verdict.LOST, [(0, "Bob"), (1, 5)]),
        (entry(), None, Verdict.ORPHAN, None),
        (entry(), NEWER_ROW, Verdict.STALE, None),
        (entry("n", None, None, None, None), ROW_VALUES, Verdict.STALE, None),
        (entry("c", "Eve", "10", "7", "2"), ROW_VALUES, Verdict.DIFFERS, None),
        (entry("c", "Eve", "10", "7", "2", version=NEW), ROW_VALUES, Verdict.DIFFERS, None),
    ],
)
def test_verdict_when_everything_is_flushed(cached: Cached, row: Any, verdict: Verdict, patch: Any) -> None:
    assert judge(cached, row) is verdict
    if verdict is Verdict.LOST or cached is DOUBTFUL:
        assert PLAYERS.lost_patch(cached, row) == patch


def test_nothing_is_said_of_a_write_that_may_be_on_its_way() -> None:
    assert judge(LOST_NAME, ROW_VALUES, flushed=False) is Verdict.PENDING
    assert judge(entry("c", "Eve", "10", "7", "2"), ROW_VALUES, flushed=False) is Verdict.DIFFERS


def test_a_skipped_record_of_the_entry_makes_it_refused() -> None:
    assert judge(LOST_NAME, ROW_VALUES, letters=(NEW,)) is Verdict.REFUSED
    assert judge(LOST_NAME, ROW_VALUES, letters=(0,)) is Verdict.REFUSED
    assert judge(LOST_NAME, ROW_VALUES, letters=(OLD - 1,)) is Verdict.LOST
    doubted = entry("C", "Bob", "10", "7", "2", version=NEW, generation=NEW + 1, pending="1", parts=f" ={NAME} h{OLD}")
    assert judge(doubted, ROW_VALUES, letters=(NEW,)) is Verdict.REFUSED


def test_a_patch_of_a_row_that_was_not_to_be_inserted_is_an_orphan() -> None:
    comparer = Comparer(declaration_of(Skipped), {"name": 1})
    cached = entry("p", "Ada", version=NEW, pending="1")
    assert comparer.judge(cached, None, flushed=True) is Verdict.ORPHAN


def test_a_write_that_no_column_could_hold_is_not_said_again() -> None:
    cached = entry("p", None, None, str(2**63), None, version=NEW, pending="1", parts=f" ={BEST}")
    assert judge(cached, ROW_VALUES) is Verdict.LOST
    assert PLAYERS.lost_patch(cached, ROW_VALUES) is None


texts = st.tuples(
    st.sampled_from(["Ada", "Bob", CACHE_NULL, "\udcff"]),
    *[st.sampled_from(["10", "7", "2", "x", CACHE_NULL, ""])] * 3,
)


@given(texts, st.sampled_from("cpnCPN"), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans())
def test_a_verdict_is_found_for_whatever_the_entry_holds(
    found: tuple[str, ...], state: str, pending: int, marks: bool, exists: bool, flushed: bool
) -> None:
    parts = f" ={NAME}{BEST} +{SCORE}5" if marks else ""
    header = f"{NEW} {OLD}{state}{pending or ''}{parts}"
    cached = read_entry([header.encode(), *(text.encode(errors="surrogateescape") for text in found)])
    assert isinstance(cached, Cached)
    row = ROW_VALUES if exists else None
    verdict = judge(cached, row, flushed=flushed)
    assert (verdict is Verdict.PENDING) == (pending > 0 and not flushed)
    assert (verdict in (Verdict.IN_SYNC, Verdict.UNSETTLED)) <= (PLAYERS.differences(cached, row) == [])
    PLAYERS.lost_patch(cached, row)
