"""What `bench_peer` measures with: the marks that tell how much of a load is visible, and the peer's pinned jars."""

from __future__ import annotations

import pytest

from tests.benchmarks.load import FIRST_VERSION, PARTITIONS, Load, loads
from tests.benchmarks.peer.jars import CONNECT, DEBEZIUM, POOL, _pinned
from tests.benchmarks.visible import Visible
from writebehind.embedded.artifacts import pins
from writebehind.flusher.audit.partition import partition_of


@pytest.mark.parametrize("load", loads(5_000), ids=lambda load: load.name)
def test_the_marks_of_a_load_count_each_record_once_and_end_with_the_newest_of_each_partition(load: Load) -> None:
    visible = Visible(load)
    newest = {partition_of(str(key).encode(), PARTITIONS): (key, n) for n, key in enumerate(load.keys, FIRST_VERSION)}
    assert sum(weight for _, _, weight in visible._all) == len(load.keys)
    assert {(key, score) for key, score, _ in visible._last} == set(newest.values())
    assert all(load.keys[score - FIRST_VERSION] == key for key, score, _ in visible._all)


def test_the_peers_jars_are_pinned_and_do_not_come_beside_kafkas_own_in_another_version() -> None:
    connect, debezium = _pinned("connect"), _pinned("debezium")
    assert CONNECT in {pin.coordinate for pin in connect}
    assert {DEBEZIUM, POOL} <= {pin.coordinate for pin in debezium}
    assert all(len(bytes.fromhex(pin.sha256)) == 32 for pin in [*connect, *debezium])
    names = [pin.coordinate.split(":")[1] for pin in [*pins("kafka"), *connect]]
    assert len({*names}) == len(names)
