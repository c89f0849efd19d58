"""Declaring an entity: one typed class is the source for table, columns, cache keys, topic, SQL and validation.

class Player(Entity, table="players", strategy=WriteBehind(flush_delay_s=0.2)):
    id: Annotated[int, Key]
    name: str
    score: Annotated[int, Sum]
    best: Annotated[int, Max]
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from .errors import DeclarationError
from .naming import INVALIDATIONS
from .strategy import CacheAside, Strategy, WriteBehind, WriteThrough

# The vocabulary of a declaration, strategies included.
__all__ = [
    "CacheAside",
    "Entity",
    "Int2",
    "Int4",
    "Json",
    "Key",
    "Last",
    "Max",
    "Merge",
    "Min",
    "Numeric",
    "Place",
    "Strategy",
    "Sum",
    "WriteBehind",
    "WriteThrough",
]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}\Z")
_RESERVED_FIELDS = frozenset({"wait", "timeout_s", "connection"})  # options of the producer's calls


class Merge(enum.StrEnum):
    """How a write to a field combines with what is there."""

    LAST = "last"
    SUM = "sum"
    MAX = "max"
    MIN = "min"


class Key:
    """Marks a key column; several make a composite key, in the order of declaration."""


class Last:
    """The newest write wins (the default)."""


class Sum:
    """A write is a delta that is added: for counters.

    Integers and numeric only, because a sum of floats is not exact.
    """


class Max:
    """A write is a candidate; the greatest stays."""


class Min:
    """A write is a candidate; the smallest stays."""


class Int2:
    """The column is `smallint` (an `int` is `bigint` unless said otherwise)."""


class Int4:
    """The column is `integer` (an `int` is `bigint` unless said otherwise)."""


class Json:
    """The column is `jsonb`; implied for `dict`.

    Its numbers are numeric: a negative zero comes back as zero, and a float from 1e16 on as an int.
    """


@dataclass(frozen=True, slots=True)
class Numeric:
    """The column is `numeric(precision, scale)`; values that would be rounded are refused at the call."""

    precision: int
    scale: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.precision <= 1000 and 0 <= self.scale <= self.precision):
            raise DeclarationError("Numeric(precision, scale) needs 1 <= precision <= 1000 and 0 <= scale <= precision")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entity lives: its name (topic, cache keys), its table and the schema that was named, if any."""

    entity: str
    table: str
    schema: str | None


class Entity(BaseModel):
    """Base class of declarations. Subclass it with `table=` and `strategy=`; the strategy is mandatory on purpose.

    Class arguments: `table`, `strategy`, `schema` (default: the connection's search_path), `name` (default: the
    class name
    in snake_case; it names the topic and the cache keys, so it cannot change while records are in flight), and
    `abstract=True` for a base class that only shares fields.
    Raises DeclarationError when the declaration cannot work.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    __place__: ClassVar[Place]
    __strategy__: ClassVar[Strategy]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # The class arguments are read in __pydantic_init_subclass__, where the fields are known; `type` also
        # sends them here.
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(
        cls,
        *,
        table: str | None = None,
        strategy: Strategy | None = None,
        schema: str | None = None,
        name: str | None = None,
        abstract: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if abstract:
            return
        if table is None:
            raise DeclarationError(
                f"{cls.__name__}: say which table it is: class {cls.__name__}(Entity, table=..., strategy=...)"
            )
        if not isinstance(strategy, Strategy):
            raise DeclarationError(
                f"{cls.__name__}: pick a strategy: strategy=WriteBehind(...), WriteThrough(...) or CacheAside(...). "
                "There is no default, because each one goes wrong in its own way and nobody should pick one by accident"
            )
        entity = name or _snake_case(cls.__name__)
        if not _NAME.match(entity):
            raise DeclarationError(f"{cls.__name__}: the name {entity!r} must match {_NAME.pattern}")
        if entity == INVALIDATIONS:
            raise DeclarationError(f"{cls.__name__}: the name {entity!r} is that of the topic of invalidations")
        for field in cls.model_fields:
            if field in _RESERVED_FIELDS or field.startswith("_"):
                raise DeclarationError(
                    f"{cls.__name__}.{field}: this name is an option of the producer's calls; use another"
                )
        cls.__place__ = Place(entity, table, schema)
        cls.__strategy__ = strategy


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
