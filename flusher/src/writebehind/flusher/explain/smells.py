"""Smells that the declarations and settings alone show. Each says why it matters and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from writebehind.shared.declaration import Declaration
from writebehind.shared.entity import Merge
from writebehind.shared.settings import KafkaSettings
from writebehind.shared.strategy import Direct, WriteBehind

from .facts import Smell, duration

DAY_S = 86_400


def of_entity(declaration: Declaration, kafka: KafkaSettings, neighbours: Sequence[Declaration]) -> Iterator[Smell]:
    """The smells of one entity; `neighbours` are the other entities on its table."""
    if isinstance(declaration.strategy, WriteBehind):
        for find in _WRITE_BEHIND:
            yield from find(declaration, declaration.strategy)
        yield from _missing_rows(declaration, declaration.strategy, neighbours)
        yield from _short_retention(declaration, kafka)
    else:
        yield from _fills(declaration, declaration.strategy)


def of_table(name: str, declarations: Sequence[Declaration]) -> Iterator[Smell]:
    """The smells of entities that share a table."""
    ttls = {d.name: d.strategy.ttl_s for d in declarations}
    if len(set(ttls.values())) > 1:
        listed = ", ".join(f"{entity} {duration(ttl_s)}" for entity, ttl_s in ttls.items())
        yield Smell(
            "different-ttls",
            name,
            f"entities of one table keep their entries for different times: {listed}",
            "after a change past the library they show one row as it was at different times, "
            f"for up to {duration(max(ttls.values()))}",
            "give them one ttl_s, or invalidate the row's entries after such a change",
        )


def _plain(declaration: Declaration, _strategy: WriteBehind) -> Iterator[Smell]:
    if not declaration.combining:
        yield Smell(
            "plain-write-behind",
            declaration.name,
            "write-behind, and every field is Last: nothing is added up or compared",
            "batching gains little where a row is written less than once per flush delay, and the row is late for all "
            "who read the table themselves",
            "CacheAside, or WriteThrough where a read must be fresh; accept this if the volume asks for write-behind",
        )


def _short_life(declaration: Declaration, strategy: WriteBehind) -> Iterator[Smell]:
    if strategy.ttl_s < strategy.flush_delay_s:
        yield Smell(
            "ttl-below-delay",
            declaration.name,
            f"ttl_s ({duration(strategy.ttl_s)}) is shorter than flush_delay_s ({duration(strategy.flush_delay_s)})",
            "a flushed entry is gone before the next batch: most reads load the row, and the cache only adds its cost",
            "a ttl_s of many flush delays",
        )


def _deleted_sums(declaration: Declaration, strategy: WriteBehind) -> Iterator[Smell]:
    if strategy.deletes and declaration.sums:
        yield Smell(
            "delete-with-sum",
            declaration.name,
            f"rows with sums can be deleted: {', '.join(c.name for c in declaration.sums)}",
            "deltas older than the delete die with it, by version and not by arrival; when newer deltas come before "
            "the delete, the older ones stay: a sum cannot be taken apart",
            "put the sums into an entity without deletes, or mark rows as deleted with a field",
        )


_WRITE_BEHIND: tuple[Callable[[Declaration, WriteBehind], Iterator[Smell]], ...] = (_plain, _short_life, _deleted_sums)


def _missing_rows(
    declaration: Declaration, strategy: WriteBehind, neighbours: Sequence[Declaration]
) -> Iterator[Smell]:
    # Alone on its table an entity has to make its rows; beside others it mostly must not.
    if strategy.on_missing == "skip" and not neighbours:
        yield Smell(
            "skips-missing",
            declaration.name,
            "on_missing='skip', and no other entity makes the rows",
            "an acknowledged write to a row that is not there is dropped, without an error or a dead letter",
            "on_missing='insert', unless rows come from outside the library before the first write",
        )
    if strategy.on_missing == "insert" and neighbours:
        others = ", ".join(d.name for d in neighbours)
        yield Smell(
            "makes-rows",
            declaration.name,
            f"a late write makes the row when it is missing; the table's rows are also {others}'s",
            "a write to a key that never existed, or whose row was deleted meanwhile, leaves a row of defaults behind",
            "on_missing='skip' or 'dead_letter', when the others make the rows",
        )
    if strategy.deletes and (direct := [d for d in neighbours if isinstance(d.strategy, Direct)]):
        kept_s = max(d.strategy.ttl_s for d in direct)
        yield Smell(
            "deletes-shared-rows",
            declaration.name,
            f"its deletes take the rows of {', '.join(d.name for d in direct)} as well",
            f"their entries go on showing a deleted row for up to {duration(kept_s)}: the flusher tells only its own",
            "delete rows through one of the others, or mark them as deleted with a field",
        )


def _short_retention(declaration: Declaration, kafka: KafkaSettings) -> Iterator[Smell]:
    kept_s = kafka.retention_ms / 1000
    if kept_s < DAY_S:
        yield Smell(
            "short-retention",
            declaration.name,
            f"records are kept for {duration(kept_s)} (WRITEBEHIND_KAFKA__RETENTION_MS)",
            "a database or a flusher that is down for longer loses acknowledged writes",
            "longer than the longest outage you mean to survive; a week by default",
        )


def _fills(declaration: Declaration, strategy: Direct) -> Iterator[Smell]:
    if strategy.negative_ttl_s > strategy.ttl_s:
        yield Smell(
            "long-absence",
            declaration.name,
            f"negative_ttl_s ({duration(strategy.negative_ttl_s)}) is longer than ttl_s ({duration(strategy.ttl_s)})",
            'a row that is made past the library stays hidden behind "there is no row" longer than an old value lives',
            "a negative_ttl_s of a few seconds",
        )
    if strategy.ttl_jitter == 0:
        yield Smell(
            "no-jitter",
            declaration.name,
            "ttl_jitter is 0",
            "entries that were filled together expire together, and their rows are all loaded at that moment",
            "0.1, the default: each entry lives up to a tenth shorter",
        )
    fields = [c.name for c in declaration.combining if c.merge is Merge.SUM]
    if fields:
        yield Smell(
            "counter-on-the-row",
            declaration.name,
            f"each write of {', '.join(fields)} is a transaction of its own on the row",
            "the writers of one key wait for each other's row lock, and each drops or replaces the entry",
            "WriteBehind for counters that many write; accept this for balances, which must be in the row at once",
        )
