"""What a seed stands for: who writes what, what the world does meanwhile, and what goes wrong at which call."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from .entities import WRITES_MAX

Kind = Literal["update", "delete", "read", "wipe", "expire", "rebalance", "kill", "start", "wait"]
# At a call to a server: end the process, or answer with an error, before or after the call had its effect; let others
# go on for a while, or (suspend) for so long that the group gives the process's partitions away.
FaultKind = Literal["crash_before", "crash_after", "error_before", "error_after", "wait", "suspend", "special"]

WORLD = -1  # the actor of what no client does

# Every kind of call, by who makes it. `special` is a wrong answer of its own kind, see the port.
CLIENT_POINTS = ("write", "undo", "lease", "fill", "read", "drop", "base", "send", "append")
FLUSHER_POINTS = (
    *("claim", "progress", "describe", "watermarks", "consume", "seek"),
    *("begin", "advance", "tombstones", "merge", "bury", "delete", "reset", "savepoint", "letter", "commit"),
    *("committed", "select", "owned", "settle", "doubt", "heal", "forget", "letter_sent"),
)
POINTS = (*(f"client.{point}" for point in CLIENT_POINTS), *(f"flusher.{point}" for point in FLUSHER_POINTS))
# Calls that decide what is durable go wrong more often.
FAVOURED = (
    "client.append",
    "client.write",
    "client.undo",
    "client.fill",
    "flusher.commit",
    "flusher.merge",
    "flusher.settle",
    "flusher.doubt",
    "flusher.heal",
)


@dataclass(frozen=True)
class Op:
    """One call of a client, or one thing that the world does. `number` tells writes apart."""

    number: int
    actor: int
    kind: Kind
    key: int = 0
    fields: tuple[str, ...] = ()
    poison: bool = False

    def __str__(self) -> str:
        who = "world" if self.actor == WORLD else f"client {self.actor}"
        what = f" {','.join(self.fields)}" if self.fields else ""
        return f"{who}: {self.kind} {self.key}{what}{' (poison)' if self.poison else ''} [{self.number}]"


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the nth call (from 0) at a point."""

    point: str
    nth: int
    kind: FaultKind
    flavour: int = 0  # which error, or how long a wait

    def __str__(self) -> str:
        return f"{self.kind} at {self.point} #{self.nth} ({self.flavour})"


@dataclass(frozen=True)
class Plan:
    """A history to be. The same plan gives the same history."""

    seed: int
    clients: int
    deletes: bool
    old_rows: int  # keys below this have a row before anything is written
    ops: tuple[Op, ...]
    faults: tuple[Fault, ...]
    schedule: int  # who goes on when; a seed of its own, so that it survives the shrinking of the rest

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.clients} clients, {'with' if self.deletes else 'no'} deletes"
        return "\n".join([head, *(f"  {op}" for op in self.ops), *(f"  fault: {fault}" for fault in self.faults)])


def make(seed: int) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    deletes = rng.random() < 0.4
    clients, keys = rng.randint(1, 3), rng.choice([1, 1, 2, 3])
    poison = rng.choice([0.0, 0.0, 0.1, 0.3])
    count = rng.randint(8, WRITES_MAX)
    ops = tuple(_op(rng, number, clients, keys, deletes, poison) for number in range(count))
    faults = tuple(_fault(rng) for _ in range(rng.choice([0, 1, 1, 2, 3, 4, 6])))
    if rng.random() < 0.1:  # a flusher that could not tell the cache, and ends before it can
        untold = Fault("flusher.settle", rng.randrange(3), "error_before")
        faults = (*faults, untold, Fault("flusher.doubt", rng.randrange(2), "crash_before"))
    return Plan(seed, clients, deletes, rng.randint(0, keys), ops, faults, rng.getrandbits(32))


def _op(rng: random.Random, number: int, clients: int, keys: int, deletes: bool, poison: float) -> Op:
    actor, key = rng.randrange(clients), rng.randrange(keys)
    chance = rng.random()
    if chance < 0.14:
        kinds: list[Kind] = ["wait", "wait", "expire", "rebalance", "rebalance", "kill", "start", "wipe"]
        return Op(number, WORLD, rng.choice(kinds), key)
    if chance < 0.32:
        return Op(number, actor, "read", key)
    if deletes and chance < 0.42:
        return Op(number, actor, "delete", key)
    fields = rng.choice([("name",), ("note",), ("score",), ("name", "score"), ("best",), ("name", "note", "best")])
    return Op(number, actor, "update", key, fields, rng.random() < poison and fields[0] in ("name", "note"))


def _fault(rng: random.Random) -> Fault:
    kinds: list[FaultKind] = ["crash_before", "crash_after", "error_before", "error_after", "special", "suspend"]
    kind: FaultKind = "wait" if rng.random() < 0.35 else rng.choice(kinds)
    point = rng.choice(FAVOURED if rng.random() < 0.4 else POINTS)
    if point == "client.append" and rng.random() < 0.4:
        kind = "special"  # a refusal, which is undone
    if kind == "suspend" and not point.startswith("flusher"):
        kind = "wait"
    return Fault(point, int(rng.expovariate(0.35)), kind, rng.randrange(16))
