"""`explain` without servers: what it says of each strategy with which numbers, and what it warns of."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from rich.console import Console

from tests.unit.explain_entities import Billing, Profile, Visits
from writebehind.flusher.explain import render
from writebehind.flusher.explain.document import Grid, Heading, Lines, document
from writebehind.flusher.explain.explanation import explain
from writebehind.flusher.explain.facts import Explanation, duration
from writebehind.flusher.explain.table_smells import Look, Writer
from writebehind.shared.entity import CacheAside, Entity, Key, Sum, WriteBehind, WriteThrough
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings
from writebehind.shared.strategy import Strategy
from writebehind.shared.table import ColumnInfo, TableInfo

MIXED = Registry([Profile, Billing, Visits])
GOLDEN = Path(__file__).with_name("explain_mixed.txt")


def settings(**kafka: Any) -> Settings:
    nowhere: dict[str, Any] = {"database": {"url": "postgresql://nowhere"}, "cache": {"url": "redis://nowhere"}}
    return load_settings(kafka={"bootstrap_servers": "nowhere", **kafka}, **nowhere)


def explained(registry: Registry, looks: dict[str, Look] | None = None, **options: Any) -> Explanation:
    return explain(registry, options.pop("settings", settings()), looks or {}, **options)


def codes(explanation: Explanation) -> set[str]:
    return {f"{smell.code}:{smell.place}" for smell in explanation.smells if not smell.accepted}


def counter(strategy: Strategy) -> Registry:
    class Counter(Entity, table="counters", strategy=strategy):
        id: Annotated[int, Key]
        hits: Annotated[int, Sum] = 0

    return Registry([Counter])


def note(strategy: Strategy) -> Registry:
    class Note(Entity, table="notes", strategy=strategy):
        id: Annotated[int, Key]
        text: str = ""

    return Registry([Note])


def looked(*columns: tuple[str, bool, str | None], writers: Sequence[Writer] = ()) -> Look:
    """The table of `counter` with more columns: name, nullable, default."""
    all_columns = (("id", False, None), ("hits", False, "0"), *columns)
    infos = {
        name: ColumnInfo(name, "bigint", "bigint", nullable, default, generated=False, enum_labels=None)
        for name, nullable, default in all_columns
    }
    return Look(TableInfo("public", "counters", infos, frozenset({frozenset({"id"})})), writers)


def test_a_table_under_three_strategies_is_explained_as_a_whole() -> None:
    # To write it anew:
    # writebehind explain --offline --entities tests.unit.explain_entities | sed 's/ *$//' >tests/unit/explain_mixed.txt
    page = Console(file=io.StringIO(), width=render.WIDTH)
    render.text(document(explained(MIXED, not_looked_at="--offline")), page)
    assert isinstance(page.file, io.StringIO)
    assert [line.rstrip() for line in page.file.getvalue().splitlines()] == GOLDEN.read_text().splitlines()


def test_every_column_of_a_declaration_is_there_once_with_its_owner() -> None:
    (table,) = explained(MIXED).tables
    assert [(c.name, c.entity, c.row_late_s) for c in table.columns] == [
        ("id", None, None),
        ("name", "profile", 0.0),
        ("bio", "profile", 0.0),
        ("status", "billing", 0.0),
        ("version", "billing", None),
        ("views", "visits", 0.2),
    ]


def test_ages_are_those_of_the_configured_numbers() -> None:
    strategy = WriteBehind(flush_delay_s=1.5, ttl_s=77)
    ((table,), (entity,)) = (found := explained(counter(strategy))).tables, found.tables[0].entities
    assert table.name == "counters"
    assert [(age.seen, age.at_most_s) for age in entity.ages] == [
        ("a read", 0.0),
        ("a read", None),
        ("the row", 1.5),
        ("the row", 46.5),
        ("the row", 604800.0),
        ("a change past the library", 77),
        ("a row made past the library", 5.0),
    ]


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (WriteBehind(on_broker_down="block"), "waits up to 10 s, then NotApplied or Unknown"),
        (WriteBehind(on_broker_down="shed"), "Shed, at once after 3 s of silence"),
        (WriteBehind(on_broker_down="through"), "acknowledged, after 3 s of silence"),
        (CacheAside(on_cache_down="fail"), "NotApplied"),
        (WriteThrough(on_cache_down="invalidate"), "acknowledged: the invalidation is in Kafka first"),
    ],
)
def test_what_a_caller_sees_follows_the_policy(strategy: Strategy, said: str) -> None:
    (entity,) = explained(counter(strategy)).tables[0].entities
    assert any(said in crash.caller for crash in entity.crashes if crash.at.endswith("is down"))


@pytest.mark.parametrize(("in_sync", "said"), [(1, "lost if no other replica had it"), (2, "written once")])
def test_a_lost_disk_costs_what_replication_says(in_sync: int, said: str) -> None:
    kafka = settings(replication_factor=3, min_insync_replicas=in_sync)
    (entity,) = explained(counter(WriteBehind()), settings=kafka).tables[0].entities
    assert said in next(crash.row for crash in entity.crashes if "disk" in crash.at)


@pytest.mark.parametrize(
    ("registry", "found"),
    [
        (note(WriteBehind()), {"plain-write-behind:note"}),
        (counter(WriteBehind()), set()),
        (counter(WriteBehind(flush_delay_s=5, ttl_s=1)), {"ttl-below-delay:counter"}),
        (counter(WriteBehind(deletes=True)), {"delete-with-sum:counter"}),
        (counter(WriteBehind(on_missing="skip")), {"skips-missing:counter"}),
        (counter(WriteBehind(on_missing="dead_letter")), set()),
        (note(CacheAside()), set()),
        (note(CacheAside(ttl_s=2)), {"long-absence:note"}),
        (note(WriteThrough(ttl_jitter=0)), {"no-jitter:note"}),
        (counter(WriteThrough()), {"counter-on-the-row:counter"}),
        (MIXED, {"makes-rows:visits", "different-ttls:users"}),
    ],
)
def test_a_declaration_smells_of_exactly_this(registry: Registry, found: set[str]) -> None:
    assert codes(explained(registry)) == found


def test_records_that_are_kept_for_an_hour_are_warned_of() -> None:
    short = explained(counter(WriteBehind()), settings=settings(retention_ms=3_600_000))
    assert codes(short) == {"short-retention:counter"}


@pytest.mark.parametrize(
    ("look", "found"),
    [
        (looked(), set()),
        (looked(("email", True, None)), {"unowned-columns:public.counters"}),
        (looked(("email", False, None)), {"unowned-columns:public.counters", "no-default:counter"}),
        (looked(("email", False, "''")), {"unowned-columns:public.counters"}),
        (looked(writers=[Writer("trigger", "touch", "may change rows")]), {"past-the-library:public.counters"}),
        (looked(writers=[Writer("foreign key", "fk", "deletes rows")]), {"past-the-library:public.counters"}),
        (Look(None), {"not-as-declared:counter"}),
    ],
)
def test_a_table_smells_of_exactly_this(look: Look, found: set[str]) -> None:
    explanation = explained(counter(WriteBehind()), {"counter": look})
    assert codes(explanation) == found
    assert explanation.not_looked_at is None


def test_columns_that_nobody_owns_are_listed_as_such() -> None:
    (table,) = explained(counter(WriteBehind()), {"counter": looked(("email", True, None))}).tables
    assert [(c.name, c.role) for c in table.columns] == [("id", "key"), ("hits", "sum"), ("email", "nobody's")]


@pytest.mark.parametrize("accepted", ["plain-write-behind", "plain-write-behind:note"])
def test_what_was_accepted_is_shown_and_no_warning(accepted: str) -> None:
    explanation = explained(note(WriteBehind()), accepted=[accepted])
    assert explanation.warnings == 0
    assert [smell.accepted for smell in explanation.smells] == [True]
    assert explained(note(WriteBehind()), accepted=["plain-write-behind:other"]).warnings == 1


def test_a_name_cannot_break_out_of_its_cell_in_markdown() -> None:
    page = render.markdown([Heading(1, "a_b"), Grid(("x",), [("a|b<c>",)]), Lines(["*"])])
    assert page == "## a\\_b\n\n| x |\n| --- |\n| a\\|b\\<c\\> |\n\n- \\*\n\n"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0.2 s"), (60, "1 min"), (90, "90 s"), (300, "5 min"), (3600, "1 h"), (604_800, "7 d")]
)
def test_durations_are_short(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_readme_shows_lines_of_the_real_output() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme.partition("## Know what you picked")[2].partition("```text\n")[2].partition("```")[0]
    assert section
    assert set(section.splitlines()) <= set(GOLDEN.read_text().splitlines())
