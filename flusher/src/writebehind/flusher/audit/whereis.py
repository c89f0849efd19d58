"""`writebehind whereis`: one key's whole story, from the cache by way of Kafka to the row."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError, InvalidWrite
from writebehind.shared.invalidation import Invalidation
from writebehind.shared.record import Codec
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings
from writebehind.shared.strategy import WriteBehind

from ..letters.filters import Filters
from ..letters.item import REFUSED, Item
from ..letters.scan import scan
from ..progress import Ledger
from .cache import CacheReader
from .diff import Row, Verdict
from .entry import Found, Unreadable, form_of
from .partition import partition_of
from .runs import Runs
from .store import Store, Table
from .unflushed import Unflushed, find
from .watermark import Invalidations


@dataclass(frozen=True, slots=True)
class Story:
    """What was found of a key. `ttl_ms` None: the entry does not expire; `values` None: they were not asked for."""

    entity: str
    key_text: str
    found: Found
    ttl_ms: int | None
    topic: str  # of the entity's records; of the invalidations of one that is not written behind
    partition: int | None  # None: there is no such topic
    unflushed: Unflushed | None  # None: there is no such partition, or nobody has claimed it
    letters: list[Item]
    row: Row | None
    verdict: Verdict | None  # None: the entry is absent
    differing: list[str]
    audit: dict[str, Any] | None  # what an audit last found wrong with it
    table: Table

    @property
    def written_behind(self) -> bool:
        """Whether the entity's writes go through Kafka; else only invalidations do, when the cache is away."""
        return isinstance(self.table.declaration.strategy, WriteBehind)


def key_of(declaration: Declaration, parts: Sequence[str]) -> tuple[Any, ...]:
    """The key that somebody typed: one text as `letters list` prints it, or one per key column.

    Raises ConfigurationError.
    """
    text = parts[0] if len(parts) == 1 else naming.join_key([naming.escape_part(part) for part in parts])
    try:
        return declaration.check_key(declaration.parse_key(text))
    except (ValueError, InvalidWrite) as error:
        names = ", ".join(f"{c.name} ({c.kind.name})" for c in declaration.keys)
        reason = f": {error.rule}" if isinstance(error, InvalidWrite) else ""
        raise ConfigurationError(f"this is no key of {declaration.name}, which has {names}{reason}") from None


def tell(settings: Settings, registry: Registry, entity: str, parts: Sequence[str]) -> Story:
    """Look everywhere. Raises ConfigurationError when a server does not answer."""
    declaration = registry[entity]
    form = form_of(declaration)
    key = key_of(declaration, parts)
    key_text = declaration.key_text(key)
    with ExitStack() as stack:
        never = threading.Event()  # Ctrl-C ends the process
        store = Store(settings.database, "writebehind-whereis", never)
        stack.callback(store.close)
        table = Table(store, declaration, settings.database.schema_)
        cache = CacheReader(settings.cache, never)
        stack.callback(cache.close)
        behind = isinstance(declaration.strategy, WriteBehind)
        # Entry, then the ends, then the row: what the entry shows is either in the row, or before the ends.
        (found,) = cache.read(entity, form, [key_text])
        ttl = cache.ttl_ms(entity, key_text)
        look = _unflushed if behind else _not_invalidated
        topic, partition, unflushed = look(settings, declaration, key_text)
        wanted = Filters(entities=frozenset([entity]), keys=frozenset([key_text]))
        letters = list(stack.enter_context(scan(settings, registry, wanted)).items()) if behind else []
        row = table.rows([key]).get(key)
        audit = Runs(store, settings.database.schema_).last_finding(entity, key_text)
    verdict, differing = _verdict(table, found, row, unflushed, letters)
    return Story(
        entity, key_text, found, ttl, topic, partition, unflushed, letters, row, verdict, differing, audit, table
    )


def _unflushed(settings: Settings, declaration: Declaration, key_text: str) -> tuple[str, int | None, Unflushed | None]:
    """Topic, partition, and the key's records that are not in the table yet."""
    topic = naming.topic(settings.kafka.topic_prefix, declaration.name)
    with Ledger(settings) as ledger:
        standings = ledger.topic(topic)
    if not standings:
        raise ConfigurationError(f"there is no topic {topic}: run `writebehind migrate`")
    number = partition_of(key_text.encode(), len(standings))
    standing = standings[number]
    if standing.log is None or standing.gap is not None:
        return topic, number, None
    start = standing.log.start if standing.stored is None else standing.stored.next_offset
    found = find(settings, Codec(declaration), topic, number, key_text.encode(), start, standing.log.end)
    return topic, number, found


def _not_invalidated(
    settings: Settings, declaration: Declaration, key_text: str
) -> tuple[str, int | None, Unflushed | None]:
    """Topic, partition, and the entry's invalidations of writers who could not reach the cache, not carried out yet."""
    topic = naming.invalidations_topic(settings.kafka.topic_prefix)
    key = Invalidation(declaration.name, key_text, "").place
    with closing(Invalidations(settings)) as invalidations:
        logs, done = invalidations.logs(), invalidations.progress()
    if not logs:
        return topic, None, Unflushed([], 0, 0)
    number = partition_of(key, len(logs))
    start, end = logs[topic, number]
    return topic, number, find(settings, None, topic, number, key, max(start, done.get((topic, number), start)), end)


def _verdict(
    table: Table, found: Found, row: Row | None, unflushed: Unflushed | None, letters: Sequence[Item]
) -> tuple[Verdict | None, list[str]]:
    if found is None:
        return None, []
    if isinstance(found, Unreadable):
        return Verdict.UNREADABLE, []
    comparer = table.comparer
    # One look cannot tell a lost record from one that is not flushed yet, except where there is none.
    flushed = unflushed is not None and not unflushed.records and unflushed.looked_at >= unflushed.behind
    versions = [i.message.letter.version or 0 for i in letters if i.state == REFUSED and i.message is not None]
    differing = comparer.differences(found, row)
    if not flushed and differing and not isinstance(table.declaration.strategy, WriteBehind):
        return Verdict.PENDING, differing  # its invalidation waits
    return comparer.judge(found, row, flushed=flushed, letters=versions), differing
