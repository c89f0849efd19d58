"""Drift of every kind, planted in the table of `Counter` and in the cache, and what the audit must call each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.integration.audit_world import NEW, OLD, plant
from tests.integration.flusher_entities import Counter
from tests.integration.flusher_world import World
from tests.integration.letters_world import Letters
from writebehind.flusher.audit.diff import Verdict
from writebehind.shared.bookkeeping import FIELD, short_names

HITS, NOTE = short_names(["hits", "note"])
FIRST_KEY = 1_000_000_000  # the keys of planted drift begin here; everything below is in sync


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to drift: the verdicts that name it, and how it is made of a key that is in sync."""

    name: str
    verdicts: frozenset[Verdict]
    make: Callable[[World, int], None]


def kinds(letters: Letters) -> list[Kind]:
    """Every kind that FAILURES and the issue name."""

    def refused(w: World, key: int) -> None:
        letters.put(Counter, key, version=NEW, note="bad")
        fields = {"hits": "5", "high": "9", "low": "1", "note": "bad"}
        plant(w, Counter, key, fields, version=NEW, pending=1, parts=f" ={NOTE}")

    def of(verdict: Verdict, *more: Verdict) -> frozenset[Verdict]:
        return frozenset([verdict, *more])

    return [
        Kind("row deleted", of(Verdict.ORPHAN), lambda w, k: _sql(w, f"DELETE FROM counters WHERE id = {k}")),
        Kind("row older", of(Verdict.DIFFERS), lambda w, k: _row(w, k, f"note = 'old', versions = '{{{OLD - 5}}}'")),
        Kind("row edited by hand", of(Verdict.DIFFERS), lambda w, k: _row(w, k, "hits = hits + 1")),
        Kind("row newer", of(Verdict.STALE), lambda w, k: _row(w, k, f"note = 'newer', versions = '{{{NEW}}}'")),
        Kind("flipped byte", of(Verdict.DIFFERS, Verdict.UNREADABLE), _flip),
        Kind("latest version, old content", of(Verdict.DIFFERS), _old_content),
        Kind("orphan", of(Verdict.ORPHAN), _orphan),
        Kind("never enqueued", of(Verdict.LOST), _never_enqueued),
        Kind("increment never enqueued", of(Verdict.LOST), _increment_never_enqueued),
        Kind("refused", of(Verdict.REFUSED), refused),
    ]


def in_sync(w: World, first: int, count: int) -> None:
    """Rows, and clean entries that show them."""
    _sql(
        w,
        "INSERT INTO counters (id, hits, high, low, note, versions) SELECT n, 5, 9, 1, 'note ' || n, "
        f"'{{{OLD}}}' FROM generate_series({first}, {first + count - 1}) AS n",
    )
    header = f"{OLD} {OLD}c"
    for start in range(first, first + count, 10_000):
        with w.cache.pipeline(transaction=False) as pipeline:
            for key in range(start, min(start + 10_000, first + count)):
                fields = [FIELD, header, "hits", "5", "high", "9", "low", "1", "note", f"note {key}"]
                pipeline.hset(w.entry(Counter, key), items=fields)
            pipeline.execute()


def plant_all(w: World, letters: Letters, each: int) -> dict[str, frozenset[Verdict]]:
    """So many of each kind. Gives the verdicts that count as found, by key text."""
    planted: dict[str, frozenset[Verdict]] = {}
    made = kinds(letters)
    in_sync(w, FIRST_KEY, each * len(made))
    for number, kind in enumerate(made):
        for key in range(FIRST_KEY + number * each, FIRST_KEY + (number + 1) * each):
            kind.make(w, key)
            planted[str(key)] = kind.verdicts
    w.send()
    return planted


def edit_rows(w: World, first: int, count: int) -> dict[str, frozenset[Verdict]]:
    """Edit rows that are in sync by hand, one after the other, while an audit may be running. Gives what they are."""
    for key in range(first, first + count):
        _row(w, key, "hits = hits + 1")
    return {str(key): frozenset([Verdict.DIFFERS]) for key in range(first, first + count)}


def _sql(w: World, text: str) -> None:
    with w.connect() as connection:
        connection.execute(text.encode())


def _row(w: World, key: int, change: str) -> None:
    _sql(w, f"UPDATE counters SET {change} WHERE id = {key}")


def _flip(w: World, key: int) -> None:
    """One bit of one byte of one field, the bookkeeping's too."""
    chance, name = random.Random(key), w.entry(Counter, key)
    field = chance.choice([FIELD, "hits", "high", "low", "note"])
    value = str(w.cache.hget(name, field)).encode()
    place = 16 if field == FIELD else chance.randrange(len(value))  # the blank: a digit would only be another time
    flipped = value[:place] + bytes([value[place] ^ 1 << chance.randrange(6)]) + value[place + 1 :]
    w.cache.hset(name, field, flipped)


def _old_content(w: World, key: int) -> None:
    _row(w, key, f"note = 'newer', versions = '{{{NEW}}}'")
    w.cache.hset(w.entry(Counter, key), FIELD, f"{NEW} {OLD}c")


def _orphan(w: World, key: int) -> None:
    _sql(w, f"DELETE FROM counters WHERE id = {key}")
    plant(w, Counter, key, {"note": "ghost"}, state="p")


def _never_enqueued(w: World, key: int) -> None:
    fields = {"hits": "5", "high": "9", "low": "1", "note": "lost"}
    plant(w, Counter, key, fields, version=NEW, pending=1, parts=f" ={NOTE}")


def _increment_never_enqueued(w: World, key: int) -> None:
    fields = {"hits": "12", "high": "9", "low": "1", "note": f"note {key}"}
    plant(w, Counter, key, fields, version=NEW, pending=1, parts=f" +{HITS}7")
