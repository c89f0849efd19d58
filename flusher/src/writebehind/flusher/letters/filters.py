"""Which letters a command is about. Pure: the time is passed in."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import Cause

from .item import STATES, VOID, Item, Place, parse_place

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SQLSTATE = re.compile(r"[0-9a-z]{2}|[0-9a-z]{5}")  # or the class of one
# What a flusher refuses records for without a SQLSTATE, and every exception that has one.
_EXCEPTIONS = {"badrecord", "unicodeencodeerror", "overflowerror", "error"} | {
    name.lower()
    for name, found in vars(psycopg.errors).items()
    if isinstance(found, type) and issubclass(found, psycopg.Error)
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Filters:
    """Every group that is not empty must hold; within a group one is enough. Void letters only when asked for.

    A letter whose message is gone has no reason, time or key: it matches only when none of these is asked for.
    """

    entities: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()  # lower case: a SQLSTATE, the two characters of its class, or an exception
    keys: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    places: frozenset[Place] = frozenset()
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    void: bool = False

    def admits(self, item: Item) -> bool:
        """Whether the command is about this letter."""
        if item.state == VOID and not (self.void or VOID in self.states):
            return False
        if (self.states and item.state not in self.states) or (self.entities and item.entity not in self.entities):
            return False
        if self.places and item.place not in self.places:
            return False
        if item.message is None:
            return not (self.reasons or self.keys or self.since or self.until)
        if self.keys and item.message.key_text not in self.keys:
            return False
        return self._admits_cause(item.message.letter.cause)

    def _admits_cause(self, cause: Cause) -> bool:
        if self.reasons and not self.reasons & reasons(cause):
            return False
        if self.since is None and self.until is None:
            return True
        refused_at = moment(cause.last_failed_at)
        if refused_at is None:
            return False
        return (self.since is None or refused_at >= self.since) and (self.until is None or refused_at < self.until)


def reasons(cause: Cause) -> frozenset[str]:
    """The names by which a cause can be asked for, in lower case."""
    exception = cause.exception.lower()
    names = {exception, exception.rpartition(".")[2]}
    if cause.sqlstate:
        names |= {cause.sqlstate.lower(), cause.sqlstate[:2].lower()}
    return frozenset(names)


def moment(text: str) -> dt.datetime | None:
    """A time of a letter's header; None when it is none, or has no zone."""
    try:
        at = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if at.tzinfo is None else at


def parse_time(text: str, now: dt.datetime) -> dt.datetime:
    """`2h`, `30m`, `7d` ago, or ISO 8601 (UTC when it has no zone). Raises ConfigurationError."""
    if found := _AGO.fullmatch(text.strip()):
        return now - dt.timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    try:
        at = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time: write 2h, 30m, 7d, or 2026-01-31T12:00:00+00:00") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)


def build(  # noqa: PLR0913  # what a command line may say
    *,
    now: dt.datetime,
    entities: Sequence[str] = (),
    reasons: Sequence[str] = (),
    keys: Sequence[str] = (),
    states: Sequence[str] = (),
    letters: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    void: bool = False,
) -> Filters:
    """Filters from a command's options. Raises ConfigurationError."""
    if unknown := sorted(set(states) - {*STATES, VOID}):
        raise ConfigurationError(f"there is no state {unknown[0]!r}; the states are {', '.join((*STATES, VOID))}")
    try:
        places = frozenset(map(parse_place, letters))
    except ValueError:
        raise ConfigurationError("name a letter as TOPIC/PARTITION/OFFSET, as `letters list` prints it") from None
    for reason in reasons:
        if not _SQLSTATE.fullmatch(reason.lower()) and reason.lower().rpartition(".")[2] not in _EXCEPTIONS:
            raise ConfigurationError(
                f"no letter has the reason {reason!r}: name a SQLSTATE (23514), a class of them (23) or an exception "
                "(CheckViolation), as `letters list` prints them"
            )
    begin, end = (None if text is None else parse_time(text, now) for text in (since, until))
    if begin is not None and end is not None and begin >= end:
        raise ConfigurationError(f"no time is both since {since} and before {until}")
    return Filters(
        entities=frozenset(entities),
        reasons=frozenset(reason.lower() for reason in reasons),
        keys=frozenset(keys),
        states=frozenset(states),
        places=places,
        since=begin,
        until=end,
        void=void,
    )
