"""Errors, classed by what the caller can do about them.

    WritebehindError
    ├── InvalidWrite        fix the data: nothing was written anywhere
    ├── Refused             fix the data: the database does not allow the write; nothing was written anywhere
    │   └── RowMissing      the same: there is no such row to update; create it
    ├── ConfigurationError  fix the declaration, the settings, the table or a server's configuration
    │   └── DeclarationError
    ├── NotApplied          try again later: the write was not applied, and the cache no longer shows it
    │   └── Shed            the same, refused at once because the entity's policy is to shed load
    ├── Unknown             the outcome is not known: applied once or not at all; read before deciding
    ├── PartlyFailed        some writes of one call failed; it says which
    ├── DatabaseDown        the read needs the database, which does not answer
    └── ClientClosed        the client was closed, or was opened before a fork

Third-party errors are translated once, in the adapter that talks to that server, by type or code, never by text.
"""

from __future__ import annotations

from collections.abc import Mapping


class WritebehindError(Exception):
    """Root of every error this library raises on purpose."""


class InvalidWrite(WritebehindError, ValueError):
    """The call cannot be carried out as it stands; nothing was written anywhere.

    `entity` and `field` name the place, `value_class` the Python class of the offending value (never the value itself:
    it may be personal data), `rule` the rule that was broken.
    """

    def __init__(self, entity: str, field: str | None, value_class: str, rule: str) -> None:
        self.entity = entity
        self.field = field
        self.value_class = value_class
        self.rule = rule
        place = entity if field is None else f"{entity}.{field}"
        super().__init__(f"{place}: {rule} (got {value_class})")


class Refused(WritebehindError):
    """The database does not allow the write; nothing was written anywhere.

    Only of what is written at once: cache-aside and write-through entities, and `on_broker_down="through"`.
    `sqlstate` and `constraint` say which rule was broken, as far as the database tells (never the row's values).
    """

    def __init__(self, message: str, sqlstate: str | None = None, constraint: str | None = None) -> None:
        self.sqlstate = sqlstate
        self.constraint = constraint
        super().__init__(message)


class RowMissing(Refused):
    """There is no row of this key to update: `create` it."""


class ConfigurationError(WritebehindError):
    """A declaration, setting, table or server is not as it must be; the message says what to change."""


class DeclarationError(ConfigurationError, TypeError):
    """An entity is declared in a way that cannot work; raised when the class or the registry is built."""


class NotApplied(WritebehindError):
    """The write was not applied and will not be: it is safe to try again. What the cache showed was taken back."""


class Shed(NotApplied):
    """The write was refused at once because the broker cannot take it and the entity's policy is to shed."""


class Unknown(WritebehindError):
    """The outcome is not known: the write is applied once or not at all, never twice.

    The cache goes on showing it. `version` is the write's version: once `get` or the database shows that version or a
    newer one, it was applied; None when the time was over before the write got one. Retrying a `Last` write is
    harmless; retrying an increment may count it twice.
    """

    def __init__(self, message: str, version: int | None = None) -> None:
        self.version = version
        super().__init__(message)


class PartlyFailed(WritebehindError):
    """Some writes of an `update_many` failed. The others stand.

    `receipts` and `failures` are by index into the call's list; each failure is NotApplied, Unknown or InvalidWrite.
    """

    def __init__(self, receipts: Mapping[int, object], failures: Mapping[int, Exception]) -> None:
        self.receipts = receipts
        self.failures = failures
        kinds = ", ".join(sorted({type(failure).__name__ for failure in failures.values()}))
        super().__init__(f"{len(failures)} of {len(failures) + len(receipts)} writes failed ({kinds})")


class DatabaseDown(WritebehindError):
    """The read needs the database, which does not answer; what is complete in the cache is still served."""


class ClientClosed(WritebehindError):
    """The client is closed, or was opened before this process was forked: open one after the fork."""
