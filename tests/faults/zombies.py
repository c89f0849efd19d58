"""Zombies, again and again: `make zombies`.

Two flushers share the partitions of a counter and a register under load. In each cycle one that owns partitions is
suspended (SIGSTOP) until the other one has taken them over and flushed, and then goes on (SIGCONT) with whatever it had
in hand. The database itself notes which process every row came from; in the end no row may be an old owner's, nothing
may have gone back, and all that was acknowledged is there once. One line of JSON; exit code 1 when a promise was broken
or no zombie ever ran into the fence, 2 when the run could not be carried out.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import time
from collections import Counter as Count
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer

from tests.faults import after, checkers, ownership
from tests.faults.auditing import audit_until_clean
from tests.faults.checkers import Fault
from tests.faults.checkers_owners import Findings, check_owners
from tests.faults.crew import Crew, Member
from tests.faults.entities import Counter, Register
from tests.faults.fleet import Slot
from tests.faults.histories import Outcome
from tests.faults.proxy import Proxy
from tests.faults.run import REPORTS
from tests.faults.wire import Postgres
from tests.faults.workloads import KINDS
from tests.faults.world import World, world
from tests.faults.zombie_cycles import Cycles
from writebehind.embedded import EmbeddedError
from writebehind.embedded.supervisor import Supervisor

CREW: Final = (Member("counter", 0, 100.0), Member("register", 0, 60.0), Member("register", 1, 60.0))
ENTITIES: Final = tuple(f"{cls.__module__}:{cls.__name__}" for cls in (Counter, Register))
#: The broker tells of a change in the group when it hears from a member: often, so that a cycle is mostly the session.
BEATS: Final = {"WRITEBEHIND_KAFKA__OPTIONS": '{"heartbeat.interval.ms": "500"}'}
SETTLE_S: Final = 4.0  # until the cache has heard of the last batch
AUDIT_TIMEOUT_S: Final = 60.0
SHOWN_MAX: Final = 10
_FENCED: Final = "ERROR:  fenced: "


@dataclass(slots=True)
class Outcomes:
    """What a run ended in. `problems`: broken promises, and reasons for which the run proves nothing."""

    hand_overs: int = 0
    took_s: float = 0.0
    records: int = 0
    fenced: int = 0
    owners: Findings = field(default_factory=Findings)
    faults: Count[Fault] = field(default_factory=Count)
    problems: list[str] = field(default_factory=list)

    def line(self, cycles: int) -> dict[str, int]:
        """What the line of JSON says."""
        return {
            "cycles": cycles,
            "hand_overs": self.hand_overs,
            "rows_from_old_owner": self.owners.rows_from_old_owner,
            "gone_back": self.owners.gone_back,
            "fenced": self.fenced,
            "records": self.records,
            "lost": self.faults[Fault.LOST],
            "duplicated": self.faults[Fault.DUPLICATED],
            "took_s": round(self.took_s),
        }


def run(cycles: int, seed: int, folder: Path, say: Callable[[str], None], *, unfenced: bool) -> Outcomes:
    """The whole run. Whatever was started is ended when this returns or raises."""
    outcomes = Outcomes()
    with ExitStack() as opened:
        servers = opened.enter_context(world(folder))
        connection = opened.enter_context(servers.connect())
        proxies = [opened.enter_context(Proxy(servers.database_port, Postgres)) for _ in range(2)]
        supervisor = opened.enter_context(closing(Supervisor()))
        env = servers.env | BEATS
        ownership.install(connection)
        if unfenced:
            ownership.remove_fence(connection)
        first, second = (
            Slot(supervisor, ownership.as_writer(env, number), folder, number, {"database": proxy}, entities=ENTITIES)
            for number, proxy in enumerate(proxies)
        )
        crew = Crew(supervisor, servers, folder)
        turns = Cycles(connection, (first, second), random.Random(seed))
        for slot in (first, second):
            slot.start()
        crew.start(CREW, seed=seed, poison=0.0)
        began = time.monotonic()
        for number in range(cycles):
            turns.run(number)
            say(f"{time.monotonic() - began:6.1f} s  cycle {number + 1}, {turns.hand_overs} partitions handed over")
        outcomes.took_s, outcomes.hand_overs = time.monotonic() - began, turns.hand_overs
        outcomes.problems = crew.ended() + crew.stop()
        consumer = servers.consumer()
        turns.wait(lambda: _lag(servers, consumer, connection) == 0, "everything to be flushed")
        consumer.close()
        time.sleep(SETTLE_S)
        outcomes.problems += audit_until_clean(servers, AUDIT_TIMEOUT_S)
        outcomes.problems += turns.problems + [
            f"flusher {slot.number} ended with {code} {took_s:.1f} s after SIGTERM"
            for slot in (first, second)
            for took_s, code in [slot.stop()]
            if code != 0
        ]
        _judge(outcomes, servers, crew, connection)
    return outcomes


def _lag(servers: World, consumer: Consumer, connection: psycopg.Connection[Any]) -> int:
    ends, flushed = servers.ends(consumer), servers.flushed(connection)
    return sum(end - flushed.get(place, 0) for place, end in ends.items())


def _judge(outcomes: Outcomes, servers: World, crew: Crew, connection: psycopg.Connection[Any]) -> None:
    """Compare the tables with what the writers were told, and every row's writer with its owner."""
    found = crew.told()
    violations = after.check(found, after.gather(servers, after.compared_keys(found)), [])
    outcomes.faults = Count(violation.fault for violation in violations)
    outcomes.owners = check_owners(ownership.notes(connection))
    # The server's own word for it: a flusher that has heard of its loss meanwhile does not mention it.
    outcomes.fenced = servers.stack.postgres.log_path.read_text(errors="replace").count(_FENCED)
    for name, of_name in found.items():
        ops = [op for history in of_name for op in history.ops]
        outcomes.records += sum(op.outcome is Outcome.OK for op in ops)
        outcomes.problems += checkers.never_succeeded(name, KINDS[name], ops)
        outcomes.problems += [error for history in of_name for error in history.unexpected]
    outcomes.problems += [str(violation) for violation in violations] + outcomes.owners.examples
    if not outcomes.fenced:
        outcomes.problems.append("no zombie ever ran into the fence: this run proves nothing")


def main() -> int:
    """Run, print, and say by the exit code what came of it."""
    args = _arguments()
    folder = REPORTS / "zombies"
    shutil.rmtree(folder, ignore_errors=True)

    def say(text: str) -> None:
        if not args.json:
            print(text, file=sys.stderr, flush=True)

    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(10**6)
    say(f"seed {seed}; histories and logs: {folder}")
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        outcomes = run(args.cycles, seed, folder, say, unfenced=args.unfenced)
    except EmbeddedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in outcomes.problems[:SHOWN_MAX]:
        say(problem)
    print(json.dumps(outcomes.line(args.cycles)), flush=True)
    return 1 if outcomes.problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=100, help="how many zombies (100)")
    parser.add_argument("--seed", type=int, help="of an earlier run, to have its moments and writes again")
    parser.add_argument("--unfenced", action="store_true", help="plant a bug, the missing fence: the run must fail")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
