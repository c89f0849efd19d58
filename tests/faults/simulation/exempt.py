"""What a checker does not hold against a history, because the loss matrix or ARCHITECTURE.md says so."""

from __future__ import annotations

from .history import Call, History


def content_excused(history: History, key: int) -> bool:
    """What only the audit can know: a write that nobody acknowledged and that never reached the broker."""
    if key in history.excused:
        return True
    logged = {record.number for record in history.log}
    writes = [call for call in history.calls if call.op.key == key and call.op.kind != "read"]
    return any(call.outcome == "unknown" and call.op.number not in logged for call in writes)


def may_be_hidden(history: History, read: Call, write: Call, field: str) -> bool:
    """A refused write takes with it what it had replaced: until that is flushed, and a lower candidate until it is

    settled (documented). A write that came to the log after a newer one is hidden when the newer one ends the doubt of
    its entry, and with it the lower candidates of a maximum (documented).
    """
    others = [call for call in history.calls if call.op.key == write.op.key and field in call.op.fields]
    if any(_is_overtaken(history, call) for call in (others if field == "best" else [write])):
        return True
    if not any(call.op.poison or call.outcome == "failed" for call in others):
        return False
    flushed = [history.flushed.get((r.partition, r.offset)) for r in history.log if r.number == write.op.number]
    return field == "best" or not any(at is not None and at < read.invoked for at in flushed)


def left_in_doubt(history: History, key: int) -> bool:
    """An entry in doubt of which nothing was flushed since that would release it: its newest write failed, or was

    overtaken. It expires some time (documented).
    """
    entry, began = history.entries[key], history.doubted.get(key, 0)
    since = [r.version for r in history.log if r.key == key and history.flushed.get((r.partition, r.offset), 0) > began]
    return "#h" in entry and max(since, default=0) < int(entry["#g"]) - 1


def _is_overtaken(history: History, write: Call) -> bool:
    at = [record.offset for record in history.log if record.number == write.op.number]
    before = [r for r in history.log if r.key == write.op.key and r.offset < min(at, default=0)]
    return any(record.version > write.version for record in before) and write.op.key in history.doubted
