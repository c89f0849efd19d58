"""What write.lua, lease.lua and fill.lua do to the cache in memory; the bookkeeping is in fields of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .cache import NULL, Cache, Fields, add, leased, mark_of, pick, take_candidate

_unpack = msgspec.msgpack.Decoder().decode


def write(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    fields, seen, patches = _unpack(args[0]), int(args[1]), _unpack(args[2])
    writer = _Write(cache, fields, max(cache.now, seen + 1), str(args[3]), int(args[4]))
    return [cache.now, [(writer.apply if p else writer.delete)(key, p) for key, p in zip(keys, patches, strict=True)]]


class _Write:
    """write.lua: the state that its functions share."""

    def __init__(self, cache: Cache, fields: Fields, newest: int, token: str, lease_us: int) -> None:
        self.cache = cache
        self.fields = fields
        self.newest = newest
        self.token = token
        self.lease_us = lease_us

    def next_version(self, entry: dict[str, str]) -> int:
        previous = int(entry.get("#v", 0))
        return self.newest if previous < self.newest else previous + 1

    def store(self, key: str, changes: dict[str, str], version: int) -> int:
        found = dict(self.cache.entry(key))
        generation = found.get("#g", "0")
        if generation == "0":
            generation = str(version)
        pending = found.get("#p")
        changes.update({"#v": str(version), "#g": generation, "#p": add(pending or "0", "1")})
        self.cache.make(key).update(changes)
        if pending is None and ("#v" in found or "#l" in found):
            self.cache.expires.pop(key, None)
        return int(generation)

    def lease_base(self, key: str) -> Any:
        found = self.cache.entry(key)
        if leased(found.get("#l"), self.cache.now, self.lease_us):
            return [1, ""]
        if "#v" not in found and "#l" not in found:
            self.cache.expires[key] = self.cache.now + self.lease_us
        self.cache.make(key)["#l"] = f"{self.token}:{self.cache.now}"
        return [1, self.token]

    def apply(self, key: str, patch: Sequence[Any]) -> Any:
        found = self.cache.entry(key)
        version = self.next_version(found)
        changes: dict[str, str] = {}
        undo: list[Any] = []
        for at in range(0, len(patch), 2):
            index, given = patch[at], patch[at + 1]
            field: Any = self.fields[index - 1]
            name, merge, order, low, high, _short = field
            current, mark = found.get(name), found.get(mark_of(field))
            if merge == "sum":
                if current is None and "#c" not in found:
                    return self.lease_base(key)
                total = add(current if current is not None and current != NULL else "0", given)
                if low and not int(low) <= int(total) <= int(high):
                    return [2, index]
                changes[name], changes["+" + name] = total, add(mark or "0", given)
            elif merge == "last" or pick(current, given, merge, order) != current:
                undo += [index, False if current is None else current, False if mark is None else mark]
                changes[name], changes["~" + name] = given, str(version)
        return [0, version, self.store(key, changes, version), undo]

    def delete(self, key: str, _patch: Sequence[Any]) -> Any:
        found = self.cache.make(key)
        version = self.next_version(found)
        undo: list[Any] = [found.get("#c", False)]
        for index, (name, *_) in enumerate(self.fields, 1):
            if name in found:
                undo += [index, found[name], found.get("~" + name, False)]
            found.pop(name, None)
            found.pop("~" + name, None)
        return [0, version, self.store(key, {"#c": "0", "#d": str(version)}, version), undo]


def lease(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    token, lease_us = str(args[0]), int(args[1])
    replies: list[Any] = []
    for key in keys:
        entry = dict(cache.entry(key))
        granted = not leased(entry.get("#l"), cache.now, lease_us)
        if granted:
            cache.make(key)["#l"] = f"{token}:{cache.now}"
            if not entry:
                cache.expires[key] = cache.now + lease_us
        replies.append([granted, [part for pair in shown(entry).items() for part in pair]])
    return replies


def shown(entry: dict[str, str]) -> dict[str, str]:
    """An entry as a reader gets it: the declared fields, and the bookkeeping in one text."""
    if not entry:
        return {}
    holds = {None: "p", "0": "n", "1": "c"}[entry.get("#c")]
    flag = holds.upper() if "#x" in entry else holds
    header = f"{int(entry.get('#v', 0)):016d} {int(entry.get('#g', 0)):016d}{flag}{entry.get('#p', '')}"
    return {"#": header, **{name: value for name, value in entry.items() if name[0] not in "#~+"}}


def fill(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    fields, token, ttl_us, rows = _unpack(args[0]), f"{args[1]}:", int(args[2]) * 1000, _unpack(args[3])
    replies: list[bool] = []
    for key, (exists, version, row) in zip(keys, rows, strict=True):
        entry = cache.entry(key)
        filled = entry.get("#l", "").startswith(token)
        if filled:
            pending = "#p" in entry
            if "#c" not in entry:
                for at in range(0, len(row), 2):
                    _fill_field(entry, fields[row[at] - 1], row[at + 1])
                newest = max(int(entry.get("#v", 0)), version)
                entry.update({"#v": str(newest), "#g": entry.get("#g", "0"), "#c": "1" if exists else "0"})
            entry.pop("#l", None)
            if not pending:
                cache.expires[key] = cache.now + ttl_us
        replies.append(filled)
    return replies


def _fill_field(entry: dict[str, str], field: Sequence[str], given: str) -> None:
    name, merge = field[:2]
    if name not in entry:
        entry[name] = given
    elif merge in ("max", "min"):
        take_candidate(entry, field, given)
