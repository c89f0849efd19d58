"""How a flusher came back from an outage, from looks at how much is written and how much is flushed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEAR_S = 0.5  # a lag that the load makes in so many seconds is what a flusher has without an outage


@dataclass(frozen=True, slots=True)
class Look:
    """Records in the log and records in the database, at a moment. `flushed` is None while the database is away."""

    at: float
    written: int
    flushed: int | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """Rates are records per second; `ingest` is of the whole run up to here, `ingest_meanwhile` of the catching up."""

    flushed_per_s: float
    ingest_per_s: float
    ingest_meanwhile_per_s: float
    caught_up_at: float

    @property
    def ratio(self) -> float:
        return self.flushed_per_s / self.ingest_per_s


def recovery(looks: Sequence[Look], back_at: float) -> Recovery | None:
    """From the first progress after `back_at` until the lag is near zero; None while it has not come to that."""
    begin = looks[0]
    before = max(look.flushed or 0 for look in looks if look.at < back_at)
    after = [(look, look.flushed) for look in looks if look.at >= back_at and (look.flushed or 0) > before]
    for look, flushed in after:
        ingest_per_s = (look.written - begin.written) / (look.at - begin.at)
        first, first_flushed = after[0]
        if look is not first and look.written - (flushed or 0) <= ingest_per_s * NEAR_S:
            took_s = look.at - first.at
            return Recovery(
                ((flushed or 0) - (first_flushed or 0)) / took_s,
                ingest_per_s,
                (look.written - first.written) / took_s,
                look.at,
            )
    return None
