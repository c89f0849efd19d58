"""The demo's two readings of the same file: the departures to replay, and the rows that must come out of them."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from writebehind.embedded.demo import dataset
from writebehind.embedded.demo.compare import compare
from writebehind.embedded.demo.dataset import Departure
from writebehind.embedded.demo.expected import Key, Row, expected_rows
from writebehind.embedded.demo.monitor import Rate
from writebehind.embedded.demo.replay import writes
from writebehind.embedded.errors import EmbeddedError

# Not in order of departure; one left early, one past midnight, one cancelled, one cancelled without an aircraft.
CSV = """\
year,dep_delay,tailnum,origin,dest,minute,time_hour
2013,90,N1,JFK,LAX,45,2013-01-02T04:00:00Z
2013,-5,N1,JFK,BOS,0,2013-01-01T10:00:00Z
2013,2,N2,JFK,LAX,15,2013-01-01T10:00:00Z
2013,NA,N2,JFK,LAX,30,2013-01-01T11:00:00Z
2013,NA,NA,EWR,LGA,0,2013-01-01T12:00:00Z
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("flights.csv", CSV)
    return path


def read(archive: Path, limit: int | None = None) -> list[Departure]:
    with dataset.opened(archive) as lines:
        return dataset.departures(lines, limit)


def recompute(archive: Path, limit: int | None = None) -> tuple[dict[Key, Row], dict[Key, Row]]:
    with dataset.opened(archive) as lines:
        return expected_rows(lines, limit)


def at(day: int, hour: int, minute: int) -> datetime:
    return datetime(2013, 1, day, hour, minute, tzinfo=UTC)


def test_departures_come_in_the_order_in_which_they_left(archive: Path) -> None:
    assert read(archive) == [
        Departure(at(1, 9, 55), "JFK", "BOS", "N1", -5),
        Departure(at(1, 10, 17), "JFK", "LAX", "N2", 2),
        Departure(at(1, 11, 30), "JFK", "LAX", "N2", None),
        Departure(at(1, 12, 0), "EWR", "LGA", None, None),
        Departure(at(2, 6, 15), "JFK", "LAX", "N1", 90),
    ]


def test_every_departure_counts_for_its_route(archive: Path) -> None:
    routes, _ = recompute(archive)

    assert routes == {
        ("JFK", "BOS"): row(1, 0, -5, -5, at(1, 9, 55)),
        ("JFK", "LAX"): row(3, 1, 92, 90, at(2, 6, 15)),
        ("EWR", "LGA"): row(1, 1, 0, None, None),
    }


def test_an_aircraft_counts_the_departures_that_name_it(archive: Path) -> None:
    _, aircraft = recompute(archive)

    assert aircraft == {
        ("N1",): {**row(2, 0, 85, 90, at(2, 6, 15)), "last_destination": "LAX"},
        ("N2",): {**row(2, 1, 2, 2, at(1, 10, 17)), "last_destination": "LAX"},
    }


@pytest.mark.parametrize("limit", range(1, 6))
def test_a_limit_takes_the_same_departures_from_both_readings(archive: Path, limit: int) -> None:
    routes, _ = recompute(archive, limit)

    counted = {key: values["flights"] for key, values in routes.items()}
    replayed = [(departure.origin, departure.dest) for departure in read(archive, limit)]

    assert len(replayed) == limit
    assert counted == {key: replayed.count(key) for key in replayed}


def test_a_cancelled_departure_writes_no_delay_and_no_last_departure() -> None:
    of_route, of_aircraft = writes(Departure(at(1, 11, 30), "JFK", "LAX", "N2", None))

    assert of_route == of_aircraft == {"flights": 1, "cancelled": 1}


def test_a_departure_without_a_tail_number_writes_its_route_only() -> None:
    of_route, of_aircraft = writes(Departure(at(1, 12, 0), "EWR", "LGA", None, None))

    assert of_route == {"flights": 1, "cancelled": 1}
    assert of_aircraft is None


def test_equal_rows_have_no_difference(archive: Path) -> None:
    comparison = compare("Postgres", "routes", recompute(archive)[0], recompute(archive)[0])

    assert comparison.rows == 3
    assert comparison.differences == []


def test_a_wrong_value_a_missing_row_and_an_extra_row_are_differences(archive: Path) -> None:
    expected, _ = recompute(archive)
    found = {
        **expected,
        ("JFK", "BOS"): {**expected["JFK", "BOS"], "flights": 2},
        ("JFK", "XXX"): row(1, 0, 0, 0, None),
    }
    del found["EWR", "LGA"]

    differences = compare("cache", "routes", expected, found).differences

    assert [str(difference) for difference in differences] == [
        "cache: routes(EWR, LGA) is no row, expected a row",
        "cache: routes(JFK, BOS).flights is 2, expected 1",
        "cache: routes(JFK, XXX) is a row, expected no row",
    ]


def test_a_missing_package_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "DISTRIBUTION", "a-package-that-is-not-there")

    with pytest.raises(
        EmbeddedError, match=r"a-package-that-is-not-there, is not installed\nwhat to do: run `make install`"
    ):
        dataset.archive()


def test_a_rate_is_over_the_last_samples_only() -> None:
    rate = Rate()
    for second in range(20):
        rate.update(float(second), 0)

    assert rate.update(20.0, 700) == 100  # 8 samples span 7 seconds


def row(flights: int, cancelled: int, delay: int, worst: int | None, last: datetime | None) -> dict[str, Any]:
    return {
        "flights": flights,
        "cancelled": cancelled,
        "delay_minutes": delay,
        "worst_delay": worst,
        "last_departure": last,
    }
