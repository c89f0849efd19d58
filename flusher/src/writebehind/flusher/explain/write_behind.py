"""What can be said of a write-behind entity: how old things get, and what a crash leaves."""

from __future__ import annotations

from writebehind.shared.settings import KafkaSettings, Settings
from writebehind.shared.strategy import WriteBehind

from .facts import Age, Crash, duration

WRITE = "the cache and Kafka; the row later, in batches, exactly once"
READ = "the cache, else the row below what is pending"


def ages(strategy: WriteBehind, settings: Settings) -> list[Age]:
    """How old a read and the row may be."""
    delay_s, taken_over_s = strategy.flush_delay_s, settings.flusher.session_timeout_s
    kept_s = settings.kafka.retention_ms / 1000
    return [
        Age("a read", 0.0, "while the cache answers: an entry with pending writes does not expire"),
        Age("a read", None, "the cache lost the entry or is down: the row is read, as old as it is then"),
        Age("the row", delay_s, "plus one transaction, while a flusher keeps up"),
        Age("the row", delay_s + taken_over_s, "a flusher died: the group gives its partitions to another"),
        Age("the row", kept_s, "no flusher or no database: beyond it records expire, and partitions stop at the gap"),
        Age("a change past the library", strategy.ttl_s, "until the entry expires, counted from its last flush"),
        Age("a row made past the library", strategy.negative_ttl_s, 'until "there is no row" expires'),
    ]


def crashes(strategy: WriteBehind, settings: Settings) -> list[Crash]:
    """What is left, in the order in which a write meets it."""
    return [
        Crash(
            "the service, before the broker has the record", "nothing", "unchanged", "may show the write until audited"
        ),
        Crash("the service, before it hears of the acknowledgement", "nothing", "written once", "shows the write"),
        _broker_down(strategy, settings),
        Crash("the call takes too long", "Unknown", "written once or not at all", "shows the write"),
        Crash(
            "the flusher, before COMMIT",
            "acknowledged",
            f"rolled back; read again by the next owner, after {duration(settings.flusher.session_timeout_s)}",
            "shows the write",
        ),
        Crash(
            "the flusher, before it tells the cache",
            "acknowledged",
            "written once",
            "right; the entry outlives its TTL",
        ),
        Crash("the cache is down", "acknowledged", "written once", "the row: slow, and as late as the row"),
        Crash("the cache loses everything", "acknowledged", "written once", "the row, until Kafka is flushed"),
        Crash("the database is down", "acknowledged", "written once, later", "the cache; a miss is DatabaseDown"),
        Crash(
            "the database refuses the record",
            "acknowledged",
            "unchanged; a dead letter says why",
            "the refused fields leave the cache",
        ),
        *_missing(strategy),
        _broker_lost(settings.kafka),
    ]


def _broker_down(strategy: WriteBehind, settings: Settings) -> Crash:
    after = duration(settings.producer.broker_down_after_s)
    if strategy.on_broker_down == "block":
        longest = duration(settings.producer.timeout_s)
        caller, row = f"waits up to {longest}, then NotApplied or Unknown", "written once, or not at all"
    elif strategy.on_broker_down == "shed":
        caller, row = f"Shed, at once after {after} of silence", "unchanged"
    else:
        caller, row = f"acknowledged, after {after} of silence", "written now, by the service"
    return Crash("the broker is down", caller, row, "shows what was not taken back")


def _missing(strategy: WriteBehind) -> list[Crash]:
    if strategy.on_missing == "insert":
        return []
    left = "drops the write" if strategy.on_missing == "skip" else "makes it a dead letter"
    row = f"none: on_missing='{strategy.on_missing}' {left}"
    return [Crash("there is no such row", "acknowledged", row, "the row: none")]


def _broker_lost(kafka: KafkaSettings) -> Crash:
    at = f"the disk of a broker is lost (replication {kafka.replication_factor}, {kafka.min_insync_replicas} in sync)"
    if kafka.min_insync_replicas > 1:
        return Crash(at, "acknowledged", "written once", "shows the write")
    return Crash(at, "acknowledged", "lost if no other replica had it and it was not flushed", "shows it until evicted")
