"""What a checker does not hold against a history, because the loss matrix or ARCHITECTURE.md says so."""

from __future__ import annotations

from .history import Call, History


def content_excused(history: History, key: int) -> bool:
    """What only the audit can know: a write that nobody acknowledged and that never reached the broker, and an entry

    whose flusher died or was replaced before it settled, if a fault, a refusal or a delete made the cache rely on that:
    `heal` counts on one flusher having settled all that is in the row.
    """
    if history.excused.get(key, False):
        return True
    logged = {record.number for record in history.log}
    writes = [call for call in history.calls if call.op.key == key and call.op.kind != "read"]
    if any(call.outcome == "unknown" and call.op.number not in logged for call in writes):
        return True
    relied = any(call.outcome == "failed" or call.op.poison or call.op.kind == "delete" for call in writes)
    return (key in history.excused or key in history.moved) and (relied or key in history.disturbed)


def may_be_hidden(history: History, read: Call, write: Call, field: str) -> bool:
    """A refused write takes with it what it had replaced: until that is flushed, and a lower candidate until it is

    settled (documented).
    """
    others = [call for call in history.calls if call.op.key == write.op.key and field in call.op.fields]
    if not any(call.op.poison or call.outcome == "failed" for call in others):
        return False
    flushed = [history.flushed.get((r.partition, r.offset)) for r in history.log if r.number == write.op.number]
    return field == "best" or not any(at is not None and at < read.invoked for at in flushed)
