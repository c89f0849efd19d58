"""`check`: what is wrong by what the servers say of themselves, and nothing where nothing is."""

from __future__ import annotations

import pytest

from writebehind.flusher.check.finding import Severity
from writebehind.flusher.check.lag import threatened
from writebehind.flusher.status import PartitionStatus

HOUR_MS = 3_600_000


def partition(flushed: int | None, lag_s: float | None, *, start: int = 0, end: int = 10) -> PartitionStatus:
    lag = end - (start if flushed is None else flushed)
    return PartitionStatus("t", 3, start, end, flushed, lag, lag_s, None, None, None, None, None, None)


@pytest.mark.parametrize(
    ("flushed", "lag_s", "retention_ms"),
    [
        (10, None, HOUR_MS),
        (4, 1800.0, HOUR_MS),
        (None, 1800.0, HOUR_MS),
        (4, 1e9, -1),
        (4, None, HOUR_MS),  # its oldest record could not be read in time
    ],
)
def test_a_partition_that_is_flushed_soon_enough_is_not_told(
    flushed: int | None, lag_s: float | None, retention_ms: int
) -> None:
    assert threatened(partition(flushed, lag_s), retention_ms) is None


@pytest.mark.parametrize("flushed", [4, None])
def test_a_record_that_is_older_than_half_of_its_time_is_a_warning(flushed: int | None) -> None:
    found = threatened(partition(flushed, 1801.0), HOUR_MS)
    assert found is not None
    assert found.severity is Severity.WARNING
    records = 10 if flushed is None else 6
    assert found.what == f"t[3]: {records} records are not flushed, the oldest is 1801 s old; they are kept for 1.0 h"
    assert found.fix.endswith("--entity-name t --add-config retention.ms=14400000")


@pytest.mark.parametrize(
    ("flushed", "start", "reason", "offset"),
    [(4, 5, "1 records from offset 4 on expired", "earliest"), (12, 0, "the log ends at 10, 2 records", "latest")],
)
def test_records_that_are_gone_are_an_error_however_young_the_others_are(
    flushed: int, start: int, reason: str, offset: str
) -> None:
    found = threatened(partition(flushed, 1.0, start=start), HOUR_MS)
    assert found is not None
    assert found.severity is Severity.ERROR
    assert reason in found.what
    assert found.fix.endswith(f"writebehind progress set t 3 --offset {offset}")


def test_where_nobody_has_flushed_yet_nothing_is_gone() -> None:
    assert threatened(partition(None, 1.0, start=5), HOUR_MS) is None
