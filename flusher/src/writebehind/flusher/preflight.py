"""Before a flusher starts: is everything as the declarations say? All problems at once, and nothing flushed before."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

import redis
import tenacity
from confluent_kafka.admin import AdminClient

from writebehind.shared import cluster, table
from writebehind.shared.declaration import Declaration
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import CacheSettings, Settings
from writebehind.shared.statement import Statements
from writebehind.shared.table import TableInfo

from . import servers
from .cache import connect as connect_cache
from .cache import is_cluster
from .leftovers import leftovers
from .migrate import lacking
from .migrate import slots as read_slots

log = logging.getLogger("writebehind.flusher")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entity that can be flushed: its table, and the slot of each versioned field."""

    declaration: Declaration
    table: TableInfo
    slots: dict[str, int]

    def statements(self, bookkeeping: str) -> Statements:
        """The entity's statements; `bookkeeping` is the schema of our own tables."""
        return Statements(
            self.declaration,
            schema=self.table.schema,
            column_types={name: column.type_name for name, column in self.table.columns.items()},
            defaults={name: column.default_expr for name, column in self.table.columns.items()},
            slots=self.slots,
            bookkeeping=bookkeeping,
        )


def preflight_when_reachable(
    settings: Settings, registry: Registry, stopping: threading.Event
) -> dict[str, Prepared] | None:
    """`preflight`, once the database answers: servers start in any order. None: told to stop before it did."""
    flusher = settings.flusher
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(servers.Unreachable),
        wait=tenacity.wait_random_exponential(multiplier=flusher.retry_delay_min_s, max=flusher.retry_delay_max_s),
        stop=tenacity.stop_when_event_set(stopping),
        sleep=tenacity.sleep_using_event(stopping),
        before_sleep=_tell,
    )
    try:
        return attempts(preflight, settings, registry)
    except tenacity.RetryError:
        return None


def _tell(state: tenacity.RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        log.warning("waiting: %s", state.outcome.exception())


def preflight(settings: Settings, registry: Registry) -> dict[str, Prepared]:
    """Check tables, slots, librdkafka's options, and that the cache is no cluster and evicts nothing that is pending.

    A cache or broker that is down does not matter yet. Raises ConfigurationError listing every problem; Unreachable
    when the database does not answer.
    """
    problems: list[str] = []
    prepared: dict[str, Prepared] = {}
    with servers.database(settings.database, "writebehind-preflight") as connection:
        if files := lacking(connection, settings.database.schema_):
            problems.append(f"the bookkeeping lacks {', '.join(files)}. To mend it: writebehind migrate")
        problems += leftovers(settings, registry, connection)
        for declaration in registry.write_behind:  # rows of the others are written by their callers
            info = table.parse(connection.execute(table.QUERY, table.params(declaration)).fetchall())
            slots = read_slots(connection, settings.database.schema_, declaration.name)
            found = [f"{problem.message}. To mend it: {problem.fix}" for problem in table.problems(declaration, info)]
            if unplaced := [c.name for c in declaration.versioned if c.name not in slots]:
                found.append(
                    f"{declaration.cls.__name__}: fields without a slot for their version: {', '.join(unplaced)}. "
                    "To mend it: writebehind migrate"
                )
            problems += found
            if info is not None and not found:
                prepared[declaration.name] = Prepared(declaration, info, slots)
    problems += _kafka_problems(settings) + _cache_problems(settings.cache)
    if problems:
        raise ConfigurationError("not ready to flush:\n" + "\n".join(f"  {problem}" for problem in problems))
    return prepared


def _kafka_problems(settings: Settings) -> list[str]:
    broker = servers.Broker(settings)
    try:
        with broker.told():
            AdminClient(broker.client_config())
    except ConfigurationError as error:
        return [str(error)]
    return []


def _cache_problems(settings: CacheSettings) -> list[str]:
    try:
        client = connect_cache(settings, "writebehind-preflight")
    except ConfigurationError as error:
        return [str(error)]
    try:
        if is_cluster(client):
            return [cluster.REFUSED]
        # Not CONFIG GET: hosted caches refuse CONFIG.
        policy = str(client.info("memory").get("maxmemory_policy", ""))
    except (redis.RedisError, OSError):
        return []  # down, or we may not ask: flushing does not need the cache
    finally:
        client.close()
    problem = eviction_problem(policy)
    return [] if problem is None else [f"{problem[0]}. To mend it: {problem[1]}"]


def eviction_problem(policy: str) -> tuple[str, str] | None:
    """Whether the cache may evict what is pending, and the command that mends it."""
    if not policy.startswith("allkeys"):
        return None
    problem = f"the cache's maxmemory-policy {policy} may evict entries with pending writes"
    return problem, "CONFIG SET maxmemory-policy volatile-lru"
