"""Kinds: every value survives the cache, `check` changes nothing twice, and cache texts sort as the values do."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.everything import DECLARATION, MOMENT, TEXT, VALUES, same
from writebehind.shared import kinds, naming
from writebehind.shared.kinds import CACHE_NULL


@pytest.mark.parametrize("name", VALUES)
def test_every_value_survives_the_cache(name: str) -> None:
    kind = DECLARATION.by_name[name].kind

    @given(VALUES[name])
    def survives(value: Any) -> None:
        checked = kind.check(value)
        text = kind.to_cache(checked)
        assert text != CACHE_NULL
        assert same(kind.from_cache(text), checked)
        assert same(kind.check(checked), checked)
        assert unchanged(value, checked)

    survives()


def unchanged(value: Any, checked: Any) -> bool:
    if isinstance(value, list):
        return len(value) == len(checked) and all(map(unchanged, value, checked))
    if isinstance(value, dt.datetime):
        offset = value.utcoffset()
        # Python calls no two moments equal of which one is in the hour that a zone repeats.
        return offset is not None and (value.replace(tzinfo=dt.UTC) - offset) == checked
    return same(value, checked)


@given(MOMENT)
def test_a_cached_timestamp_is_its_iso_form(moment: dt.datetime) -> None:
    checked = kinds.TIMESTAMP.check(moment)

    assert kinds.TIMESTAMP.to_cache(checked) == checked.isoformat(timespec="microseconds")


@given(MOMENT, MOMENT)
def test_cached_timestamps_sort_as_the_moments_do(a: dt.datetime, b: dt.datetime) -> None:
    a, b = kinds.TIMESTAMP.check(a), kinds.TIMESTAMP.check(b)

    texts = kinds.TIMESTAMP.to_cache(a).encode(), kinds.TIMESTAMP.to_cache(b).encode()

    assert (texts[0] < texts[1]) == (a < b)
    assert len(texts[0]) == len(texts[1])


@given(st.dates(), st.dates())
def test_cached_dates_sort_as_the_dates_do(a: dt.date, b: dt.date) -> None:
    assert (kinds.DATE.to_cache(a).encode() < kinds.DATE.to_cache(b).encode()) == (a < b)


@given(st.lists(TEXT, min_size=1, max_size=3), st.lists(TEXT, min_size=1, max_size=3))
def test_key_texts_are_equal_only_for_equal_keys_and_read_back(a: list[str], b: list[str]) -> None:
    texts = [naming.join_key([naming.escape_part(part) for part in key]) for key in (a, b)]

    assert (texts[0] == texts[1]) == (a == b)
    assert [naming.unescape_part(part) for part in texts[0].split("|")] == a
