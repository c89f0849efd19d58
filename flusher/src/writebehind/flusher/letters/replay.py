"""Replay: open letters through validation, fold and guard into the database, each exactly once.

The unit is a chunk: one transaction that writes what its letters say and closes them. Killed at any point, a replay
leaves each letter either open and without effect, or closed and applied; it is run again.
"""

from __future__ import annotations

import datetime as dt
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import tenacity

from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import Origin
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..preflight import preflight
from ..triage import Verdict, triage
from ..who import person
from .apply import Applier, Results
from .entries import Entries
from .item import APPLIED, REFUSED, VOID, Item
from .outcome import Outcome, Result
from .validate import Rejected, Valid, Validator

log = logging.getLogger("writebehind.flusher")

CHUNK_BYTES_MAX = 4 * 1024 * 1024  # of records in one transaction, which flushes of the entity wait for
PATIENCE_S = 60.0  # how long a chunk is tried while the database is not available

Tell = Callable[[Origin, str, Result], None]  # a letter, its entity, and what became of it


@dataclass(frozen=True, slots=True)
class Limits:
    """letters_max: how many letters are tried, None: all. chunk_letters: in one transaction. replays_max: a letter that
    was refused so often again is left alone, None: never.
    """

    letters_max: int | None = None
    chunk_letters: int = 200
    replays_max: int | None = None


class Replay:
    """One run. Without `commit` every chunk is tried and rolled back, so each shows what it would do by itself."""

    def __init__(self, settings: Settings, registry: Registry, limits: Limits, *, commit: bool, tell: Tell) -> None:
        self.name = f"replay {person()} {secrets.token_hex(4)}"
        self.counts: Counter[Outcome] = Counter()
        self.untold = 0  # keys of which the cache could not be told
        self._settings, self._registry, self._limits = settings, registry, limits
        self._commit, self._tell = commit, tell
        self._validator = Validator(registry, settings.kafka.topic_prefix)
        self._entries = Entries(settings.cache)
        self._appliers: dict[str, Applier] = {}
        self._waiting: dict[str, list[Valid]] = {}
        self._told: dict[str, set[str]] = {}
        self._tried = 0

    def run(self, items: Iterable[Item], now: dt.datetime) -> None:
        """Replay what is open among the letters. Raises ConfigurationError when a server does not do its part."""
        try:
            for item in items:
                if self._limits.letters_max is not None and self._tried >= self._limits.letters_max:
                    break
                self._take(item, now)
            for entity in list(self._waiting):
                self._flush(entity)
            for entity in list(self._told):
                self._tell_cache(entity)
        finally:
            self.untold = self._entries.untold
            self._entries.close()
            for applier in self._appliers.values():
                applier.close()

    def reject(self, origin: Origin, entity: str, reason: str) -> None:
        """Say that a letter was not tried."""
        self._conclude(origin, entity, Result(Outcome.REJECTED, reason))

    def _take(self, item: Item, now: dt.datetime) -> None:
        # 1. Closed: nothing to do, but for a cache that a replay could not tell, or was killed before it told it.
        if item.state not in (REFUSED, VOID):
            self._remind(item, now)
            return
        self._tried += 1
        if item.row is None:
            self.reject(item.origin, item.entity, "void: no record was skipped at this place")
            return
        # 2. Refused too often already.
        replays_max = self._limits.replays_max
        if replays_max is not None and item.row.replay_count >= replays_max:
            self.reject(item.origin, item.entity, f"quarantined: refused again {item.row.replay_count} times")
            return
        # 3. Not to be believed, or not understood.
        checked = self._validator.validate(item)
        if isinstance(checked, Rejected):
            self.reject(item.origin, item.entity, checked.reason)
            return
        # 4. To be tried, with others of its entity.
        entity = checked.declaration.name
        waiting = self._waiting.setdefault(entity, [])
        waiting.append(checked)
        if len(waiting) >= self._limits.chunk_letters or sum(v.size_bytes for v in waiting) >= CHUNK_BYTES_MAX:
            self._flush(entity)

    def _flush(self, entity: str) -> None:
        letters = self._waiting.pop(entity)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=tenacity.wait_random_exponential(
                self._settings.flusher.retry_delay_min_s, self._settings.flusher.retry_delay_max_s
            ),
            stop=tenacity.stop_after_delay(PATIENCE_S),
            reraise=True,
        )
        try:
            results = attempts(self._attempt, entity, letters)
        except _Again as error:
            raise ConfigurationError(
                f"{entity}: the database is not available ({error}); what was applied stays applied: run it again"
            ) from None
        for letter in letters:
            self._conclude(letter.origin, entity, results[letter.origin])
        if self._commit:
            changed = [v.key_text for v in letters if results[v.origin].outcome is Outcome.APPLIED]
            self._entries.forget(self._registry[entity], changed)

    def _attempt(self, entity: str, letters: list[Valid]) -> Results:
        try:
            return self._applier(entity).apply(letters, commit=self._commit)
        except Exception as error:
            verdict = triage(error)
            said = getattr(error, "sqlstate", None) or type(error).__name__
            if verdict is Verdict.TRANSIENT:
                log.debug("%s: trying again (%s)", entity, said)
                raise _Again(said) from error
            if verdict is Verdict.SYSTEMIC:
                raise ConfigurationError(
                    f"{entity}: the table or a privilege is not as it must be ({said}); this chunk changed nothing"
                ) from None
            raise

    def _applier(self, entity: str) -> Applier:
        if entity not in self._appliers:
            declaration = self._registry[entity]
            prepared = preflight(self._settings, Registry([declaration.cls]))[entity]
            topic = naming.topic(self._settings.kafka.topic_prefix, entity)
            self._appliers[entity] = Applier(self._settings, prepared, topic, self.name)
        return self._appliers[entity]

    def _conclude(self, origin: Origin, entity: str, result: Result) -> None:
        self.counts[result.outcome] += 1
        self._tell(origin, entity, result)

    def _remind(self, item: Item, now: dt.datetime) -> None:
        """Tell the cache again of what was applied of late: an entry that missed it may live as long as its TTL."""
        row = item.row
        if not self._commit or row is None or row.state != APPLIED or row.changed_by == self.name:
            return
        checked = self._validator.validate(item)
        if isinstance(checked, Rejected):
            return
        declaration = checked.declaration
        if (now - row.changed_at).total_seconds() <= declaration.strategy.ttl_s:
            texts = self._told.setdefault(declaration.name, set())
            texts.add(checked.key_text)
            if len(texts) >= self._limits.chunk_letters:
                self._tell_cache(declaration.name)

    def _tell_cache(self, entity: str) -> None:
        self._entries.forget(self._registry[entity], sorted(self._told.pop(entity)))


class _Again(Exception):
    """The attempt failed for a reason that passes."""
