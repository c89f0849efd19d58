"""Entries that did not look right at first sight, until they can be judged. Pure: times are passed in.

No entry is judged by one look. Traffic changes cache and row at different moments, and what is under way looks like
drift until it has arrived. So an entry is looked at again, cache then row then cache, and it counts only
when neither has changed for a while, and everything that was enqueued before the first look is in the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .diff import Comparer, Row, Verdict
from .entry import Cached, Found, Unreadable

FIRST_LOOK_S = 0.5
Ends = Mapping[tuple[str, int], int]  # (topic id, partition): the end of its log


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things must stay as they are, in seconds.

    confirm_s: before a difference counts as drift; longer than a flusher may take to settle what it committed.
    delivery_s: after an entry's last write, before a record that is not there counts as never enqueued.
    wait_s: after the first look, before a suspect that is still moving counts as pending.
    """

    confirm_s: float
    delivery_s: float
    wait_s: float


@dataclass(slots=True)
class Suspect:
    """An entry under suspicion: what it was when it was seen last, and since when it is that."""

    entity: str
    key: tuple[Any, ...]
    key_text: str
    found: Cached | Unreadable
    row: Row | None
    since: float
    born: float


@dataclass(slots=True)
class Group:
    """Suspects that were seen before the same ends were noted. `cursor`: where the scan stood before the first."""

    cursor: Any
    suspects: list[Suspect]
    ends: Mapping[str, Ends] = field(default_factory=dict[str, Ends])  # by entity; none: there is no such topic
    noted: float = 0.0
    next_look: float = 0.0
    passed: set[str] = field(
        default_factory=set[str]
    )  # entities whose records up to the ends are in the database, or whose invalidations are carried out

    def schedule(self, now: float, patience: Patience) -> None:
        """When to look again: soon at first, then less often, and in time to confirm."""
        age = now - self.noted
        delay = max(FIRST_LOOK_S, age)
        if age < patience.confirm_s:
            delay = min(delay, patience.confirm_s - age)
        self.next_look = now + max(delay, 0.05)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a look was made: by our clock, in seconds, and by the cache's, in microseconds."""

    now: float
    cache_us: int


# What comes of a look: a verdict; MOVED, to be looked at as if for the first time; WAIT; or GONE.
MOVED, WAIT, GONE = "moved", "wait", "gone"


def look(  # noqa: PLR0913  # two reads of an entry, one of its row, and what each is held against
    suspect: Suspect,
    before: Found,
    row: Row | None,
    after: Found,
    at: Moment,
    comparer: Comparer,
    patience: Patience,
    *,
    flushed: bool,
    letters: Iterable[int] = (),
) -> Verdict | str:
    """What another look says. `before` and `after` are the entry before and after its row was read."""
    # 1. It is gone: it expired, was deleted, or the cache lost everything.
    if before is None or after is None:
        return GONE
    waited = at.now - suspect.born >= patience.wait_s
    # 2. It has changed since, or the row has: traffic. In sync counts at once.
    if before != suspect.found or after != before or not same_row(row, suspect.row):
        calm = isinstance(after, Cached) and after == before and not after.kept.pending
        if calm and isinstance(after, Cached) and not comparer.differences(after, row):
            return Verdict.IN_SYNC
        return Verdict.PENDING if waited else MOVED
    if isinstance(after, Unreadable):
        return Verdict.UNREADABLE
    # 3. It is as it was, and so is the row, but not for long enough.
    unchanged_s = at.now - suspect.since
    if unchanged_s < patience.confirm_s:
        return WAIT
    # 4. What was under way has arrived. Whether a pending record exists is known when it had time to be enqueued; a
    # direct write that could not tell the cache enqueued its invalidation before it wrote the row.
    if after.kept.pending:
        written_s = (at.cache_us - after.kept.version) / 1e6
        arrived = flushed and max(written_s, unchanged_s) >= patience.delivery_s
    else:
        arrived = flushed or not comparer.is_direct
    if arrived:
        return comparer.judge(after, row, flushed=True, letters=letters)
    return Verdict.PENDING if waited else WAIT


def same_row(left: Row | None, right: Row | None) -> bool:
    """Whether two reads of a row gave the same; NaN is the same as itself."""
    return repr(left) == repr(right) if left is not None and right is not None else left is right


def passed(ends: Ends, progress: Ends) -> bool:
    """Whether everything below the ends is in the database. A partition that was made again is another one."""
    return all(end == 0 or progress.get(place, -1) >= end for place, end in ends.items())


def oldest_cursor(groups: Sequence[Group], cursor: Any) -> Any:
    """Where a run that is interrupted now has to begin again."""
    return groups[0].cursor if groups else cursor
