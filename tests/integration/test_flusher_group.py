"""Partitions that move between flushers: zombies, second claims, members that come and go."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.proxy import Moment
from tests.faults.wire import Postgres
from tests.integration.flusher_entities import Counter, Sluggish
from tests.integration.flusher_process import TIMEOUT_S
from tests.integration.flusher_world import World, world, writing
from tests.integration.guarded import Guarded
from writebehind.embedded.isolation import Isolation

ZOMBIES = {
    "a batch is ready": ("BEGIN", Moment.BEFORE_REQUEST),
    "the progress rows are locked": ("MERGE", Moment.BEFORE_REPLY),
    "COMMIT is on its way": ("COMMIT", Moment.BEFORE_REQUEST),
}


def test_a_zombie_writes_nothing_and_recovers(writebehind_stack: Guarded, tmp_path: Path) -> None:
    def run(name: str) -> None:
        with writebehind_stack.corner() as corner, world(corner, tmp_path, Counter) as w:
            _freeze_and_thaw(w, *ZOMBIES[name])

    # Side by side: nearly all of it is waiting for time-outs.
    with ThreadPoolExecutor(len(ZOMBIES)) as pool:
        for done in [pool.submit(run, name) for name in ZOMBIES]:
            done.result()


def _freeze_and_thaw(w: World, request: str, moment: Moment) -> None:
    taken_over = threading.Event()
    with w.database_proxy(Postgres) as proxy:
        try:
            zombie = w.flusher(**w.through(database=proxy)).wait_ready()
            w.load(Counter, 100)
            w.wait_flushed()

            def freeze() -> None:
                zombie.freeze()
                taken_over.wait(TIMEOUT_S)  # what it has sent reaches the server when it is too late

            trap = proxy.trap(request, moment, freeze)
            w.load(Counter, 100, seed=2)
            second = w.flusher()
            w.wait_flushed()  # by the second one, once the session and the transaction of the first have run out
            w.load(Counter, 100, seed=3)
            w.wait_flushed()
            w.check()
        finally:
            taken_over.set()
        assert trap.hit.wait(TIMEOUT_S)
        zombie.thaw()
        w.load(Counter, 100, seed=4)
        w.wait_flushed()
        w.check()
        zombie.wait_log("assigned", count=2)  # it is a member again
        second.stop()
        w.load(Counter, 100, seed=5)
        w.wait_flushed()
        w.check()
        zombie.stop()


def test_a_second_claim_makes_the_first_owner_read_again(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Sluggish) as w:
        flusher = w.flusher().wait_ready()
        w.load(Counter, 100)
        w.wait_flushed()
        for number in range(2):
            for key in range(10):
                w.put(Sluggish, key, hits=1)  # is collected for a second: the claim comes in between
            w.load(Counter, 100, seed=number)
            w.wait(lambda: w.flushed(Counter), "the quick entity to be flushed")
            w.execute(f'UPDATE "{w.corner.bookkeeping_schema}".progress SET owner_epoch = owner_epoch + 1')
            w.load(Counter, 100, seed=number + 10)
            w.wait_flushed()
            w.check()
        flusher.wait_log("fenced")
        flusher.stop()


def test_members_that_come_and_go_while_records_flow(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, partitions=4) as w:
        first = w.flusher().wait_ready()
        with writing(w, Counter):
            for _ in range(2):
                second = w.flusher()
                second.wait_log("assigned [('")
                owner = f":{second.pid}"
                w.wait(
                    lambda owner=owner: any(o.endswith(owner) for (o,) in w.query("SELECT owner FROM {}.progress")),
                    "the second to own a partition",
                )
                second.stop()
        w.wait_flushed()
        w.check()
        first.stop()


@pytest.mark.parametrize("arguments", [("--workers", "2"), ("--connections", "2")])
def test_several_workers_or_connections_are_exact(
    writebehind_isolated: Isolation, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with world(writebehind_isolated, tmp_path, Counter, partitions=4) as w:
        flusher = w.flusher(*arguments)
        owners = 2 if "--workers" in arguments else 1
        with writing(w, Counter):
            for seed in range(5):
                w.load(Counter, 400, keys=200, seed=seed)
            w.wait(
                lambda: len({owner for (owner,) in w.query("SELECT owner FROM {}.progress")}) == owners,
                f"{owners} processes to share the partitions",
            )
            w.load(Counter, 400, keys=200, seed=9)
        w.wait_flushed()
        w.check()
        flusher.stop()


def test_a_partition_that_somebody_else_claimed_is_claimed_again_without_a_record(
    writebehind_isolated: Isolation, tmp_path: Path
) -> None:
    """Somebody who had not heard that the partition is ours, committed something, and died before he settled it."""
    with world(writebehind_isolated, tmp_path, Counter, partitions=1) as w:
        w.put(Counter, 1, hits=1)
        w.flusher()
        w.wait_flushed()
        w.wait(lambda: _standing(w)[1:] == (1, 1), "the flusher to say that the cache knows")
        epoch = _standing(w)[0]

        w.execute(
            f'UPDATE "{w.corner.bookkeeping_schema}".progress '
            "SET owner_epoch = owner_epoch + 1, owner = 'somebody', settled_offset = 0"
        )

        w.wait(lambda: _standing(w) == (epoch + 2, 1, 1), "the partition to be claimed, and the cache told")
        w.check()


def _standing(w: World) -> tuple[int, int, int]:
    [row] = w.query("SELECT owner_epoch, next_offset, settled_offset FROM {}.progress")
    return row
