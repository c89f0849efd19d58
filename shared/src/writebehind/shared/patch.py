"""A caller's patch, checked and put into the forms that the cache and the record need, in one pass over its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from .declaration import Column, Declaration
from .kinds import CACHE_NULL

SHAPES_MAX = 1_000  # sets of fields that are remembered per entity; a service writes a handful

_Step = tuple[Column, int, Callable[[Any], Any], Callable[[Any], str], Callable[[Any], Any] | None]
# A patch's mask, its fields laid out in wire form, the patch as the scripts take it, and the characters in it.
Forms = tuple[int, Sequence[Any], msgspec.Raw, int]

_encode = msgspec.msgpack.Encoder().encode
NO_PATCH = msgspec.Raw(_encode([]))  # what the scripts take for a delete


class PatchEncoder:
    """Turns the patches of one declaration into their forms.

    What to do with each field is looked up once per set of fields: patches have few shapes, and many values.
    """

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._absent: list[Any] = [None] * len(declaration.fields)
        self._shapes: dict[tuple[str, ...], tuple[int, Sequence[_Step]]] = {}

    def encode(self, patch: Mapping[str, Any]) -> Forms:
        """Raises InvalidWrite naming the field and the rule."""
        names = tuple(patch)
        mask, steps = self._shapes.get(names) or self._shape(names, patch)
        fields, size = self._absent.copy(), 0
        flat: list[int | str] = []
        for (column, index, check, to_cache, to_wire), value in zip(steps, patch.values(), strict=True):
            if value is None:
                if not column.takes_none:
                    raise self._declaration.none_refused(column)
                text = CACHE_NULL
            else:
                try:
                    checked = check(value)
                except ValueError as error:
                    raise self._declaration.invalid(column.name, value, str(error)) from None
                text = to_cache(checked)
                fields[index - 1] = checked if to_wire is None else to_wire(checked)
                size += len(text)
            flat += (index, text)
        return mask, fields, msgspec.Raw(_encode(flat)), size

    def _shape(self, names: tuple[str, ...], patch: Mapping[str, Any]) -> tuple[int, Sequence[_Step]]:
        columns = self._declaration.fields_of(patch)
        steps = [(c, c.position + 1, c.check, c.kind.to_cache, c.kind.to_wire) for c in columns]
        if len(self._shapes) >= SHAPES_MAX:
            self._shapes.clear()
        shape = self._shapes[names] = (sum(c.bit for c in columns), steps)
        return shape
