"""May this letter be replayed? Pure. What cannot be trusted or understood is kept as it is, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from writebehind.shared import naming
from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.letter import Letter, Origin
from writebehind.shared.record import KEYS, VERSION, BadRecord, Codec, Row
from writebehind.shared.registry import Registry
from writebehind.shared.strategy import WriteBehind

from .item import Item, Message


@dataclass(frozen=True, slots=True)
class Valid:
    """A letter whose record can go into the database."""

    origin: Origin
    declaration: Declaration
    row: Row
    key_text: str
    size_bytes: int

    @property
    def version(self) -> int:
        version: int = self.row[VERSION]
        return version


@dataclass(frozen=True, slots=True)
class Rejected:
    """A letter that is not tried. The reason holds no values."""

    reason: str


class Validator:
    """Checks letters against the declarations."""

    def __init__(self, registry: Registry, topic_prefix: str) -> None:
        self._registry = registry
        self._prefix = topic_prefix
        self._codecs: dict[str, Codec] = {}

    def validate(self, item: Item) -> Valid | Rejected:
        """What the record says, or why it is not to be believed."""
        # 1. There must be one message, and no doubt which.
        message = item.message
        if message is None:
            return Rejected("its message is no longer in the topic: `letters import` an export, or replay --from FILE")
        if item.contested:
            return Rejected("tampered with: messages of this origin differ, and one record cannot be two")
        # 2. Somebody must still know what the record means.
        letter = message.letter
        try:
            declaration = self._registry[letter.entity]
        except ConfigurationError:
            return Rejected("its entity is not declared any more: declare it again, or discard the letter")
        if not isinstance(declaration.strategy, WriteBehind):
            return Rejected("its entity is not write-behind any more: declare it so again, or discard the letter")
        # 3. It must be what the row and the declaration say it is.
        if reason := self._misplaced(item, letter, declaration):
            return Rejected(reason)
        return self._read(item.origin, declaration, message)

    def _misplaced(self, item: Item, letter: Letter, declaration: Declaration) -> str | None:
        if item.row is not None and item.row.entity != letter.entity:
            return f"tampered with: it names entity {letter.entity}, its row in the database {item.row.entity}"
        if letter.origin.topic != naming.topic(self._prefix, declaration.name):
            return f"tampered with: {letter.origin.topic} is not the topic of {declaration.name}"
        if not _same_table(letter.table, declaration):
            return (
                f"tampered with, or {declaration.name} has moved: its table was {letter.table}, now {declaration.table}"
            )
        return None

    def _read(self, origin: Origin, declaration: Declaration, message: Message) -> Valid | Rejected:
        codec = self._codecs.setdefault(declaration.name, Codec(declaration))
        try:
            (row,) = codec.decode([message.value])
        except BadRecord as error:
            return Rejected(error.reason)
        width = len(declaration.keys)
        text = declaration.key_text(row[KEYS : KEYS + width])
        if message.key != text.encode():
            return Rejected("tampered with: the message's key is not the key in its value")
        version = message.letter.version
        if version is not None and version != row[VERSION]:
            return Rejected("tampered with: the version in its header is not the one in its value")
        return Valid(origin, declaration, row, text, len(message.value or b""))


def _same_table(named: str, declaration: Declaration) -> bool:
    """With or without its schema, which the search path decides where it is not declared."""
    if named == declaration.table:
        return True
    if declaration.schema is None:
        return named.endswith(f".{declaration.table}")
    return named == f"{declaration.schema}.{declaration.table}"
