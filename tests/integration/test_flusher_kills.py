"""The flusher killed, or cut off, at each step of a batch: every total stays exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.proxy import Moment, Proxy
from tests.faults.wire import Postgres, Redis
from tests.integration.flusher_entities import Counter, Item
from tests.integration.flusher_process import Flusher
from tests.integration.flusher_world import World, world
from writebehind.embedded.isolation import Isolation
from writebehind.shared.scripts import SETTLE

POINTS = [
    # where, request, moment: what has happened by then
    ("database", "BEGIN", Moment.BEFORE_REQUEST),  # consumed, decoded, folded
    ("database", "BEGIN", Moment.BEFORE_REPLY),  # the transaction is open
    ("database", "SELECT {advance}", Moment.BEFORE_REQUEST),
    ("database", "SELECT {advance}", Moment.BEFORE_REPLY),  # the progress rows are locked and moved
    ("database", "MERGE", Moment.AFTER_REQUEST),
    ("database", "MERGE", Moment.BEFORE_REPLY),  # all is done but the COMMIT
    ("database", "COMMIT", Moment.BEFORE_REQUEST),
    ("database", "COMMIT", Moment.BEFORE_REPLY),  # committed, and the flusher does not know
    ("database", "COMMIT", Moment.AFTER_REPLY),  # it knows, and has not settled
    ("cache", "EVALSHA", Moment.BEFORE_REQUEST),
    ("cache", "EVALSHA", Moment.BEFORE_REPLY),  # settled, and it does not know
    ("cache", "EVALSHA", Moment.AFTER_REPLY),
]


class Faulty:
    """A world whose flushers reach the servers through proxies."""

    def __init__(self, w: World, database: Proxy, cache: Proxy) -> None:
        self.w = w
        self.proxies = {"database": database, "cache": cache}
        w.cache.script_load(SETTLE.text)  # so that the first EVALSHA is a settlement, and not refused

    def flusher(self, **env: str) -> Flusher:
        return self.w.flusher(**self.w.through(**self.proxies), **env)

    def statement(self, text: str) -> str:
        """The start of a statement, with the name of the function that moves the progress rows."""
        return text.format(advance=f'"{self.w.corner.bookkeeping_schema}"."advance"')


@contextmanager
def faulty(w: World) -> Iterator[Faulty]:
    with w.database_proxy(Postgres) as database, w.cache_proxy(Redis) as cache:
        yield Faulty(w, database, cache)


def test_kill_at_each_step_of_a_batch(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter) as w, faulty(w) as f:
        for number, (server, request, moment) in enumerate(POINTS):
            # A group of its own each time: nobody has to wait until the dead one's session has run out.
            flusher = f.flusher(WRITEBEHIND_FLUSHER__GROUP=f"{w.corner.group}-{number}").wait_ready()
            w.wait_flushed()
            trap = f.proxies[server].trap(f.statement(request), moment, flusher.kill, cut=True)
            w.load(Counter, 50, seed=number)
            w.wait(trap.hit.is_set, f"{request}: {moment}")
        w.flusher()
        w.wait_flushed()
        w.check()


def test_cut_off_at_each_step_of_a_batch(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Item) as w, faulty(w) as f:
        flusher = f.flusher().wait_ready()
        for number, (server, request, moment) in enumerate(POINTS):
            trap = f.proxies[server].trap(f.statement(request), moment, cut=True)
            w.load(Counter, 50, seed=number)
            for key in range(5):
                w.put(Item, key, title=f"{request} {number}", stock=1, best=number)
            w.wait(trap.hit.is_set, f"{request}: {moment}")
            w.wait_flushed()
            w.check()
        flusher.stop()


def test_a_network_that_delays_and_slices_changes_nothing(writebehind_isolated: Isolation, tmp_path: Path) -> None:
    with world(writebehind_isolated, tmp_path, Counter, Item) as w, faulty(w) as f:
        for proxy in f.proxies.values():
            for flow in (proxy.to_server, proxy.to_client):
                flow.slice_bytes, flow.delay_s = 500, 0.0001
        flusher = f.flusher()
        for number in range(5):
            w.load(Counter, 200, seed=number)
            w.put(Item, number, title="sliced", stock=1)
            w.send()
            w.wait(lambda: any(w.progress(Counter).values()), "something to be flushed")
            f.proxies["database"].reset()
        for proxy in f.proxies.values():
            proxy.to_client.stall()
            w.load(Counter, 200)
            proxy.to_client.flow()
        w.wait_flushed()
        w.check()
        flusher.stop()
