"""What comes out of a run of the demo."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from writebehind.embedded.demo.compare import Comparison


@dataclass(frozen=True, slots=True)
class Result:
    """What `--json` prints. `rows` are those of both tables; `differences` are those of Postgres and of the cache."""

    exact: bool
    departures: int
    writes: int
    rows: int
    differences: int
    flusher_kills: int
    acknowledged_per_s: int

    def json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result, the comparison of each table in each place, the seconds since the servers were up, the settings."""

    result: Result
    comparisons: Sequence[Comparison]
    seconds: float
    settings: Mapping[str, str]
