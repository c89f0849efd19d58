"""What comes out of a run of the demo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from writebehind.embedded.demo.audit import Audited
from writebehind.embedded.demo.compare import Comparison


@dataclass(frozen=True, slots=True)
class Result:
    """What `--json` prints. `rows` are those of both tables; `differences` are those of Postgres and of the cache.

    `audit_drift` counts what `writebehind audit` found wrong, in both directions.
    """

    exact: bool
    departures: int
    writes: int
    rows: int
    differences: int
    flusher_kills: int
    acknowledged_per_s: int
    audit_drift: int

    @property
    def ok(self) -> bool:
        return self.exact and not self.audit_drift

    def json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result, the comparison of each table in each place, what the audit said, the seconds since the servers
    were up, the settings.
    """

    result: Result
    comparisons: Sequence[Comparison]
    audited: Sequence[Audited]
    seconds: float
    settings: Mapping[str, str]
