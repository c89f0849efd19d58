"""What a checker does not hold against a history, because the loss matrix or ARCHITECTURE.md says so."""

from __future__ import annotations

from .history import Call, History


def content_excused(history: History, key: int) -> bool:
    """What only the audit can know: a write that nobody acknowledged and that never reached the broker, and an entry

    whose flusher was replaced while it healed it, if a fault, a refusal or a delete made the cache rely on that: `heal`
    counts on one flusher having settled all that is in the row.
    """
    if key in history.excused:
        return True
    logged = {record.number for record in history.log}
    writes = [call for call in history.calls if call.op.key == key and call.op.kind != "read"]
    if any(call.outcome == "unknown" and call.op.number not in logged for call in writes):
        return True
    relied = any(call.outcome == "failed" or call.op.poison or call.op.kind == "delete" for call in writes)
    return key in history.moved and (relied or key in history.disturbed)


def may_be_hidden(history: History, read: Call, write: Call, field: str) -> bool:
    """A refused write takes with it what it had replaced: until that is flushed, and a lower candidate until it is

    settled (documented). A write that came to the log after a newer one goes with an entry in doubt that the newer one
    was flushed of (documented).
    """
    if _is_overtaken(history, write):
        return True
    others = [call for call in history.calls if call.op.key == write.op.key and field in call.op.fields]
    if not any(call.op.poison or call.outcome == "failed" for call in others):
        return False
    flushed = [history.flushed.get((r.partition, r.offset)) for r in history.log if r.number == write.op.number]
    return field == "best" or not any(at is not None and at < read.invoked for at in flushed)


def _is_overtaken(history: History, write: Call) -> bool:
    at = [record.offset for record in history.log if record.number == write.op.number]
    before = [r for r in history.log if r.key == write.op.key and r.offset < min(at, default=0)]
    return any(record.version > write.version for record in before) and write.op.key in history.doubted
