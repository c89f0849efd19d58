"""The audit's pure parts: further looks at a suspect, counts, samples, alarms, the page."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any

import pytest

from tests.unit.test_audit_diff import NEW, OLD, PLAYERS, ROW_VALUES, entry
from writebehind.flusher.audit.diff import Comparer, Verdict
from writebehind.flusher.audit.entry import Found, Unreadable, read_entry
from writebehind.flusher.audit.options import Options, parse_share
from writebehind.flusher.audit.page import page
from writebehind.flusher.audit.report import duration, lines
from writebehind.flusher.audit.run import Result
from writebehind.flusher.audit.suspects import GONE, MOVED, WAIT, Group, Moment, Patience, Suspect, look, passed
from writebehind.flusher.audit.tally import Finding, Tally
from writebehind.flusher.audit.watch import alarm
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import CacheAside, Entity, Key
from writebehind.shared.errors import ConfigurationError

PATIENCE = Patience(confirm_s=10, delivery_s=30, wait_s=45)
WRONG, RIGHT = entry("c", "Eve", "10", "7", "2"), entry()
PENDING = entry("c", "Eve", "10", "7", "2", version=NEW, pending="1")
LEASED = entry("c", "Eve", "10", "7", "2", parts=" lT:1")


def seen(
    found: Any,
    now: Found,
    *,
    after_s: float,
    row: Any = ROW_VALUES,
    second: Any = ...,
    flushed: bool = True,
    age_s: float = 0,
) -> Verdict | str:
    suspect = Suspect("player", (1,), "1", found, ROW_VALUES, since=100.0, born=100.0)
    at = Moment(100.0 + after_s, NEW + int(age_s * 1e6))
    last = now if second is ... else second
    return look(suspect, now, row, last, at, PLAYERS, PATIENCE, flushed=flushed)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (seen(WRONG, WRONG, after_s=5), WAIT),
        (seen(WRONG, WRONG, after_s=10), Verdict.DIFFERS),
        (seen(WRONG, LEASED, after_s=10), Verdict.DIFFERS),
        (seen(WRONG, None, after_s=10), GONE),
        (seen(WRONG, WRONG, after_s=10, second=None), GONE),
        (seen(WRONG, RIGHT, after_s=1), Verdict.IN_SYNC),
        (seen(WRONG, RIGHT, after_s=1, second=WRONG), MOVED),
        (seen(WRONG, WRONG, after_s=10, row=("Eve", 10, 7, 2, None)), Verdict.IN_SYNC),
        (seen(WRONG, WRONG, after_s=10, row=("Bob", 10, 7, 2, None)), MOVED),
        (seen(WRONG, PENDING, after_s=50), Verdict.PENDING),
        (seen(PENDING, PENDING, after_s=20, flushed=False), WAIT),
        (seen(PENDING, PENDING, after_s=20), WAIT),
        (seen(PENDING, PENDING, after_s=31), Verdict.DIFFERS),
        (seen(PENDING, PENDING, after_s=11, age_s=31), Verdict.DIFFERS),
        (seen(PENDING, PENDING, after_s=9, age_s=31), WAIT),
        (seen(PENDING, PENDING, after_s=46, flushed=False, age_s=99), Verdict.PENDING),
        (seen(Unreadable("x"), Unreadable("x"), after_s=1), Verdict.UNREADABLE),
        (seen(Unreadable("x"), RIGHT, after_s=1), Verdict.IN_SYNC),
    ],
)
def test_a_suspect_is_judged_when_it_has_stayed_as_it_was(said: Verdict | str, expected: Verdict | str) -> None:
    assert said == expected


def test_a_direct_entry_is_judged_when_the_invalidations_are_carried_out() -> None:
    class Page(Entity, table="pages", strategy=CacheAside()):
        id: Annotated[int, Key]
        title: str

    shown = Comparer(declaration_of(Page), {})

    def said(header: str, *, after_s: float, flushed: bool) -> Verdict | str:
        found = read_entry([header.encode(), b"old"])
        suspect = Suspect("page", (1,), "1", found, ("new", None), since=100.0, born=100.0)  # type: ignore[arg-type]
        at = Moment(100.0 + after_s, NEW)
        return look(suspect, found, ("new", None), found, at, shown, PATIENCE, flushed=flushed)

    clean = "0" * 16 + " " + "0" * 16 + "c"
    assert said(clean, after_s=20, flushed=False) == WAIT
    assert said(clean, after_s=50, flushed=False) is Verdict.PENDING
    assert said(clean, after_s=20, flushed=True) is Verdict.DIFFERS
    assert said(f"{clean} x1:2", after_s=20, flushed=True) is Verdict.DIFFERS
    assert said(f"{clean} iT:99", after_s=20, flushed=True) is Verdict.IN_SYNC, "readers go to the row"


def test_records_are_flushed_when_progress_of_the_same_topic_has_passed_the_ends() -> None:
    ends = {("a", 0): 5, ("a", 1): 0}
    assert passed(ends, {("a", 0): 5})
    assert not passed(ends, {("a", 0): 4})
    assert not passed(ends, {("b", 0): 9}), "the topic was made again"


def test_looks_become_rarer_and_do_not_miss_the_moment_to_confirm() -> None:
    group, at, looks = Group(None, [], noted=0.0), 0.0, list[float]()
    while at < 40:
        group.schedule(at, PATIENCE)
        at = group.next_look
        looks.append(at)
    assert looks == [0.5, 1, 2, 4, 8, 10, 20, 40]


def finding(verdict: Verdict, age_s: float, key: str = "1") -> Finding:
    return Finding("player", key, verdict, ("name",), NEW, OLD, age_s, values={"name": ["a", "b"]})


def test_counts_survive_being_kept_and_hold_no_values() -> None:
    tally = Tally(sampled_out=3, vanished=2)
    tally.in_sync(96)
    for age_s, verdict in ((10, Verdict.LOST), (100, Verdict.STALE), (400, Verdict.PENDING), (9999, Verdict.UNSETTLED)):
        tally.add(finding(verdict, age_s))
    told = tally.as_json()
    assert told["drift"] == 2
    assert told["compared"] == 100
    assert told["nines"]["1"] == {"consistent": 98, "of": 100, "nines": 1.7}
    assert told["nines"]["10"]["nines"] is None
    assert "values" not in json.dumps(told)
    assert "values" in json.dumps(tally.as_json(values=True))
    assert Tally.from_json(json.loads(json.dumps(told))).as_json() == told


def test_only_a_whole_look_at_everything_is_clean() -> None:
    assert Tally().is_clean
    assert not Tally(sampled_out=1).is_clean
    for verdict in (Verdict.LOST, Verdict.UNREADABLE):
        tally = Tally()
        tally.add(finding(verdict, 0))
        assert not tally.is_clean
    waiting = Tally()
    waiting.add(finding(Verdict.PENDING, 59))
    assert waiting.is_clean
    waiting.add(finding(Verdict.PENDING, 61))
    assert not waiting.is_clean


def test_a_sample_is_a_share_of_the_keys_and_another_one_in_each_run() -> None:
    options = Options(("player",), share=parse_share("1%"))
    keys = [str(key) for key in range(20_000)]
    first, second = ({key for key in keys if options.takes(key, run)} for run in (1, 2))
    assert 120 < len(first) < 280
    assert first != second
    for text in ("0", "101%", "half", "-1%"):
        with pytest.raises(ConfigurationError):
            parse_share(text)


def test_a_run_goes_on_only_with_one_of_the_same_options() -> None:
    options = Options(("player",))
    assert options.identity == replace(options, keys_per_s=5).identity
    assert options.identity != replace(options, share=0.5).identity
    assert options.identity != replace(options, entities=("player", "team")).identity


def test_an_alarm_says_what_is_new_and_what_persists() -> None:
    before, now = frozenset({("a", "1"), ("a", "2")}), frozenset({("a", "2"), ("b", "1")})
    assert str(alarm(before, now)) == "drift: 1 new, 1 persist, 1 over"
    assert alarm(before, now).rings
    assert not alarm(before, frozenset()).rings


def test_report_and_page_show_keys_as_text() -> None:
    tally = Tally()
    tally.add(finding(Verdict.STALE, 90, key="<b>\x1b[31m"))
    told = {**tally.as_json(values=True), "verified_through": None}
    result = Result(7, "2026-01-01T00:00:00Z", 1.0, True, {"player": told}, {"junk": 2}, 0, frozenset())
    text = "\n".join(lines(result))
    assert "stale <b>\\x1b[31m (name), at most 90 s old" in text
    assert [duration(seconds) for seconds in (119, 120, 7_200, 172_800)] == ["119 s", "2 min", "2 h", "2 days"]
    assert "name: cache a, row b" in text
    assert "junk 2" in text
    run = {"run": 7, "started_at": "2026-01-01T00:00:00", "entities": {"player": told}}
    shown = page(result, [run] * 3)
    assert "&lt;b&gt;" in shown
    assert "<b>\\x1b" not in shown
    assert result.code == 1
