"""A cached entry as the audit reads it. No I/O. Entries of all strategies have the same form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from writebehind.shared import bookkeeping
from writebehind.shared.bookkeeping import Bookkeeping
from writebehind.shared.declaration import Declaration


@dataclass(frozen=True, slots=True)
class Cached:
    """One entry. `header` is its bookkeeping as text, without a reader's lease, which says nothing about content.

    `texts` are the declared fields in cache form, in their order; None where the entry does not hold one. Bytes that
    are no text are escaped, and equal to nothing.
    """

    header: str
    kept: Bookkeeping = field(compare=False)  # the header says it, but for the lease
    texts: tuple[str | None, ...]

    @property
    def holds_nothing(self) -> bool:
        """Whether it says nothing at all about the row: a lease, or what is left after an undo.

        While a direct write is under way, or has died, readers go to the database whatever the entry holds.
        """
        if self.kept.intents:
            return True
        return not self.kept.complete and not self.kept.pending and not any(t is not None for t in self.texts)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something under the prefix that is no entry of this entity. The reason holds no values."""

    reason: str


Found = Cached | Unreadable | None  # None: there is no entry


@dataclass(frozen=True, slots=True)
class Form:
    """The hash fields that an entity's entries have, and how their values are read."""

    names: tuple[str, ...]
    read: Callable[[Sequence[bytes | None]], Found]


def form_of(declaration: Declaration) -> Form:
    """The form of an entity's entries."""
    return Form((bookkeeping.FIELD, *(c.name for c in declaration.fields)), read_entry)


def read_entry(values: Sequence[bytes | None]) -> Found:
    """An entry from the values of its bookkeeping and its fields."""
    header, *texts = [None if value is None else value.decode(errors="surrogateescape") for value in values]
    if header is None:
        return None if not any(text is not None for text in texts) else Unreadable("it has no bookkeeping")
    try:
        kept = bookkeeping.read(header)
    except ValueError:
        return Unreadable("its bookkeeping cannot be read")
    if kept.lease is not None:
        header = header[: header.index(" l", bookkeeping.CLEAN)]
    return Cached(header, kept, tuple(texts))
