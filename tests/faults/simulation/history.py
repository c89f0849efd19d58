"""What a run leaves behind: data only, for the checkers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from writebehind.shared.declaration import Declaration

from .plan import Op, Plan
from .table import TableRow

Outcome = Literal["acknowledged", "failed", "unknown"]


@dataclass
class Call:
    """One call of a client. Times are places in the order of events; `answered` None: its process died before.

    `cached`: the cache script applied it. `seen` is what a read returned, None for no row; `read` whether it returned.
    """

    op: Op
    invoked: int
    answered: int | None = None
    outcome: Outcome = "unknown"
    version: int = 0
    cached: bool = False
    seen: dict[str, Any] | None = None
    read: bool = False


@dataclass(frozen=True)
class Logged:
    """A record on the topic, of write `number`."""

    partition: int
    offset: int
    number: int
    key: int
    version: int
    patch: dict[str, Any]  # empty: a delete


@dataclass
class History:
    """Everything the checkers look at, after all is quiet."""

    plan: Plan
    declaration: Declaration
    calls: list[Call] = field(default_factory=list)
    log: list[Logged] = field(default_factory=list)
    rows: dict[int, TableRow] = field(default_factory=dict)
    old_rows: dict[int, TableRow] = field(default_factory=dict)
    progress: dict[int, int] = field(default_factory=dict)  # next offset per partition
    flushed: dict[tuple[int, int], int] = field(default_factory=dict)  # when a partition's offset was committed
    letter_rows: set[tuple[int, int]] = field(default_factory=set)  # partition and offset
    letters_sent: set[tuple[int, int]] = field(default_factory=set)  # acknowledged by the broker
    entries: dict[int, dict[str, str]] = field(default_factory=dict)
    shown: dict[int, dict[str, Any] | None] = field(default_factory=dict)  # what a read of each key gives at the end
    doubted: dict[int, int] = field(default_factory=dict)  # keys whose entries were put in doubt, with the last time
    excused: set[int] = field(default_factory=set)  # keys whose entry the loss matrix leaves to the audit
    disturbed: dict[int, int] = field(default_factory=dict)  # keys whose entry a fault touched, with the first time
    went_back: list[str] = field(default_factory=list)  # versions or progress, as they happened
    errors: list[str] = field(default_factory=list)  # what no fault explains
    stuck: str | None = None
    crashes: int = 0
    fired: set[tuple[str, str]] = field(default_factory=set)  # faults that happened: point and kind
    trace: list[str] = field(default_factory=list)
    events: int = 0

    def event(self) -> int:
        """The next place in the order of events."""
        self.events += 1
        return self.events


@dataclass(frozen=True)
class Violation:
    """A promise that a history breaks."""

    checker: str
    what: str

    def __str__(self) -> str:
        return f"{self.checker}: {self.what}"
