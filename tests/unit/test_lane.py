"""What a lane says of itself to those who wait for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.integration.flusher_entities import Counter
from writebehind.flusher.batch import Batch, Limits
from writebehind.flusher.lane import Backoff, Lane
from writebehind.flusher.measures import Measures
from writebehind.shared.declaration import declaration_of

TOPIC = "writebehind.counter"


def nothing(*_: Any) -> None: ...


def test_a_lane_that_stopped_is_at_rest_whatever_it_left_behind() -> None:
    writer: Any = SimpleNamespace(declaration=declaration_of(Counter), disconnect=nothing)
    settler: Any = SimpleNamespace(start=nothing, stop=nothing, quiet=True, settled={})
    letterbox: Any = None
    lane = Lane(TOPIC, writer, settler, letterbox, Limits(1, 1, 1, 1.0), Backoff(1, 1), Measures(), on_outcome=nothing)
    lane.submit(Batch(TOPIC))
    assert not lane.at_rest
    lane._stopping.set()  # before its thread takes the batch
    lane.start()
    assert lane.stop(60)
    assert not lane.idle, "the batch is abandoned"
    assert lane.at_rest, "nothing waits for what will not come: a partition that is revoked, a process that ends"
