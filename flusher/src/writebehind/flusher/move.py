"""Moving a partition's progress by hand: what it skips, repeats and cannot bring back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from writebehind.shared.errors import ConfigurationError

from .gap import Gap, Log, Progress, gap


@dataclass(frozen=True, slots=True)
class Standing:
    """A partition as both sides see it. `log` None: the broker does not have it; `stored` None: nobody claimed it."""

    topic: str
    partition: int
    stored: Progress | None
    log: Log | None

    @property
    def gap(self) -> Gap | None:
        """What stops it."""
        return gap((self.topic, self.partition), self.stored, self.log) if self.stored and self.log else None

    def as_json(self) -> dict[str, Any]:
        """The stable JSON form."""
        stored = (
            None
            if self.stored is None
            else {"topic_id": self.stored.topic_id, "next_offset": self.stored.next_offset, "owner": self.stored.owner}
        )
        found = self.gap
        stopped = (
            None if found is None else {"reason": found.reason, "records": found.records, "command": found.command}
        )
        broker = None if self.log is None else asdict(self.log)
        return {"topic": self.topic, "partition": self.partition, "stored": stored, "broker": broker, "gap": stopped}


@dataclass(frozen=True, slots=True)
class Move:
    """What moving a partition's progress does. `skipped`: records the broker has and nobody will flush; `repeated`:
    records that were flushed and will be again; `lost`: records the broker lost before, None when nobody can know.
    """

    topic: str
    partition: int
    topic_id: str
    before: int | None
    offset: int
    skipped: int
    repeated: int
    lost: int | None

    def lines(self) -> Iterable[str]:
        """What somebody must know before agreeing."""
        before = "nobody has claimed it" if self.before is None else f"it stands at offset {self.before}"
        yield f"{self.topic}[{self.partition}]: {before}, and will go on at offset {self.offset}"
        if self.lost != 0:
            yield f"  lost: {'unknown, with the old topic' if self.lost is None else f'{self.lost:,} records'}"
        yield f"  skipped: {self.skipped:,} records"
        yield f"  repeated: {self.repeated:,} records"

    def check(self, *, repeat: bool) -> None:
        """Raises ConfigurationError when increments would be counted twice and nobody agreed to that."""
        if self.repeated and not repeat:
            raise ConfigurationError(
                f"{self.topic}[{self.partition}]: {self.repeated:,} records would be flushed a second time, and their "
                "increments counted twice; give --repeat if that is what you want"
            )


def plan(standing: Standing, wanted: str) -> Move:
    """What going on at `wanted` (a number, `earliest` or `latest`) does. Pure. Raises ConfigurationError."""
    topic, partition, stored, broker = standing.topic, standing.partition, standing.stored, standing.log
    name = f"{topic}[{partition}]"
    if broker is None:
        raise ConfigurationError(f"{name}: the broker has no such partition")
    named = {"earliest": broker.start, "latest": broker.end}
    if wanted not in named and not wanted.isdecimal():
        raise ConfigurationError(f"--offset {wanted}: give a number, earliest or latest")
    offset = named.get(wanted) if wanted in named else int(wanted)
    if offset is None or not broker.start <= offset <= broker.end:
        raise ConfigurationError(f"{name}: offset {offset} is outside the log, {broker.start} to {broker.end}")
    move = Move(topic, partition, broker.topic_id, None if stored is None else stored.next_offset, offset, 0, 0, 0)
    if stored is None or stored.topic_id != broker.topic_id:
        # Nothing of this topic was ever flushed.
        return replace(move, skipped=offset - broker.start, lost=None if stored else 0)
    found = standing.gap
    flushed = min(max(stored.next_offset, broker.start), broker.end)  # as far as the log goes
    return replace(
        move,
        skipped=max(0, offset - flushed),
        repeated=max(0, flushed - offset),
        lost=found.records if found else 0,
    )
