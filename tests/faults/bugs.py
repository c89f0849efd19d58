"""Wrongnesses to plant into services and audits, each one line, for `tests.faults.hunt` to find by real runs.

Those of what is written behind are in `simulation/bugs.py`: the simulation finds them sooner.
"""

from __future__ import annotations

from typing import Final

from tests.faults.planting import Bug

_DIRECT, _AUDIT = "writebehind.shared.direct", "writebehind.flusher.audit."

#: Of rows that services write themselves.
OF_DIRECT: Final = (
    Bug(
        "a row is put without comparing versions",
        _DIRECT,
        "FINISH",
        "  if version <= entry.version then return false end\n",
        "",
    ),
    Bug(
        "an intent is not placed",
        "writebehind.producer._async.guard",
        "AsyncGuards.open",
        "if await self._cache.intend([place.entry for place in places], token):",
        "if True:",
    ),
    Bug(
        "an entry is filled without the right to",
        _DIRECT,
        "FILL",
        "if #entry.intents == 0 and entry.lease and entry.lease.token == token then",
        "if #entry.intents == 0 then",
    ),
    Bug(
        "no invalidation while the cache is away",
        "writebehind.producer._async.guard",
        "AsyncGuards._tell_flusher",
        "await self._records.submit(records[start : start + RECORDS_PER_SEND])",
        "[setattr(record, 'sent', True) for record in records]",
    ),
)

#: Of audits.
OF_AUDIT: Final = (
    Bug(
        "repair without compare-and-set",
        _AUDIT + "repair",
        "SCRIPT",
        "if not is_as_seen(key, header, repair[3]) then",
        "if false then",
    ),
    Bug(
        "what is under way counts as lost",
        _AUDIT + "job",
        "look",
        "return Verdict.PENDING if waited else WAIT",
        "return comparer.judge(after, row, flushed=True, letters=letters)",
    ),
)

BUGS: Final = {bug.name: bug for bug in (*OF_DIRECT, *OF_AUDIT)}
