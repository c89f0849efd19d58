"""What undo.lua, settle.lua, doubt.lua and heal.lua do to the cache in memory; its bookkeeping is fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .cache import NULL, Cache, add, mark_of, take_candidate

_unpack = msgspec.msgpack.Decoder().decode


def undo(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    fields, writes, refused = _unpack(args[0]), _unpack(args[1]), len(args) > 2
    for key, (version, generation, patch, note) in zip(keys, writes, strict=True):
        entry = cache.entry(key)
        counted = int(entry.get("#g", -1)) == generation
        if not counted and str(generation) not in entry.get("#h", "").split():
            continue
        pending = int(entry.get("#p", 0)) - counted
        if pending <= 0:
            cache.drop(key)
            continue
        touched = [(patch[at], patch[at + 1]) for at in range(0, len(patch), 2)]
        if not touched:
            undo_delete(entry, str(version), fields, note)
        else:
            undo_fields(entry, str(version), fields, _noted(note, fields, [index for index, _ in touched]))
        for index, delta in touched:
            if fields[index - 1][1] == "sum":
                undo_sum(entry, fields[index - 1][0], str(-int(delta)), counted=counted)
        entry.update({"#p": str(pending), "#x": "2"})
        if refused and is_released_by(entry, version):
            release(cache, key, fields)
    return 1


def _noted(note: Sequence[Any], fields: Any, touched: Sequence[int]) -> Sequence[Any]:
    """What the write noted; of a write that the database refused nobody knows what was before it."""
    if not note or note[0] is not False:
        return note
    return [part for index in touched if fields[index - 1][1] != "sum" for part in (index, False, False)]


def undo_fields(entry: dict[str, str], version: str, fields: Any, undone: Sequence[Any]) -> None:
    """Give each field back what was there before, unless a newer write holds it: that one finds a note."""
    for at in range(0, len(undone), 3):
        name = fields[undone[at] - 1][0]
        value, mark = _before(entry, name, undone[at + 1], undone[at + 2])
        if entry.get("~" + name) == version:
            _restore(entry, name, value, mark)
        else:
            entry[f"#u:{version}:{name}"] = f"{mark or ''} {'0' if value is False else '1' + value}"


def _before(entry: dict[str, str], name: str, value: Any, mark: Any) -> tuple[Any, Any]:
    while mark:
        note = entry.get(f"#u:{mark}:{name}")
        if note is None:
            break
        noted_mark, _, rest = note.partition(" ")
        value, mark = rest[1:] if rest[0] == "1" else False, noted_mark or False
    return value, mark


def _restore(entry: dict[str, str], name: str, value: Any, mark: Any) -> None:
    if value is not False:
        entry[name] = value
    else:
        entry.pop(name, None)
        if entry.get("#c") == "1" or "#d" not in entry:
            entry.pop("#c", None)
    if mark:
        entry["~" + name] = mark
    else:
        entry.pop("~" + name, None)


def undo_sum(entry: dict[str, str], name: str, delta: str, *, counted: bool) -> None:
    for field in (name, "+" + name) if counted else (name,):
        if field in entry and entry[field] != NULL:
            entry[field] = add(entry[field], delta)


def undo_delete(entry: dict[str, str], version: str, fields: Any, undone: Sequence[Any]) -> None:
    if entry.get("#d") != version:
        return
    del entry["#d"]
    if undone[0] is not False:
        entry["#c"] = undone[0]
    else:
        entry.pop("#c", None)
    for at in range(1, len(undone), 3):
        name = fields[undone[at] - 1][0]
        if name not in entry:
            entry[name] = undone[at + 1]
            if undone[at + 2] is not False:
                entry["~" + name] = undone[at + 2]


def settle(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    fields, ttl_us, (generations, counts, versions, sums) = _unpack(args[0]), int(args[1]) * 1000, _unpack(args[2])
    tainted: list[int] = []
    for at, key in enumerate(keys):
        entry = cache.entry(key)
        pending = int(entry.get("#p", 0))
        if "#g" not in entry:
            if "#l" in entry:
                cache.drop(key)
        elif same_generation(entry, generations[at]):
            pending = lowered(pending, counts[at])
            if pending > 0:
                entry["#p"] = str(pending)
                _lower_sums(entry, fields, [column[at] for column in sums])
                if "#x" in entry and keep_tainted(cache, key, fields, versions[at]):
                    tainted.append(at + 1)
            elif "#x" in entry or entry.get("#c") == "0":
                cache.drop(key)
            else:
                for name in ["#p", "#d", *map(mark_of, fields)]:
                    entry.pop(name, None)
                cache.expires[key] = cache.now + ttl_us
        elif pending > 0:
            entry.setdefault("#x", "1")
            entry.pop("#l", None)
            if keep_tainted(cache, key, fields, versions[at]):
                tainted.append(at + 1)
        else:
            cache.drop(key)
    return tainted


def same_generation(entry: dict[str, str], generation: int) -> bool:
    return generation != 0 and int(entry["#g"]) == generation


def lowered(pending: int, count: int) -> int:
    return pending - count


def _lower_sums(entry: dict[str, str], fields: Any, flushed: Sequence[str]) -> None:
    names = [field[0] for field in fields if field[1] == "sum"]
    for name, delta in zip(names, flushed, strict=True):
        if delta != "" and "+" + name in entry:
            entry["+" + name] = add(entry["+" + name], str(-int(delta)))


def keep_tainted(cache: Cache, key: str, fields: Any, version: int) -> bool:
    """Whether the entry is there and can be healed."""
    entry = cache.entry(key)
    if is_released_by(entry, version):
        return release(cache, key, fields)
    return "#h" not in entry


def doubt(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    for key, version in zip(keys, _unpack(args[0]), strict=True):
        entry = cache.entry(key)
        if holds_nothing_newer(entry, version) or "#p" not in entry:
            cache.drop(key)
            continue
        if "#h" not in entry or int(entry["#g"]) <= int(entry["#v"]):
            begin_anew(entry)
        entry.update({"#p": "1", "#x": entry.get("#x", "1")})
        cache.expires[key] = cache.now + int(args[1]) * 1000
    return 1


def begin_anew(entry: dict[str, str]) -> None:
    entry.update({"#h": f"{entry.get('#h', '')} {entry['#g']}", "#g": str(int(entry["#v"]) + 1)})
    for name in [name for name in entry if name[0] == "+" or name == "#l"]:
        del entry[name]


def is_released_by(entry: dict[str, str], version: int) -> bool:
    return "#h" in entry and int(entry["#g"]) <= version + 1


def release(cache: Cache, key: str, fields: Any) -> bool:
    entry = cache.entry(key)
    since = int(entry["#g"])
    pending = int(entry["#p"]) - 1
    if pending <= 0:
        cache.drop(key)
        return False
    entry.update({"#p": str(pending), "#x": entry.get("#x", "1")})
    for name in ("#h", "#l"):
        entry.pop(name, None)
    if int(entry.get("#d", since)) < since:
        del entry["#d"]
    for name in [field[0] for field in fields if int(entry.get("~" + field[0], since)) < since]:
        entry.pop(name, None)
        del entry["~" + name]
        if "#d" not in entry:
            entry.pop("#c", None)
    if entry.get("#c") == "0" and "#d" not in entry:
        del entry["#c"]
    cache.expires.pop(key, None)
    return True


def holds_nothing_newer(entry: dict[str, str], version: int) -> bool:
    return int(entry.get("#v", 0)) <= version or as_of_marks(entry, version)


def as_of_marks(entry: dict[str, str], version: int) -> bool:
    """The newest write may have been undone; deltas have no marks."""
    if entry.get("#x") != "2" or "#h" in entry or any(name[0] == "+" for name in entry):
        return False
    return all(int(value) <= version for name, value in entry.items() if name[0] == "~" or name == "#d")


def heal(cache: Cache, keys: Sequence[str], args: Sequence[Any]) -> Any:
    fields, keep, rows = _unpack(args[0]), args[1] == "1", _unpack(args[2])
    if cache.now > int(args[3]):
        return 0
    for key, (exists, flat, flat_versions, deleted) in zip(keys, rows, strict=True):
        entry = cache.entry(key)
        if int(entry.get("#d") or 0) > deleted or "#x" not in entry or "#p" not in entry or "#h" in entry:
            continue
        entry.pop("#d", None)
        values, versions = _pairs(flat), _pairs(flat_versions)
        for index, field in enumerate(fields, 1):
            _heal_field(entry, field, values.get(index), versions.get(index) or 0, deleted)
        entry["#c"] = "1" if exists else "0"
        if not keep and entry["#x"] == "1":
            del entry["#x"]
    return 1


def _pairs(flat: Sequence[Any]) -> dict[int, Any]:
    return {flat[at]: flat[at + 1] for at in range(0, len(flat), 2)}


def _heal_field(entry: dict[str, str], field: Sequence[str], value: str | None, row_version: int, deleted: int) -> None:
    name, merge = field[:2]
    if merge == "sum":
        pending = entry.get("+" + name)
        if value is not None or int(pending or "0"):  # nothing pending makes no row
            entry[name] = add("0" if value in (None, NULL) else str(value), pending or "0")
        else:
            entry.pop(name, None)
    elif merge != "last":
        if deleted and int(entry.get("~" + name, 0)) <= deleted:
            entry.pop(name, None)  # of a row that is gone
        if value is not None:
            take_candidate(entry, field, value)
    elif int(entry.get("~" + name, 0)) <= max(row_version, deleted):
        if value is not None:
            entry[name] = value
        else:
            entry.pop(name, None)
