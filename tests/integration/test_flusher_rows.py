"""What the flusher makes of records: every merge, keys of several columns, entities that share a process or a table."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import psycopg

from tests.integration.flusher_entities import Counter, Item, Known, ProfileName, ProfileStats, Town
from tests.integration.flusher_world import world
from writebehind.embedded.isolation import Isolation


def test_several_entities_in_one_process_are_exact(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Town, ProfileName, ProfileStats) as w:
        w.load(Counter, 500)
        w.flusher()
        for number in range(200):
            key = ("NL" if number % 2 else "B|E", f"town {number % 7} {{é}}")
            w.put(Town, key, paid=Decimal("0.0001") * number, mayor=f"m{number}")
            # The same new rows from two topics at once: one of the two inserts comes second, and must update.
            w.put(ProfileName, number, name=f"name {number}")
            w.put(ProfileStats, number, visits=number, city=None if number % 3 else "Gent")
        w.load(Counter, 500, seed=2)
        w.wait_flushed()
        w.check()
