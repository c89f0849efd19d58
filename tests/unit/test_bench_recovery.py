"""What `make bench-recovery` concludes from its looks, and how it finds a write that is missing or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.recovery import Look, recovery
from tests.benchmarks.tally import Rows, Tally, compare

# 100 records a second come in; the database is away from 10 s to 20 s, and about 1,000 a second are flushed afterwards.
LOOKS = [
    *[Look(float(at), 100 * at, 100 * at) for at in range(10)],
    *[Look(float(at), 100 * at, None) for at in range(10, 20)],
    Look(20.0, 2000, 900),
    Look(20.5, 2050, 1000),
    Look(21.0, 2100, 1500),
    Look(21.6, 2160, 2120),
    Look(22.0, 2200, 2200),
]


def test_the_rate_counts_from_the_first_progress_after_the_return_to_a_lag_near_zero() -> None:
    found = recovery(LOOKS, back_at=19.5)
    assert found is not None
    assert found.caught_up_at == 21.6  # 40 behind: less than comes in half a second
    assert found.flushed_per_s == pytest.approx(1120 / 1.1)
    assert (found.ingest_per_s, found.ingest_meanwhile_per_s) == pytest.approx((100, 100))
    assert found.ratio == pytest.approx(11.2 / 1.1)


def test_nothing_is_concluded_before_it_has_caught_up() -> None:
    assert recovery(LOOKS[:-2], back_at=19.5) is None


def told() -> Tally:
    """Key 1 was written three times, key 2 once, and once more without an answer."""
    tally = Tally()
    for key, version, note in ((1, 10, 7), (1, 12, 9), (1, 11, 8), (2, 10, 5)):
        tally.add(key, version, note)
    tally.unknown[2] += 1
    return tally


@pytest.mark.parametrize(
    ("rows", "missing", "doubled"),
    [
        ({1: (3, 9), 2: (1, 5)}, 0, 0),
        ({1: (3, 9), 2: (2, 6)}, 0, 0),  # the unknown one is there
        ({1: (2, 9), 2: (1, 5)}, 1, 0),
        ({1: (3, 9)}, 1, 0),
        ({1: (3, 8), 2: (1, 5)}, 1, 0),  # an older note won
        ({1: (4, 9), 2: (3, 5)}, 0, 2),
        ({1: (3, 9), 2: (1, 5), 3: (1, None)}, 0, 1),  # nobody's
    ],
)
def test_rows_are_compared_with_what_the_producer_was_told(rows: Rows, missing: int, doubled: int) -> None:
    assert compare(told(), rows) == (missing, doubled)


def test_a_tally_survives_its_file(tmp_path: Path) -> None:
    told().save(tmp_path / "tally")
    assert compare(Tally.load(tmp_path / "tally"), {1: (2, 8), 2: (3, 5)}) == (2, 1)
