"""Histories: what each workload process asked for and was told, appended to a file line by line as it happens.

A line is written before a call and after it, so that a process that is killed leaves its open calls behind as unknown.
Times are CLOCK_MONOTONIC, which all processes of a machine share; the wall clock is there for people.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Values = dict[str, Any]


class Outcome(StrEnum):
    """What the caller was told of a write."""

    OK = "ok"
    FAIL = "fail"  # not applied, and never will be
    UNKNOWN = "unknown"  # once, or not at all


@dataclass(frozen=True, slots=True)
class Op:
    """One write. `ended` is None when nothing was answered; `place` is (partition, offset) where it was noted."""

    process: str
    number: int
    kind: str
    key: int
    values: Values
    invoked: float
    ended: float | None = None
    outcome: Outcome = Outcome.UNKNOWN
    version: int | None = None
    place: tuple[int, int] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """One read by a key's only writer. `value` is None when there was no row."""

    process: str
    key: int
    value: Values | None
    invoked: float
    ended: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What an independent look at the table showed, per key: the version, and whatever broke the table's invariant."""

    at: float
    versions: dict[int, int]
    torn: list[int]


@dataclass(slots=True)
class History:
    """A file, read back."""

    process: str
    ops: list[Op] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    failed_reads: int = 0
    unexpected: list[str] = field(default_factory=list)  # errors that are none of the three outcomes


class Writer:
    """Appends to a history. Lines leave the process at once: a kill loses none that was written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1, encoding="utf-8")
        self._numbers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def invoke(self, kind: str, writes: Sequence[tuple[int, Values]]) -> int:
        """Note that a call begins; gives its number."""
        self._numbers += 1
        self._line(e="invoke", op=self._numbers, kind=kind, writes=writes)
        return self._numbers

    def end(self, op: int, outcomes: Sequence[tuple[Outcome, int | None]], **more: Any) -> None:
        """Note what became of each write of a call: outcome and version."""
        kinds = {outcome for outcome, _ in outcomes}
        versions = [version for _, version in outcomes]
        told = kinds.pop() if len(kinds) == 1 else [outcome for outcome, _ in outcomes]
        self._line(e="end", op=op, told=told, versions=versions, **more)

    def read(self, key: int, value: Values | None, began: float) -> None:
        self._line(e="read", key=key, value=value, began=began)

    def failed_read(self, error: str) -> None:
        self._line(e="failed read", error=error)

    def sample(self, versions: Mapping[int, int], torn: Sequence[int]) -> None:
        self._line(e="sample", versions=list(versions.items()), torn=torn)

    def unexpected(self, error: str) -> None:
        """An error outside the contract."""
        self._line(e="unexpected", error=error)

    def _line(self, **content: Any) -> None:
        line = {"t": time.monotonic(), "w": time.time(), **content}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read_file(path: Path) -> History:
    """Read a history back; the process is named as its file. A last line that is cut short was never said."""
    with path.open(encoding="utf-8") as lines:
        return read(path.stem, lines)


def read(process: str, lines: Iterable[str]) -> History:
    """Put a history together from its lines. Pure."""
    history = History(process)
    open_calls: dict[int, dict[str, Any]] = {}
    for text in lines:
        if not text.endswith("\n"):
            break
        line = json.loads(text)
        match line["e"]:
            case "invoke":
                open_calls[line["op"]] = line
            case "end":
                history.ops += _ops(process, open_calls.pop(line["op"]), line)
            case "read":
                history.reads.append(Read(process, line["key"], line["value"], line["began"], line["t"]))
            case "failed read":
                history.failed_reads += 1
            case "sample":
                history.samples.append(Sample(line["t"], dict(line["versions"]), line["torn"]))
            case _:
                history.unexpected.append(line["error"])
    for call in open_calls.values():
        history.ops += _ops(process, call, None)
    history.ops.sort(key=lambda op: (op.invoked, op.number))
    return history


def _ops(process: str, call: dict[str, Any], end: dict[str, Any] | None) -> list[Op]:
    writes = call["writes"]
    if end is None:
        return [Op(process, call["op"], call["kind"], key, values, call["t"]) for key, values in writes]
    told, place = end["told"], end.get("place")
    outcomes = [told] * len(writes) if isinstance(told, str) else told
    return [
        Op(
            process,
            call["op"],
            call["kind"],
            key,
            values,
            call["t"],
            end["t"],
            Outcome(outcome),
            version,
            None if place is None else (place[0], place[1]),
            end.get("error"),
        )
        for (key, values), outcome, version in zip(writes, outcomes, end["versions"], strict=True)
    ]
