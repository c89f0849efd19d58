"""An explanation as a page: headings, sentences and tables, which `render.py` prints as text or Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .decision import TABLE
from .facts import Age, ColumnFacts, EntityFacts, Explanation, Smell, TableFacts, duration


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; level 1 is the page's."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Sentences, each on a line of its own."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Lines | Grid


def document(explanation: Explanation) -> Iterator[Block]:
    """The blocks of the page, in order."""
    for table in explanation.tables:
        yield from _table(table)
    yield Heading(1, "Which strategy for which need")
    yield _decision(explanation)
    yield Heading(1, "Warnings")
    yield from _warnings(explanation)


def _table(table: TableFacts) -> Iterator[Block]:
    yield Heading(1, f"Table {table.name}")
    yield Grid(
        ("column", "entity", "strategy", "merge or role", "a read comes from", "row late by", "retry after Unknown"),
        [_column(column) for column in table.columns],
    )
    for entity in table.entities:
        yield from _entity(entity)


def _column(c: ColumnFacts) -> tuple[str, ...]:
    late = "–" if c.row_late_s is None else duration(c.row_late_s)
    return c.name, c.entity or "–", c.strategy or "–", c.role, c.read_from, late, c.retry


def _entity(entity: EntityFacts) -> Iterator[Block]:
    yield Heading(2, f"{entity.name}: {entity.strategy}")
    yield Lines((f"a write goes to: {entity.write}", f"a read is served from: {entity.read}", f"with {entity.options}"))
    yield Grid(("how old it can be", "at most", "when"), [(age.seen, _at_most(age), age.when) for age in entity.ages])
    yield Grid(
        ("what fails", "the caller saw", "the row", "a read shows"),
        [(crash.at, crash.caller, crash.row, crash.read) for crash in entity.crashes],
    )


def _at_most(age: Age) -> str:
    return "as long as it lasts" if age.at_most_s is None else duration(age.at_most_s)


def _decision(explanation: Explanation) -> Grid:
    entities = [entity for table in explanation.tables for entity in table.entities]
    rows = [
        (row.need, row.strategy, row.goes_wrong, ", ".join(e.name for e in entities if e.need == row.need) or "–")
        for row in TABLE
    ]
    return Grid(("need", "strategy", "how it goes wrong", "picked by"), rows)


def _warnings(explanation: Explanation) -> Iterator[Block]:
    for smell in sorted(explanation.smells, key=lambda smell: smell.accepted):
        yield Lines(_smell(smell))
    said = ["1 warning" if explanation.warnings == 1 else f"{explanation.warnings} warnings"]
    if explanation.not_looked_at is not None:
        said.append(
            f"The database was not looked at ({explanation.not_looked_at}): columns that no entity owns, triggers and "
            "foreign keys are not known"
        )
    yield Lines(said)


def _smell(smell: Smell) -> tuple[str, ...]:
    title = f"{smell.code}:{smell.place} – {smell.what}"
    if smell.accepted:
        return (f"accepted: {title}",)
    return (title, f"why: {smell.why}", f"do: {smell.do}")
