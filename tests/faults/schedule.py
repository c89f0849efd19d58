"""Which fault comes when: a plan made from a seed, the same for the same seed and length. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.proxy import Moment

ADVANCE: Final = 'SELECT "writebehind"."advance"'

#: Where a flusher is killed: server, request and moment, and what has happened by then.
POINTS: Final = (
    ("database", "BEGIN", Moment.BEFORE_REQUEST),  # consumed, decoded, folded
    ("database", "BEGIN", Moment.BEFORE_REPLY),  # the transaction is open
    ("database", ADVANCE, Moment.BEFORE_REQUEST),
    ("database", ADVANCE, Moment.BEFORE_REPLY),  # the progress rows are locked and moved
    ("database", "MERGE", Moment.AFTER_REQUEST),
    ("database", "MERGE", Moment.BEFORE_REPLY),  # all is done but the COMMIT
    ("database", "COMMIT", Moment.BEFORE_REQUEST),
    ("database", "COMMIT", Moment.BEFORE_REPLY),  # committed, and the flusher does not know
    ("database", "COMMIT", Moment.AFTER_REPLY),  # it knows, and has not settled
    ("cache", "EVALSHA", Moment.BEFORE_REQUEST),
    ("cache", "EVALSHA", Moment.BEFORE_REPLY),  # settled, and it does not know
    ("cache", "EVALSHA", Moment.AFTER_REPLY),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing that can go wrong. `what` is the server, state or point it is about; `cache`: reads may be stale."""

    family: str
    name: str
    what: str = ""
    seconds: float = 0.0
    cache: bool = False

    def __str__(self) -> str:
        return " ".join(part for part in (self.family, self.name, self.what) if part)


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault of a run: when it begins, in seconds from the start, for how long, and on which flusher."""

    number: int
    at_s: float
    variant: Variant
    seconds: float
    slot: int

    def __str__(self) -> str:
        length = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at_s:7.1f} s  {self.variant}{length}, flusher {self.slot}"


VARIANTS: Final = (
    Variant("F1", "kill -9"),
    *[Variant("F1", "kill -9 of a writer", str(n)) for n in range(4)],
    *(Variant("F2", "kill -9 at a point", str(n), cache=True) for n in range(len(POINTS))),
    Variant("F3", "zombie", seconds=8.0),
    Variant("F4", "stopped", "postgres", 4.0),
    Variant("F5", "stopped", "kafka", 5.0),
    Variant("F6", "stopped", "valkey", 3.0, cache=True),
    Variant("F7", "killed", "postgres", 1.0),
    Variant("F7", "killed", "kafka", 1.0),
    Variant("F7", "killed", "valkey", 1.0, cache=True),
    Variant("F8", "reset", "database"),
    Variant("F8", "reset", "cache", cache=True),
    Variant("F8", "black hole", "database", 5.0),
    Variant("F8", "black hole", "cache", 7.0, cache=True),
    Variant("F8", "delay", "database", 4.0),
    Variant("F8", "delay", "cache", 4.0, cache=True),
    Variant("F8", "slices", "database", 4.0),
    Variant("F8", "reply cut", "COMMIT"),
    Variant("F8", "reply cut", "EVALSHA", cache=True),
    # Between the services and their servers: whoever writes is told what became of it, whatever is cut.
    Variant("F8", "reset", "producers' broker"),
    Variant("F8", "reset", "producers' database"),
    Variant("F8", "reset", "producers' cache", cache=True),
    Variant("F8", "black hole", "producers' broker", 6.5),  # longer than a call may take
    Variant("F8", "black hole", "producers' database", 3.0),
    Variant("F8", "black hole", "producers' cache", 3.0, cache=True),
    Variant("F8", "delay", "producers' broker", 3.0),
    Variant("F8", "delay", "producers' cache", 3.0, cache=True),
    Variant("F8", "slices", "producers' broker", 3.0),
    Variant("F8", "slices", "producers' cache", 3.0, cache=True),
    Variant("F8", "replies lost", "producers' broker", 1.0),
    Variant("F8", "replies lost", "producers' cache", 1.0, cache=True),
    Variant("F9", "backends terminated"),
    Variant("F9", "read-only", seconds=3.0),
    Variant("F9", "connections exhausted", seconds=3.0),
    Variant("F9", "foreign lock", seconds=3.0),
    Variant("F9", "deadlock partner", seconds=3.0),
    Variant("F10", "disk full", seconds=4.0),
    Variant("F11", "FLUSHALL", cache=True),
    Variant("F11", "SCRIPT FLUSH", cache=True),
    Variant("F11", "CLIENT KILL", cache=True),
    Variant("F11", "out of memory", seconds=3.0, cache=True),
    Variant("F12", "joins and leaves", seconds=3.0),
    Variant("F16", "SIGTERM", "consuming"),
    Variant("F16", "SIGTERM", "in a statement"),
    Variant("F16", "SIGTERM", "backing off"),
    Variant("F16", "SIGTERM", "black hole"),
    Variant("F16", "SIGTERM", "broker stopped"),
    Variant("F16", "SIGTERM", "broker stopped"),
)

GAP_S: Final = 9.0  # from the start of one fault to the next: longer than a group needs to notice a death

ROOM_S: Final = 12.0  # kept free at the end of a round, so that its last fault fits whichever it is


def plan(
    seed: int, seconds: float, *, families: Iterable[str] = (), variants: Sequence[Variant] = VARIANTS, slots: int = 2
) -> list[Planned]:
    """Rounds of all variants, each round shuffled, until the time is full. `families`: these only, such as F2."""
    chance = random.Random(seed)
    wanted = set(families)
    chosen = [variant for variant in variants if not wanted or variant.family in wanted]
    planned: list[Planned] = []
    gap_s = min(GAP_S, max(GAP_S / 2, (seconds - ROOM_S) / max(1, len(chosen))))
    while True:
        for variant in chance.sample(chosen, len(chosen)):
            number = len(planned)
            at_s = 2.0 + number * gap_s
            if at_s + variant.seconds > seconds:
                return planned
            # Flushers in turn: one that was just killed gets partitions only when the group has noticed.
            length_s = variant.seconds * (1.0 if variant.family == "F3" else chance.uniform(0.7, 1.3))
            planned.append(Planned(number, at_s, variant, length_s, number % slots))
