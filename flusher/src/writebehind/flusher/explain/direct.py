"""What can be said of cache-aside and write-through entities: how old things get, and what a crash leaves."""

from __future__ import annotations

from writebehind.shared.settings import Settings
from writebehind.shared.strategy import Direct, WriteThrough

from .facts import Age, Crash, duration


def write(strategy: Direct) -> str:
    """What a write does."""
    if isinstance(strategy, WriteThrough):
        return "the row, then the entry, before the call returns"
    return "the row; then the entry is dropped, never set"


def read(strategy: Direct) -> str:
    """Where a read is served from."""
    return f"the cache for {duration(strategy.ttl_s)}, else the row"


def ages(strategy: Direct) -> list[Age]:
    """How old a read and the row may be."""
    done = "replaced" if isinstance(strategy, WriteThrough) else "dropped"
    found = [
        Age("a read after an acknowledged write", 0.0, f"whoever reads: the entry was {done} before the call returned")
    ]
    if strategy.on_cache_down == "invalidate":
        split = "only the writer cannot reach the cache: until the flusher has dropped the entry"
        found.append(Age("a read after an acknowledged write", strategy.ttl_s, split))
    jitter = f", or up to {strategy.ttl_jitter:.0%} sooner" if strategy.ttl_jitter else ""
    return [
        *found,
        Age("the row", 0.0, "always: it is written before the call returns"),
        Age("a change past the library", strategy.ttl_s, f"until the entry expires{jitter}"),
        Age("a row made past the library", strategy.negative_ttl_s, 'until "there is no row" expires'),
    ]


def crashes(strategy: Direct, settings: Settings) -> list[Crash]:
    """What is left, in the order in which a write meets it."""
    told = "replaces the entry" if isinstance(strategy, WriteThrough) else "takes its intent back"
    intent = f"the row: the intent keeps fills away, longer than the statement may run ({_statement(settings)})"
    return [
        Crash("the service, before its write intent", "nothing", "unchanged", "unchanged"),
        Crash("the service, before COMMIT", "nothing", "unchanged", intent),
        Crash(f"the service, before it {told}", "nothing", "written", "the row: the intent left a miss, no old value"),
        Crash("the answer to COMMIT is lost", "Unknown", "written once or not at all", "the row"),
        Crash(
            "a reader, before it fills",
            "–",
            "unchanged",
            f"the row; its lease ends after {duration(settings.cache.lease_s)}",
        ),
        _cache_down(strategy),
        Crash("the cache loses everything", "acknowledged", "written", "the row; readers fill the entry again"),
        Crash(
            "the cache loses everything before COMMIT, then the service dies",
            "nothing",
            "written",
            f"may be old for {duration(strategy.ttl_s)}: a reader could fill without seeing the intent",
        ),
        Crash(
            "the database is down",
            "NotApplied, or Unknown when the statement was on its way",
            "once or not at all",
            "the cache until entries expire; a miss is DatabaseDown",
        ),
        Crash("the database refuses the write", "Refused", "unchanged", "the row: nothing is left behind in the cache"),
    ]


def _cache_down(strategy: Direct) -> Crash:
    if strategy.on_cache_down == "fail":
        return Crash("the cache is down", "NotApplied", "unchanged", "the row: slow")
    caller = "acknowledged: the invalidation is in Kafka first; NotApplied when Kafka is down as well"
    return Crash(
        "the cache is down",
        caller,
        "written",
        "the row: slow; the old entry where it is reached, until the flusher drops it",
    )


def _statement(settings: Settings) -> str:
    return duration(settings.database.statement_timeout_s)
