"""A batch that the table refuses, written in parts: what stays, and how many tries it takes on a real server."""

from __future__ import annotations

import logging
import re
from typing import Annotated

import pytest

from tests.integration.database_table import TOPIC, table_of
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.batch import Batch, Span
from writebehind.flusher.bisect import PIECES
from writebehind.shared.entity import Entity, Key, Sum, WriteBehind

KEYS, BAD = 400, 250


class Part(Entity, table="part", strategy=WriteBehind()):
    id: Annotated[int, Key]
    mark: int | None = None
    hits: Annotated[int, Sum] = 0


DDL = "CREATE TABLE part (id bigint PRIMARY KEY, mark bigint, hits bigint NOT NULL DEFAULT 0, versions bigint[])"


@pytest.mark.parametrize(
    ("change", "state", "tries_max"),
    [
        # A try for each piece, the rows before the bad one, that one, those behind it, and that one once more.
        ("ALTER TABLE part ADD CHECK (mark <> 7000)", "23514", PIECES + 4),
        ("ALTER TABLE part ADD EXCLUDE (mark WITH =); INSERT INTO part VALUES (-1, 7000)", "23P01", PIECES + 4),
        ("ALTER TABLE part ADD FOREIGN KEY (mark) REFERENCES part (id)", "23503", 2 * 9 + 1),  # the place is not told
    ],
    ids=["refused before it is written", "refused by an index", "refused at the end"],
)
def test_the_one_bad_row_is_found_with_few_tries_and_the_others_are_written_once(
    writebehind_isolated: Isolation, caplog: pytest.LogCaptureFixture, change: str, state: str, tries_max: int
) -> None:
    caplog.set_level(logging.INFO, "writebehind.flusher")
    with table_of(writebehind_isolated, Part, DDL) as made:
        made.execute(change)
        rows = [made.row(key, {"hits": 1, **({"mark": 7_000} if key == BAD else {})}) for key in range(KEYS)]
        batch = Batch(TOPIC, rows=rows, spans={0: Span(0, 1, 0, KEYS)})

        refused = made.writer.write_parts(batch, {})
        made.writer.commit_parts(batch)

        assert {index: getattr(error, "sqlstate", None) for index, error in refused.items()} == {BAD: state}
        found = made.read(*range(KEYS))
        assert {key: row["hits"] for (key,), row in found.items()} == {key: 1 for key in range(KEYS) if key != BAD}
    tries = re.search(r"found with (\d+) tries", caplog.text)
    assert tries is not None
    assert int(tries[1]) <= tries_max
