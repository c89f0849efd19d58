"""What `writebehind whereis` says of a key: one line, JSON, or text made from it. Pure."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from typing import Any

from ..letters.item import REFUSED
from ..letters.render import as_json as letter_as_json
from ..letters.render import printable
from .diff import Verdict, newest_version, version_of
from .entry import Cached, Unreadable
from .whereis import Story


def conclusion(story: Story) -> str:
    """One line that says where the key's writes are. Pure."""
    count = 0 if story.unflushed is None else len(story.unflushed.records)
    what, for_what = ("record", "to be flushed") if story.written_behind else ("invalidation", "to be carried out")
    subject, verb = (what, "waits") if count == 1 else (f"{what}s", "wait")
    waiting = f"{count} {subject} of it {verb} in Kafka {for_what}"
    open_letters = sum(item.state == REFUSED for item in story.letters)
    if story.unflushed is None:
        return f"partition {story.partition} of {story.topic} is stopped or gone: see `writebehind progress show`"
    if story.verdict is None:
        row = "there is no row either" if story.row is None else "readers get the row"
        tail = f"; {waiting}" if count else f"; {open_letters} of its writes were refused" if open_letters else ""
        return f"not cached: {row}{tail}"
    if isinstance(story.found, Cached) and story.found.kept.intents:
        return "readers get the row: a write is under way, or its writer has died and its intent has not run out yet"
    if story.verdict is Verdict.UNSETTLED and isinstance(story.found, Cached) and story.found.kept.doubted:
        return (
            "everything is in the row, but the entry was left in doubt by a flusher that died: the next write of the "
            "key or `writebehind audit --repair auto --apply` ends that, or it expires within a day"
        )
    fields = ", ".join(story.differing)
    says = {
        Verdict.IN_SYNC: "in sync: cache and row say the same",
        Verdict.PENDING: f"pending: {waiting}" if count else "pending: more records wait than were looked at",
        Verdict.UNSETTLED: "everything is in the row, but the entry still counts writes as pending and never expires",
        Verdict.LOST: f"lost: the entry shows a write that is neither in Kafka nor in the row ({fields}), unless it "
        "was made just now",
        Verdict.STALE: f"stale: the row is newer than the entry ({fields})",
        Verdict.DIFFERS: f"cache and row differ ({fields}), unless a write is under way",
        Verdict.ORPHAN: "orphan: the entry shows a row that is not there",
        Verdict.REFUSED: f"refused: the entry shows what the database refused ({fields}); see `writebehind letters`",
        Verdict.UNREADABLE: f"unreadable: {story.found.reason if isinstance(story.found, Unreadable) else ''}",
    }
    tail = f"; {waiting}" if count and story.verdict is not Verdict.PENDING else ""
    return says[story.verdict] + tail


def as_json(story: Story, *, values: bool) -> dict[str, Any]:
    """The stable JSON form. Fields' values only when asked for."""
    unflushed = story.unflushed
    return {
        "entity": story.entity,
        "key": story.key_text,
        "conclusion": conclusion(story),
        "verdict": story.verdict,
        "differing": story.differing,
        "cache": _cache_json(story, values=values),
        "kafka": {
            "topic": story.topic,
            "partition": story.partition,
            "behind": None if unflushed is None else unflushed.behind,
            "looked_at": None if unflushed is None else unflushed.looked_at,
            "records": [] if unflushed is None else [dataclasses.asdict(record) for record in unflushed.records],
        },
        "letters": [letter_as_json(item) for item in story.letters],
        "audit": story.audit,
        "row": _row_json(story, values=values),
    }


def _cache_json(story: Story, *, values: bool) -> dict[str, Any] | None:
    if not isinstance(story.found, Cached):
        return None if story.found is None else {"unreadable": story.found.reason}
    kept, columns = story.found.kept, story.table.declaration.fields
    names = dict(zip(story.table.comparer.shorts, [c.name for c in columns], strict=True))
    told: dict[str, Any] = {
        "holds": "no row" if not kept.row_exists else "the row" if kept.complete else "parts of the row",
        "version": kept.version,
        "written_at": _time(kept.version),
        "generation": kept.generation,
        "pending": kept.pending,
        "intents": kept.intents,
        "tainted": kept.tainted,
        "in_doubt": bool(kept.doubted),
        "versions": {names.get(short, short): version for short, version in kept.marks.items()},
        "unsettled_sums": [names.get(short, short) for short in kept.sums],
        "deleted_at_version": kept.deleted_at,
        "lease": None if kept.lease is None else lease_time(kept.lease),
        "ttl_ms": story.ttl_ms,
        "fields": [c.name for c, text in zip(columns, story.found.texts, strict=True) if text is not None],
    }
    if values:
        told["fields"] = {c.name: text for c, text in zip(columns, story.found.texts, strict=True) if text is not None}
        told["unsettled_sums"] = {names.get(short, short): delta for short, delta in kept.sums.items()}
    return told


def _row_json(story: Story, *, values: bool) -> dict[str, Any] | None:
    if story.row is None:
        return None
    newest = newest_version(story.row)
    told: dict[str, Any] = {
        "version": newest or None,
        "written_at": _time(newest),
        "versions": {
            field.column.name: version_of(field, story.row) or None
            for field in story.table.comparer.fields
            if field.slot is not None
        },
    }
    if values:
        told["fields"] = {
            c.name: None if value is None else str(value)
            for c, value in zip(story.table.declaration.fields, story.row, strict=False)
        }
    return told


def lease_time(lease: str) -> str | None:
    """When a lease was given; its token stays with its reader."""
    _, _, time = lease.rpartition(":")
    try:
        return dt.datetime.fromtimestamp(int(time, 16) / 1000, dt.UTC).isoformat()
    except (ValueError, OverflowError):
        return None


def _time(version: int) -> str | None:
    """A version reads as a time, unless somebody made it up."""
    try:
        return dt.datetime.fromtimestamp(version / 1e6, dt.UTC).isoformat() if version else None
    except (ValueError, OverflowError):
        return None


def lines(told: dict[str, Any], indent: str = "") -> Iterator[str]:
    """The JSON form for people: what is None or empty is left out."""
    for name, value in told.items():
        if value in (None, [], {}):
            continue
        if isinstance(value, dict):
            yield f"{indent}{printable(name)}:"
            yield from lines(value, indent + "  ")
        elif isinstance(value, list) and isinstance(value[0], dict):
            for item in value:
                yield f"{indent}{name[:-1]}: " + ", ".join(
                    f"{key} {printable(str(part))}" for key, part in item.items() if part not in (None, [], {}, False)
                )
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"{indent}{printable(name)}: {printable(text)}"
