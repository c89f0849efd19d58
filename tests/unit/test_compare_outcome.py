"""What `compare` makes of its samples."""

from __future__ import annotations

import pytest

from writebehind.embedded.compare import view
from writebehind.embedded.compare.outcome import Comparison, Latency, Load, Outage, Sample, Seen, Strategy
from writebehind.embedded.compare.page import page

SAMPLES = [
    Sample("read", 0.1, 1.0),
    Sample("read", 0.2, 3.0, old=True),
    Sample("write", 0.3, 5.0),
    Sample("write", 1.2, 10.0, "Unknown"),
    Sample("read", 1.3, 9.0, "DatabaseDown"),
    Sample("read", 1.4, 2.0),
    Sample("read", 2.1, 2.0, old=True),
    Sample("write", 2.6, 7.0),
]


def test_percentiles_are_values_that_were_measured() -> None:
    assert Latency.of([float(n) for n in range(100, 0, -1)]) == Latency(100, 51.0, 100.0, 100.0)
    assert Latency.of([4.0]) == Latency(1, 4.0, 4.0, 4.0)
    assert Latency.of([]) == Latency(0, None, None, None)


def test_a_load_counts_what_succeeded_what_was_old_and_what_failed() -> None:
    load = Load.of(SAMPLES, 2.0)
    assert (load.calls_per_s, load.old_reads) == (3, 2)
    assert (load.read.count, load.write.max_ms) == (4, 7.0)
    assert load.errors == {"write Unknown": 1, "read DatabaseDown": 1}


def test_an_outage_counts_between_the_kill_and_the_start() -> None:
    outage = Outage.of(SAMPLES, 1.0, 2.0)
    assert (outage.seconds, outage.read.count, outage.write.count) == (1.0, 1, 0)
    assert outage.errors == {"write Unknown": 1, "read DatabaseDown": 1}
    assert outage.old_reads == 1
    assert outage.back_s == pytest.approx(0.6)
    assert Outage.of(SAMPLES[:-1], 1.0, 2.0).back_s is None  # no write came through
    assert outage.timeline[0] == {"read": 2, "write": 0, "failed": 0}
    assert outage.timeline[5] == {"read": 1, "write": 0, "failed": 1}
    assert sum(sum(bucket.values()) for bucket in outage.timeline) == len(SAMPLES)


def test_table_and_page_escape_what_they_are_given_and_say_what_was_skipped() -> None:
    outage, nothing = Outage.of(SAMPLES, 1.0, 2.0), Latency.of([])
    strategy = Strategy(Load.of(SAMPLES, 2.0), Seen(nothing, Latency.of([12.0])), 0.5, outage, None)
    found = Comparison({"outage_s": 1}, {"at": "<now>"}, None, {"a<b": strategy})
    rows = dict(view.rows(found))
    assert rows["cache killed: writes"] == ["0 ok, 1 Unknown"]
    assert rows["seen by a second client after, ms"] == ["– / – / –"]
    assert rows["database killed: reads"] == ["–"]
    text = page(found)
    assert "<now>" not in text
    assert "a<b" not in text
    assert text.count("<svg") == 3
    skipped = Comparison({}, {}, "not <ours>", {"a": strategy})
    assert not any("killed" in label for label, _ in view.rows(skipped))
    assert "not &lt;ours&gt;" in page(skipped)
