"""An audit at the worst moment: an entry that it repairs is written just before, another one waits to be flushed."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import Final

from tests.faults import after
from tests.faults.checkers import Violation
from tests.faults.checkers_audit import check_audit
from tests.faults.checkers_cache import check_reads
from tests.faults.entities import Session
from tests.faults.histories import Op, Outcome, Read
from tests.faults.planting import Bug, planted
from tests.faults.proxy import Moment, Proxy
from tests.faults.wire import Redis
from tests.faults.world import World, load, through
from writebehind.flusher.audit.options import Options, Repair
from writebehind.flusher.audit.run import audit
from writebehind.flusher.audit.suspects import Patience
from writebehind.producer import Client
from writebehind.shared.declaration import declaration_of
from writebehind.shared.registry import Registry

_KEYS: Final = itertools.count(10**15)  # of no workload
_WORKLOAD: Final = "coherence"
_PATIENCE: Final = Patience(confirm_s=0.0, delivery_s=0.0, wait_s=2.0)


def raced(world: World, bug: Bug | None) -> list[Violation]:
    """What is wrong: a read of the writer's that is older than its write, or drift that is none. No flusher may run."""
    drifted, pending = next(_KEYS), next(_KEYS)
    ops: list[Op] = []
    with Client.open(world.settings) as client, Proxy(world.cache_port, Redis) as proxy:
        with world.connect() as connection:
            connection.execute("INSERT INTO fault_sessions (id, step) VALUES (%s, 1)", (drifted,))
            client.get(Session, drifted)  # it is cached now
            connection.execute("UPDATE fault_sessions SET note = 1 WHERE id = %s", (drifted,))
        client.update(Session, pending, step=1)

        def write() -> None:
            began = time.monotonic()
            receipt = client.update(Session, drifted, step=2)
            ended = time.monotonic()
            ops.append(Op("race", 1, "step", drifted, {"step": 2}, began, ended, Outcome.OK, receipt.version))

        proxy.trap("EVALSHA", Moment.BEFORE_REQUEST, write)  # the first thing that an audit changes
        run = _audited(world, proxy, [drifted, pending], bug)
        began = time.monotonic()
        row = client.get(Session, drifted)
        read = Read("race", drifted, None if row is None else {"step": row.step}, began, time.monotonic())
    findings = [finding for finding in after.findings(world) if finding.run == run]
    return check_reads(_WORKLOAD, ops, [read], "step", ()) + check_audit(findings, {_WORKLOAD: {drifted}})


def _audited(world: World, proxy: Proxy, keys: list[int], bug: Bug | None) -> int:
    """The number of an audit that repairs, through the proxy."""
    url = through(world.stack.cache_url, proxy.port)
    settings = load(world.env | {"WRITEBEHIND_CACHE__URL": url})
    options = Options(
        (declaration_of(Session).name,),
        keys=tuple(map(str, keys)),
        patience=_PATIENCE,
        repair=Repair.AUTO,
        apply=True,
    )
    bugged = planted(bug) if bug is not None else contextlib.nullcontext()
    with bugged, audit(settings, Registry([Session]), options) as job:
        return job.run(lambda _seen, _total: None, resume=False).run
