"""The state after a run, and what the checkers say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from tests.faults import checkers, checkers_cache, checkers_fresh, checkers_life
from tests.faults.auditing import PLANT
from tests.faults.checkers import Violation
from tests.faults.checkers_audit import Finding, check_audit
from tests.faults.checkers_cache import Window
from tests.faults.checkers_life import DeadLetter
from tests.faults.crew import AUDITOR, MORTAL
from tests.faults.entities import (
    ENTITIES,
    Account,
    Appeal,
    Aside,
    Counter,
    Graded,
    Profile,
    Register,
    Session,
    Through,
    Unit,
    Visitor,
)
from tests.faults.histories import History, Op, Outcome, Read, Values
from tests.faults.replays import REPLAY
from tests.faults.world import PARTITIONS, World
from writebehind.producer import AsyncClient, Entity
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.letter import read as read_letter

Rows = dict[int, Values]
OF_WORKLOAD: Final[Mapping[str, type[Entity]]] = {
    "set": Unit,
    "register": Register,
    "counter": Counter,
    "bank": Account,
    "patches": Profile,
    "churn": Visitor,
    "poison": Graded,
    "coherence": Session,
    "appeals": Appeal,
    "aside": Aside,
    "through": Through,
}
_KEYS_PER_CALL: Final = 1000


@dataclass(slots=True)
class State:
    """Rows per entity, what the library serves for the same keys, and the letters that count."""

    rows: dict[type[Entity], Rows]
    cached: dict[type[Entity], dict[int, Values | None]]
    letters: list[DeadLetter] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def gather(world: World, keys: Mapping[type[Entity], Sequence[int]]) -> State:
    """Read everything. `keys`: those whose cache is compared."""
    return State(_rows(world), asyncio.run(_cached(world, keys)), _letters(world), findings(world))


def _rows(world: World) -> dict[type[Entity], Rows]:
    found: dict[type[Entity], Rows] = {}
    with world.connect() as connection:
        for cls in ENTITIES:
            declaration = declaration_of(cls)
            names = [column.name for column in (*declaration.keys, *declaration.fields)]
            query = f"SELECT {', '.join(names)} FROM {declaration.table}".encode()
            found[cls] = {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in connection.execute(query)}
    return found


async def _cached(world: World, keys: Mapping[type[Entity], Sequence[int]]) -> dict[type[Entity], dict[int, Any]]:
    found: dict[type[Entity], dict[int, Any]] = {}
    async with AsyncClient.open(world.settings) as client:
        for cls, wanted in keys.items():
            shown: dict[int, Any] = dict.fromkeys(wanted)
            for start in range(0, len(wanted), _KEYS_PER_CALL):
                rows = await client.get_many(cls, wanted[start : start + _KEYS_PER_CALL])
                shown |= {key: row.model_dump(exclude={"id"}) for key, row in rows.items()}
            found[cls] = shown
    return found


def findings(world: World) -> list[Finding]:
    """What audits found, drift or not."""
    workloads = {declaration_of(cls).name: name for name, cls in OF_WORKLOAD.items()}
    query = (
        "SELECT run, entity, key, verdict, concat_ws(' ', fields, 'entry', entry_version, 'row', row_version, repair,"
        " found_at) FROM writebehind.audit_finding"
    )
    with world.connect() as connection:
        return [
            Finding(run, workloads[entity], int(key), verdict, what)
            for run, entity, key, verdict, what in connection.execute(query)
        ]


def _letters(world: World) -> list[DeadLetter]:
    """Letters whose record was skipped in a committed transaction; several letters of one record are one."""
    topic = naming.topic(world.settings.kafka.topic_prefix, declaration_of(Graded).name)
    query = 'SELECT partition, "offset" FROM writebehind.letter WHERE topic = %s AND state = %s'
    with world.connect() as connection:
        counted = set(connection.execute(query, (topic, "refused")).fetchall())
    found: dict[tuple[int, int], DeadLetter] = {}
    consumer = world.consumer()
    try:
        for number in range(PARTITIONS):
            for key, headers in _messages(consumer, naming.dead_letter_topic(topic), number):
                origin = read_letter(headers).origin
                if (origin.partition, origin.offset) in counted:
                    found[origin.partition, origin.offset] = DeadLetter(key, origin.partition, origin.offset)
    finally:
        consumer.close()
    lonely = counted - found.keys()
    return [*found.values(), *[DeadLetter(-1, *place) for place in lonely]]


def _messages(consumer: Consumer, topic: str, number: int) -> list[tuple[int, Any]]:
    _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
    found: list[tuple[int, Any]] = []
    consumer.assign([TopicPartition(topic, number, 0)])
    while len(found) < end:
        message = consumer.poll(10)
        if message is None or message.error() is not None:
            raise RuntimeError(f"{topic}[{number}] cannot be read to its end")
        found.append((int(message.key() or b"-1"), message.headers()))
    return found


def compared_keys(histories: Mapping[str, Sequence[History]], *, sample: int = 20_000) -> dict[type[Entity], list[int]]:
    """Keys whose cache is compared with their row: all that were written, of the unique rows the last ones."""
    return {
        OF_WORKLOAD[name]: sorted({op.key for history in of_name for op in history.ops})[-sample:]
        for name, of_name in histories.items()
        if name in OF_WORKLOAD
    }


def check(histories: Mapping[str, Sequence[History]], state: State, windows: Sequence[Window]) -> list[Violation]:
    """All checkers over all workloads."""
    samples = [sample for history in histories.get("poller", ()) for sample in history.samples]
    found: list[Violation] = []
    suspicious: dict[str, set[int]] = {}
    for name, cls in OF_WORKLOAD.items():
        ops = _merged(histories.get(name, ()))
        rows = state.rows[cls]
        if name == "set":
            found += checkers.check_set(name, ops, rows)
        elif name == "counter":
            found += checkers.check_counter(name, ops, rows)
        elif name == "bank":
            found += checkers.check_bank(name, ops, rows, samples)
        elif name == "churn":
            found += checkers_life.check_churn(name, ops, rows)
        elif name == "appeals":
            found += checkers.check_counter(name, ops, rows)
            found += checkers.check_register(name, ops, rows, ["label"])
        elif name == "poison":
            found += checkers_life.check_letters(name, ops, state.letters)
            found += checkers.check_register(name, [op for op in ops if op.values["mark"] >= 0], rows, ["mark"])
        elif name in MORTAL:
            continue
        else:
            fields = [column.name for column in declaration_of(cls).fields]
            found += checkers.check_register(name, ops, rows, fields)
        suspicious[name] = {op.key for op in ops if op.outcome is not Outcome.OK}
        found += checkers_cache.check_cache(name, state.cached.get(cls, {}), rows)
    found += check_direct(histories, state, windows)
    found += checkers.check_versions("register", samples)
    ops, reads = _merged(histories.get("coherence", ())), _reads(histories, "coherence")
    found += checkers_cache.check_reads("coherence", ops, reads, "step", windows)
    edits = {op.key for history in histories.get(AUDITOR, ()) for op in history.ops if op.kind == PLANT}
    found += check_audit(state.findings, suspicious | {"coherence": suspicious["coherence"] | edits})
    return found


def check_direct(
    histories: Mapping[str, Sequence[History]], state: State, windows: Sequence[Window]
) -> list[Violation]:
    """The checkers of what services write themselves."""
    found: list[Violation] = []
    for name in MORTAL:
        cls, ops = OF_WORKLOAD[name], _merged(histories.get(name, ()))
        found += checkers_fresh.check_direct(name, ops, state.rows[cls])
        found += checkers_fresh.check_fresh(name, ops, _reads(histories, name), "label", windows=windows)
        found += checkers_cache.check_cache(name, state.cached.get(cls, {}), state.rows[cls])
    return found


def _reads(histories: Mapping[str, Sequence[History]], name: str) -> list[Read]:
    return [read for history in histories.get(name, ()) for read in history.reads]


def _merged(histories: Sequence[History]) -> list[Op]:
    """The writes of a workload's processes, in the order of their calls."""
    writes = (op for history in histories for op in history.ops if op.kind != REPLAY)
    return sorted(writes, key=lambda op: op.invoked)
