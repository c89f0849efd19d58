"""What `cached` keeps of a function: its options, how its arguments become a key, and its result a text. No I/O."""

from __future__ import annotations

import datetime as dt
import enum
import functools
import hashlib
import inspect
import json
import random
import typing
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from writebehind.shared.direct import Filling
from writebehind.shared.errors import DeclarationError, InvalidWrite
from writebehind.shared.naming import escape_part

VALUE = "v"  # the hash field that holds a result
KEY_CHARS_MAX = 200  # a longer text of arguments is replaced by its hash
_NATIVE = (bool, int, float, str)  # JSON tells them apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `cached`. Raises DeclarationError."""

    ttl_s: float
    ttl_jitter: float
    negative_ttl_s: float
    load_s: float
    loads_max: int
    early_recompute_beta: float

    def __post_init__(self) -> None:
        for name in ("ttl_s", "negative_ttl_s", "load_s"):
            if not 0 < getattr(self, name) <= 10**9:
                raise DeclarationError(f"cached: {name} must be greater than 0 (seconds)")
        if not 0 <= self.ttl_jitter < 1:
            raise DeclarationError("cached: ttl_jitter must be at least 0 and less than 1: a part of ttl_s")
        if self.loads_max < 1:
            raise DeclarationError("cached: loads_max must be at least 1")
        if not 0 <= self.early_recompute_beta <= 100:
            raise DeclarationError("cached: early_recompute_beta must be between 0 (off) and 100")


class Loader:
    """A function whose first parameter is the client, and whose result its annotation describes."""

    def __init__(self, function: Callable[..., Any], options: Options, name: str | None) -> None:
        self.function = function
        self.options = options
        self.label = name or f"{function.__module__}.{function.__qualname__}"
        self.name = "@" + escape_part(self.label)  # no entity's name begins so
        self._signature = inspect.signature(function)
        if not self._signature.parameters:
            raise DeclarationError(f"{self.label}: the first parameter of a cached function is the client")
        if self._signature.return_annotation is inspect.Signature.empty:
            raise DeclarationError(
                f"{self.label}: a cached function needs a return annotation: it says how to read a hit"
            )

    def key_text(self, *args: Any, **kwargs: Any) -> str:
        """The text of a call's arguments, the client left out. Raises InvalidWrite, or TypeError as the call would."""
        bound = self._signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        plain = [self._plain(name, value) for name, value in list(bound.arguments.items())[1:]]
        text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False)[1:-1]
        if len(text) > KEY_CHARS_MAX:
            return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=24).hexdigest()
        return escape_part(text)

    def encode(self, result: Any) -> str:
        """A result as it is kept. Raises InvalidWrite when it is not of the annotated type."""
        try:
            return self._adapter.dump_json(result, warnings="error").decode()
        except (PydanticSerializationError, ValueError) as error:
            rule = "the result is not of the type that the return annotation names"
            raise InvalidWrite(self.label, None, type(result).__name__, rule) from error

    def decode(self, fields: Mapping[str, str]) -> Any:
        """The result that an entry holds. Raises ValueError when it is of another type, as one of an older release."""
        text = fields.get(VALUE)
        try:
            return None if text is None else self._adapter.validate_json(text)
        except ValidationError as error:
            raise ValueError("another type") from error

    def filling(self, text: str | None, load_us: int) -> Filling:
        """What the entry of a result gets; None: there is nothing."""
        options = self.options
        if text is None:
            return Filling(False, 0, max(1, int(options.negative_ttl_s * 1000)), ())
        ttl_ms = max(1, int(options.ttl_s * 1000 * (1 - options.ttl_jitter * random.random())))
        return Filling(True, 0, ttl_ms, (VALUE, text), load_us if options.early_recompute_beta else 0)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        # When it is first needed: the annotation may name what is defined further down.
        try:
            return TypeAdapter(typing.get_type_hints(self.function, include_extras=True)["return"])
        except (NameError, PydanticSchemaGenerationError, PydanticUserError) as error:
            raise DeclarationError(f"{self.label}: its result's type cannot be kept as JSON: {error}") from error

    def _plain(self, name: str, value: Any) -> Any:
        """A value that JSON keeps apart from every other."""
        if value is None or type(value) in _NATIVE:
            return value
        kind = type(value).__name__
        match value:
            case enum.Enum():
                return {kind: value.name}
            case dt.datetime() | dt.date() | dt.time():
                return {kind: value.isoformat()}
            case bytes():
                return {kind: value.hex()}
            case Decimal() | uuid.UUID():
                return {kind: str(value)}
            case list() | tuple():
                return [self._plain(name, one) for one in value]
            case set() | frozenset():
                return {"set": sorted(json.dumps(self._plain(name, one)) for one in value)}
            case Mapping():
                pairs = [[self._plain(name, key), self._plain(name, one)] for key, one in value.items()]
                return {"map": sorted(pairs, key=json.dumps)}
            case _:
                rule = "cannot be part of a cache key: give plain values, or an id"
                raise InvalidWrite(self.label, name, kind, rule)
