"""An entry's bookkeeping as others read it, and the short names of its fields."""

from __future__ import annotations

import random
import string

import pytest

from writebehind.shared import bookkeeping

VERSION, OLDER = 1_700_000_000_000_009, 1_700_000_000_000_001
HEADER = f"{VERSION} {OLDER}C12 =aaabbb @{OLDER}ccc +ddd-5 d{OLDER} u1 h{OLDER}{VERSION} lT_-0:18bcfe56800"


def test_every_part_is_read() -> None:
    kept = bookkeeping.read(HEADER)

    assert (kept.version, kept.generation, kept.pending) == (VERSION, OLDER, 12)
    assert (kept.complete, kept.row_exists, kept.tainted, kept.present) == (True, True, True, True)
    assert kept.marks == {"aaa": VERSION, "bbb": VERSION, "ccc": OLDER}
    assert (kept.sums, kept.deleted_at, kept.lease) == ({"ddd": "-5"}, OLDER, "T_-0:18bcfe56800")
    assert kept.doubted == (OLDER, VERSION)


@pytest.mark.parametrize(
    ("flag", "complete", "row_exists"), [("p", False, True), ("n", True, False), ("c", True, True)]
)
def test_what_an_entry_holds(flag: str, complete: bool, row_exists: bool) -> None:
    fields = {bookkeeping.FIELD: f"{VERSION} {OLDER}{flag}"}

    kept = bookkeeping.of(fields)

    assert (kept.complete, kept.row_exists, kept.tainted, kept.pending) == (complete, row_exists, False, 0)
    assert bookkeeping.is_complete(fields) == complete


def test_an_entry_with_nothing_but_a_lease_is_not_present() -> None:
    leased = bookkeeping.of({bookkeeping.FIELD: f"{0:016d} {0:016d}p ltoken:18bcfe56800"})

    assert not leased.present
    assert not bookkeeping.of({}).present
    assert not bookkeeping.is_complete({})


@pytest.mark.parametrize("header", ["", "x", HEADER[:30], HEADER.replace("C12", "q12")])
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="bookkeeping"):
        bookkeeping.read(header)


def test_short_names_depend_on_the_name_alone() -> None:
    names = [f"field_{number}" for number in range(30)]

    short = bookkeeping.short_names(names)

    assert {len(name) for name in short} == {3}
    assert bookkeeping.short_names(names[::-1]) == short[::-1]


def test_fields_whose_short_names_meet_are_told_apart() -> None:
    chance = random.Random(1)
    seen: dict[str, str] = {}
    for _ in range(10_000):  # 2^18 short names: two of so many meet
        name = "".join(chance.choices(string.ascii_lowercase, k=12))
        [short] = bookkeeping.short_names([name])
        if short in seen:
            first, second = bookkeeping.short_names([seen[short], name])
            assert first == short
            assert second != short
            return
        seen[short] = name
    raise AssertionError("no two names meet")
