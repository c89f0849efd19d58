"""Dead letters in a test's corner, made by hand: the message, and the row that says its record was skipped."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.flusher_process import ROOT, TIMEOUT_S
from tests.integration.flusher_world import FIRST_VERSION, World, world
from tests.integration.guarded import OPERATOR
from tests.zygote import Popen
from writebehind.embedded.isolation import Isolation
from writebehind.shared import naming
from writebehind.shared.declaration import declaration_of
from writebehind.shared.entity import Entity
from writebehind.shared.letter import REFUSED, Cause, Origin, headers
from writebehind.shared.record import Codec

CAUSE = Cause(
    REFUSED,
    "psycopg.errors.CheckViolation",
    "refused by a check",
    "23514",
    "strict_amount_check",
    None,
    1,
    "2026-01-01T00:00:00+00:00",
    "2026-01-02T00:00:00+00:00",
)


@dataclass
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """Of a replay or an import: what came to more than nothing."""
        summary: dict[str, Any] = self.lines[-1]["summary"]
        return {name: value for name, value in summary.items() if value and name != "dry_run"}

    @property
    def reasons(self) -> dict[str, str]:
        """Of a replay: why, by letter."""
        return {line["letter"]: line["reason"] for line in self.lines if "letter" in line}


@dataclass
class Letters:
    """Made by `letters`."""

    world: World
    _offsets: Iterator[int] = field(default_factory=itertools.count)
    _versions: Iterator[int] = field(default_factory=lambda: itertools.count(FIRST_VERSION))

    def put(
        self,
        cls: type[Entity],
        key: Any,
        *,
        version: int | None = None,
        row: bool = True,
        message: bool = True,
        cause: Cause = CAUSE,
        own: Sequence[tuple[str, bytes]] = (),
        change: dict[str, Any] | None = None,
        **patch: Any,
    ) -> str:
        """A letter of a write; an empty patch is a delete. `change` overrides what the message says.

        Gives its place.
        """
        declaration = declaration_of(cls)
        wire_key = declaration.check_key(key)
        fields = declaration.check_patch(patch) if patch else []
        wire = [(c.position, v if v is None or c.kind.to_wire is None else c.kind.to_wire(v)) for c, v in fields]
        version = next(self._versions) if version is None else version
        origin = Origin(self.world.topic(cls), "topic-1", 0, next(self._offsets))
        says: dict[str, Any] = {
            "key": declaration.key_text(wire_key).encode(),
            "value": Codec(declaration).encode(version, 0, wire_key, wire),
            "entity": declaration.name,
            "table": declaration.table,
            "version": version,
            **(change or {}),
        }
        if message:
            self.send(says, origin, cause, own)
        if row:
            self.insert(origin, declaration.name)
        return f"{origin.topic}/{origin.partition}/{origin.offset}"

    def send(self, says: dict[str, Any], origin: Origin, cause: Cause = CAUSE, own: Sequence[Any] = ()) -> None:
        """Put a message on the dead-letter topic of its origin."""
        made: Any = headers(
            own,
            origin,
            entity=says["entity"],
            table=says["table"],
            version=says["version"],
            cause=cause,
            connector="flusher",
            task="0",
        )
        self.world.producer.produce(naming.dead_letter_topic(origin.topic), says["value"], says["key"], headers=made)

    def again(self, cls: type[Entity], place: str, **change: Any) -> None:
        """Another message of a letter's origin."""
        topic, partition, offset = place.rsplit("/", 2)
        declaration = declaration_of(cls)
        version = change.pop("version", FIRST_VERSION)
        says = {"entity": declaration.name, "table": declaration.table, "version": version, **change}
        self.send(says, Origin(topic, "topic-1", int(partition), int(offset)))

    def insert(self, origin: Origin, entity: str) -> None:
        with self.world.connect() as connection:
            connection.execute(
                f'INSERT INTO "{self.world.corner.bookkeeping_schema}".letter '
                f'(topic, topic_id, partition, "offset", entity, changed_by) VALUES (%s, %s, %s, %s, %s, %s)'.encode(),
                (origin.topic, origin.topic_id, origin.partition, origin.offset, entity, "flusher test"),
            )

    def states(self) -> dict[str, tuple[str, int]]:
        """State and number of replays that were refused, by place."""
        rows = self.world.query(
            "SELECT topic || '/' || partition || '/' || \"offset\", state, replay_count FROM {}.letter"
        )
        return {place: (state, count) for place, state, count in rows}

    def count(self, state: str) -> int:
        """How many letters are in a state."""
        return sum(found == state for found, _ in self.states().values())

    def start(self, *arguments: str, **env: str) -> Popen[str]:
        """Start `writebehind letters …`: who looks is an auditor, and no role may do more."""
        role = "auditor" if arguments[0] in ("list", "show", "export") else OPERATOR
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WRITEBEHIND_")}
        named = [part for cls in self.world.entities for part in ("--entities", f"{cls.__module__}:{cls.__name__}")]
        self.world.send()
        return Popen(
            [sys.executable, "-m", "writebehind.flusher", "letters", *arguments, *named],
            env={**kept, **self.world.env_of(role, **env)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **env: str) -> Ran:
        """Run `writebehind letters …` to its end."""
        with self.start(*arguments, **env) as process:
            try:
                out, err = process.communicate(timeout=TIMEOUT_S)
            finally:
                process.kill()
        assert "Traceback" not in err, err
        return Ran(process.returncode, out, err)


@contextmanager
def letters(corner: Isolation, folder: Path, *entities: type[Entity]) -> Iterator[Letters]:
    """A corner with tables, topics and no letters yet."""
    with world(corner, folder, *entities) as made:
        yield Letters(made)
