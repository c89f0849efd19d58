"""Gaps: what the broker lost before it was flushed. Pure: what Postgres says of a partition, what the broker says.

A gap is never stepped over in silence. It stops the partition, and names its size and the command that goes on.
"""

from __future__ import annotations

from dataclasses import dataclass

BY_HAND = "progress set by "  # how the owner of a row begins that was moved by hand


@dataclass(frozen=True, slots=True)
class Log:
    """What the broker says of a partition: the topic's id, the first offset it still has and the next one it
    will give.
    """

    topic_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What Postgres says of a partition."""

    topic_id: str
    next_offset: int
    epoch: int
    owner: str

    @property
    def by_hand(self) -> bool:
        """Whether somebody moved it, and no flusher has claimed it since."""
        return self.owner.startswith(BY_HAND)


@dataclass(frozen=True, slots=True)
class Gap:
    """A loss at the broker. `records`: how many, None when nobody can know; `offset`: where to go on without them."""

    topic: str
    partition: int
    reason: str
    records: int | None
    offset: str

    @property
    def command(self) -> str:
        """What resolves it, once somebody has seen it."""
        return resolution((self.topic, self.partition), self.offset)

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]: {self.reason}; to go on without them: `{self.command}`"


def resolution(place: tuple[str, int], offset: str | int) -> str:
    """The command that makes a partition go on at an offset."""
    return f"writebehind progress set {place[0]} {place[1]} --offset {offset}"


def gap(place: tuple[str, int], progress: Progress, log: Log) -> Gap | None:
    """Why flushing on from `progress` would hide a loss, or None. Pure."""
    if progress.topic_id != log.topic_id:
        reason = (
            f"the topic was deleted and created again (id {progress.topic_id}, now {log.topic_id}); "
            f"what was not flushed by offset {progress.next_offset} is gone with the old one"
        )
        return Gap(*place, reason, None, "earliest")
    if progress.next_offset < log.start:
        lost = log.start - progress.next_offset
        reason = (
            f"{lost} records from offset {progress.next_offset} on expired before they were flushed "
            f"(the log starts at {log.start})"
        )
        return Gap(*place, reason, lost, "earliest")
    if progress.next_offset > log.end:
        missing = progress.next_offset - log.end
        reason = (
            f"the log ends at {log.end}, {missing} records before what Postgres already has: the broker lost its "
            "tail, and what was written there since cannot be told apart"
        )
        return Gap(*place, reason, missing, "latest")
    return None
