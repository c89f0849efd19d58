"""One scan: the letters of all topics, each once, with its row; then the open ones whose message is gone.

The topics are read twice. The first pass learns which messages belong to one letter and whether they agree; only then
is it safe to act on one of them. Nothing grows with the number of letters but a temporary file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice

from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import Origin
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from .filters import Filters
from .item import REFUSED, Item, Message
from .rows import PAGE_ROWS, Rows, bookkeeping
from .seen import Seen
from .source import DeadLetters


class Meter:
    """Is told how far a long run is. This one does not care; the command line's draws a bar."""

    def start(self, what: str, total: int) -> None:
        """A new stretch of `total` units begins."""

    def advance(self, units: int) -> None:
        """So many more are done."""


class Scan:
    """Made by `scan`. `known` is what the first pass learnt."""

    def __init__(self, rows: Rows, source: DeadLetters, known: Seen, filters: Filters) -> None:
        self.rows = rows
        self.source = source
        self.known = known
        self._filters = filters

    def items(self, meter: Meter | None = None) -> Iterator[Item]:
        """The letters that the filters admit."""
        for messages in self._read("letters", meter):
            yield from self.join(messages)
        yield from self._missing()

    def join(self, messages: Sequence[Message]) -> Iterator[Item]:
        """These messages' letters, without those given before, that the filters admit."""
        fresh = [message for message in messages if self.known.take(message.letter.origin)]
        found = self.rows.find([message.letter.origin for message in fresh]) if fresh else {}
        for message in fresh:
            origin = message.letter.origin
            item = Item(origin, found.get(origin), message, self.known.contested(origin))
            if self._filters.admits(item):
                yield item

    def _missing(self) -> Iterator[Item]:
        for origins in _pages(self.known.missing()):
            for origin, row in sorted(self.rows.find(origins).items(), key=lambda found: str(found[0])):
                item = Item(origin, row, None)
                if row.state == REFUSED and self._filters.admits(item):
                    yield item

    def again(self) -> None:
        """Give every letter once more."""
        self.known.untake()

    def learn(self, meter: Meter | None = None) -> None:
        """The first pass."""
        for messages in self._read("reading", meter):
            for message in messages:
                self.known.note(message.letter.origin, message.digest)

    def _read(self, what: str, meter: Meter | None) -> Iterator[list[Message]]:
        meter = meter or Meter()
        meter.start(what, self.source.total)
        for messages in self.source.read():
            yield messages
            meter.advance(len(messages))


@contextmanager
def scan(settings: Settings, registry: Registry, filters: Filters, meter: Meter | None = None) -> Iterator[Scan]:
    """Open everything and make the first pass. Raises ConfigurationError when a server does not answer."""
    with ExitStack() as stack:
        rows = stack.enter_context(bookkeeping(settings.database))
        known = stack.enter_context(Seen())
        topics = _topics(settings, registry, rows, filters)
        # Rows before ends: a letter's message is there before its row is, so a row that is known now has its message
        # below the ends noted next, or nowhere.
        for origins in rows.open(topics):
            known.expect(origins)
        source = DeadLetters(settings, topics)
        stack.callback(source.close)
        opened = Scan(rows, source, known, filters)
        opened.learn(meter)
        yield opened


def _topics(settings: Settings, registry: Registry, rows: Rows, filters: Filters) -> list[str]:
    """What to read. Raises ConfigurationError for a name that no letter can have: a typing error is not "none open"."""
    declared = [(d.name, naming.topic(settings.kafka.topic_prefix, d.name)) for d in registry.write_behind]
    known = [*declared, *rows.topics()]
    entities = {entity for entity, _ in known}
    if unknown := sorted(filters.entities - entities):
        named = ", ".join(sorted(entities)) or "none"
        raise ConfigurationError(
            f"{unknown[0]!r} is no write-behind entity that is declared, nor one that has letters; those are: {named}"
        )
    topics = {topic for entity, topic in known if not filters.entities or entity in filters.entities}
    places = {topic for topic, _, _ in filters.places}
    if unknown := sorted(places - topics):
        named = ", ".join(sorted(topics)) or "none"
        raise ConfigurationError(
            f"no letter is named {unknown[0]}/…: name it by its record's topic, which is one of these: {named}"
        )
    return sorted(places or topics)


def _pages(origins: Iterable[Origin]) -> Iterator[list[Origin]]:
    iterator = iter(origins)
    while page := list(islice(iterator, PAGE_ROWS)):
        yield page
