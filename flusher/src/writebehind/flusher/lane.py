"""A lane: one thread that writes the batches of one entity, one at a time, on a connection of its own.

While a batch is in the database the loop consumes, decodes and folds the next one; the lane takes it the moment it is
done.
Disjoint partitions may have lanes of their own (`connections`), because progress is kept per partition.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import tenacity
from confluent_kafka import KafkaException

from writebehind.shared.declaration import Declaration
from writebehind.shared.fold import fold, key_getter

from .batch import Batch, Buffer, Limits
from .database import Writer
from .settle import Settler
from .triage import Verdict, triage

log = logging.getLogger("writebehind.flusher")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. `verdict` None: committed; FENCED, POISON: not; BUG: `error` must end the process."""

    lane: Lane
    batch: Batch
    verdict: Verdict | None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between attempts, in seconds: exponential with jitter between the two, for ever."""

    delay_min_s: float
    delay_max_s: float


class Lane:
    """The buffer that is filling, the batch that waits, and the thread that writes.

    `on_outcome` is called in the lane's thread and tells the loop.
    """

    def __init__(
        self,
        declaration: Declaration,
        topic: str,
        writer: Writer,
        settler: Settler,
        limits: Limits,
        backoff: Backoff,
        *,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self.declaration = declaration
        self.topic = topic
        self._writer = writer
        self._settler = settler
        self.buffer = Buffer(topic, limits, key_getter(declaration))
        self.backing_off = False
        self.paused = False  # kept by the loop: whether the lane's partitions are paused
        self._backoff = backoff
        self._on_outcome = on_outcome
        self._inbox: queue.Queue[Batch | None] = queue.Queue(maxsize=1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lane {declaration.name}", daemon=True)
        self._submitted = 0
        self._concluded = 0

    def start(self) -> None:
        self._settler.start()
        self._thread.start()

    @property
    def has_room(self) -> bool:
        return self._inbox.empty()

    @property
    def blocked(self) -> bool:
        """The lane can take nothing more: consuming further would need memory without bound."""
        return self.buffer.full and not self.has_room

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is being written."""
        return self._submitted == self._concluded

    def prepare(self, batch: Batch) -> None:
        """Fold and pack in the loop's thread, while the lane's batch before is in the database."""
        if self.declaration.strategy.deletes:
            return  # folded inside the transaction, with its tombstones
        batch.folded = fold(self.declaration, batch.rows)
        with contextlib.suppress(psycopg.Error, ValueError, OverflowError, struct.error):
            # A value without an encoding: the lane meets the same error, and knows what to do with the batch.
            batch.packed = self._writer.pack(batch.folded)

    def submit(self, batch: Batch) -> None:
        """Hand over a prepared batch. Call only when `has_room`."""
        self._submitted += 1
        self._inbox.put_nowait(batch)

    def stop(self, timeout_s: float) -> bool:
        """Finish the batch that is in the database, abandon the one that waits.

        False when that took longer than allowed.
        """
        self._stopping.set()
        try:
            self._inbox.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        self._settler.stop(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            batch = self._inbox.get()
            if batch is None or self._stopping.is_set():
                break
            try:
                outcomes = self._flush_apart(batch)
            except tenacity.RetryError:
                break  # stopping: the batch was not written, the next owner will read it again
            except BaseException as error:  # noqa: BLE001  # told to the loop, which ends the process
                outcomes = [Outcome(self, batch, Verdict.BUG, error)]
            for outcome in outcomes:
                self._on_outcome(outcome)
            self._concluded += 1
        self._writer.disconnect()

    def _flush_apart(self, batch: Batch) -> list[Outcome]:
        """Write a batch; one that is refused is written per partition, so that only the refused record's own stops."""
        outcome = self._flush(batch)
        if outcome.verdict is not Verdict.POISON or len(batch.spans) == 1:
            return [outcome]
        parts = batch.by_partition()
        for part in parts:
            self.prepare(part)
        return [self._flush(part) for part in parts]

    def _flush(self, batch: Batch) -> Outcome:
        """Write a batch, trying for ever while the environment is at fault."""
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            wait=tenacity.wait_random_exponential(self._backoff.delay_min_s, self._backoff.delay_max_s),
            sleep=tenacity.sleep_using_event(self._stopping),
            stop=tenacity.stop_when_event_set(self._stopping),
        )
        try:
            return attempts(self._attempt, batch)
        finally:
            self.backing_off = False

    def _attempt(self, batch: Batch) -> Outcome:
        if batch.same_topic is not None and not self._ask(batch.same_topic):
            return Outcome(self, batch, Verdict.FENCED)
        self._settler.heal()
        try:
            folded = self._writer.write(batch)
        except BaseException as error:
            self._writer.disconnect()
            verdict = triage(error)
            if verdict is Verdict.FENCED and self._was_committed(batch):
                return Outcome(self, batch, None)
            if verdict in (Verdict.TRANSIENT, Verdict.SYSTEMIC):
                self._report(verdict, error)
                self.backing_off = True
                raise _Again from error
            return Outcome(self, batch, verdict, error)
        self._settler.put(folded.settlement)
        return Outcome(self, batch, None)

    def _ask(self, same_topic: Callable[[], bool]) -> bool:
        try:
            return same_topic()
        except KafkaException as error:
            log.warning("%s: the broker is not available (%s); trying again", self.topic, error.args[0].name())
            self.backing_off = True
            raise _Again from error

    def _was_committed(self, batch: Batch) -> bool:
        """Whether an earlier attempt did commit, and only the answer to its COMMIT was lost."""
        try:
            committed = self._writer.committed(batch)
        except (psycopg.Error, OSError) as error:
            # Ask once more: the next attempt is fenced again. Given up here, a batch that is committed would
            # never be settled.
            self._writer.disconnect()
            self._report(Verdict.TRANSIENT, error)
            self.backing_off = True
            raise _Again from error
        if committed:
            # What there is to settle does not depend on the tombstones that the lost attempt was folded with.
            self._settler.put((batch.folded or fold(self.declaration, batch.rows)).settlement)
        return committed

    def _report(self, verdict: Verdict, error: BaseException) -> None:
        state = getattr(error, "sqlstate", None) or type(error).__name__
        if verdict is Verdict.SYSTEMIC:
            log.error(
                "%s: the database refuses every batch (%s); nothing is lost, mend it and it goes on", self.topic, state
            )
        else:
            log.warning("%s: the database is not available (%s); trying again", self.topic, state)


class _Again(Exception):
    """The attempt failed for a reason that passes."""
