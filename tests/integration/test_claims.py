"""Claiming partitions while the owner before us still works, on a real broker and database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition

from tests.integration.flusher_entities import Counter
from tests.integration.flusher_world import World, world
from writebehind.embedded.isolation import Isolation
from writebehind.flusher.claims import Claim, Claims


class Overtaken:
    """A consumer. As soon as it was told where a log ends, the owner before us commits one more record."""

    def __init__(self, w: World) -> None:
        self._world = w

    def get_watermark_offsets(self, place: TopicPartition, **options: Any) -> tuple[int, int]:
        found: tuple[int, int] = self._world.consumer.get_watermark_offsets(place, **options)
        self._world.put(Counter, 1, hits=1)
        self._world.send()
        self._world.execute(
            f'UPDATE "{self._world.corner.bookkeeping_schema}".progress SET next_offset = {found[1] + 1}'
        )
        return found


def test_what_is_committed_while_a_partition_is_claimed_is_no_loss(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    with world(writebehind_isolated, tmp_path, Counter, partitions=1) as w:
        corner = writebehind_isolated
        claims = Claims(corner.database_url, corner.bookkeeping_schema, w.admin, "we", stall_timeout_s=30)
        place = (w.topic(Counter), 0)
        [first] = claims.claim(w.consumer, [place])
        overtaken: Any = Overtaken(w)

        [second] = claims.claim(overtaken, [place])

        claims.close()
        assert isinstance(first, Claim)
        assert isinstance(second, Claim)
        assert (second.epoch, second.next_offset) == (first.epoch + 1, 1)
