"""The caching strategies an entity may declare, and what each can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import DeclarationError

OnCacheDown = Literal["invalidate", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBehind:
    """Write the cache and Kafka now, the database a moment later in batches.

    flush_delay_s: longest time a write may wait for its batch to fill, in seconds.
    ttl_s: life of a clean cache entry, in seconds, from when it was filled or its last write was flushed; an entry with
        pending writes does not expire.
    deletes: whether `delete` may be called; it costs a version per field and a look at the tombstones per batch.
    on_broker_down: what a write does when the broker cannot take it. "block": wait for room until the call's time-out;
        "shed": fail at once with `Shed`; "through": write the row in Postgres now, guarded by versions.
    on_missing: what the flusher does with a patch whose row does not exist: "insert" it, "skip" it, or refuse it as a
        "dead_letter", which can be replayed once there is a row.
    negative_ttl_s: how long "there is no row" is kept, in seconds.
    versions_column: the `bigint[]` column of the table that holds the version of each field; needed with `Last` fields
        or deletes, and made by `writebehind migrate --tables`. Entities that share a table need one each.
    """

    flush_delay_s: float = 0.2
    ttl_s: float = 3600.0
    deletes: bool = False
    on_broker_down: Literal["block", "shed", "through"] = "block"
    on_missing: Literal["insert", "skip", "dead_letter"] = "insert"
    negative_ttl_s: float = 5.0
    versions_column: str = "versions"

    def __post_init__(self) -> None:
        if not 0 <= self.flush_delay_s <= 60:
            raise DeclarationError("flush_delay_s must be between 0 and 60 seconds")
        _check_ttl("ttl_s", self.ttl_s)
        _check_ttl("negative_ttl_s", self.negative_ttl_s)
        if self.on_broker_down not in ("block", "shed", "through"):
            raise DeclarationError("on_broker_down must be 'block', 'shed' or 'through'")
        if self.on_missing not in ("insert", "skip", "dead_letter"):
            raise DeclarationError("on_missing must be 'insert', 'skip' or 'dead_letter'")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAside:
    """Write the row in the database and drop the cache entry; a read that misses loads the row and fills the entry.

    The table needs no column for it. What somebody changes in the row by other means is seen after the TTL, or
    after an explicit invalidation.

    ttl_s: life of a filled entry, in seconds.
    ttl_jitter: the part of `ttl_s`, at least 0 and less than 1, by which an entry's life may be shorter, at random, so
        that entries which were filled together do not expire together.
    negative_ttl_s: how long "there is no row" is kept, in seconds.
    early_recompute_beta: above 0, a reader now and then reloads an entry shortly before it expires, the more often the
        longer a load takes, so that a hot entry never expires under its readers (XFetch: Vattani, Chierichetti and
        Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015; 1.0 is their optimum). 0: off.
    on_cache_down: what a write does when the cache cannot be told. "invalidate": write, after the invalidation is safe
        in Kafka, from where the flusher carries it out; "fail": refuse with `NotApplied` before anything is written.
    """

    ttl_s: float = 300.0
    ttl_jitter: float = 0.1
    negative_ttl_s: float = 5.0
    early_recompute_beta: float = 0.0
    on_cache_down: OnCacheDown = "invalidate"

    def __post_init__(self) -> None:
        _check_filling(self)
        if not 0 <= self.early_recompute_beta <= 100:
            raise DeclarationError("early_recompute_beta must be between 0 (off) and 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteThrough:
    """Write the row in the database and the cache entry in one call; a read after it is never older, whoever reads.

    ttl_s: life of an entry, in seconds.
    ttl_jitter: the part of `ttl_s`, at least 0 and less than 1, by which an entry's life may be shorter, at random, so
        that entries which were filled together do not expire together.
    negative_ttl_s: how long "there is no row" is kept, in seconds.
    version_column: a `bigint` column; the statement that writes a row raises it, and an entry is only replaced by a
        newer one.
    on_cache_down: what a write does when the cache cannot be told. "invalidate": write, after the invalidation is safe
        in Kafka, from where the flusher carries it out; "fail": refuse with `NotApplied` before anything is written.
    """

    ttl_s: float = 300.0
    ttl_jitter: float = 0.1
    negative_ttl_s: float = 5.0
    version_column: str = "version"
    on_cache_down: OnCacheDown = "invalidate"

    def __post_init__(self) -> None:
        _check_filling(self)


Direct = CacheAside | WriteThrough  # the row is in the database when the call returns
Strategy = WriteBehind | Direct


def _check_filling(strategy: Direct) -> None:
    _check_ttl("ttl_s", strategy.ttl_s)
    _check_ttl("negative_ttl_s", strategy.negative_ttl_s)
    if not 0 <= strategy.ttl_jitter < 1:
        raise DeclarationError("ttl_jitter must be at least 0 and less than 1: a part of ttl_s")
    if strategy.on_cache_down not in ("invalidate", "fail"):
        raise DeclarationError("on_cache_down must be 'invalidate' or 'fail'")


def _check_ttl(name: str, seconds: float) -> None:
    if not 0 < seconds <= 10**9:
        raise DeclarationError(f"{name} must be greater than 0 (seconds)")
