"""A lane: one thread that writes the batches of one entity, one at a time, on a connection of its own.

While a batch is in the database the loop consumes, decodes and folds the next one; the lane takes it the moment it is
done.
Disjoint partitions may have lanes of their own (`connections`), because progress is kept per partition.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psycopg
import tenacity

from writebehind.shared.fold import key_getter

from .attempt import Again, Attempts
from .batch import Batch, Buffer, Limits, Settled, Span
from .database import Writer
from .letterbox import Letterbox
from .measures import Measures
from .settle import Settler
from .triage import Verdict

log = logging.getLogger("writebehind.flusher")

IDLE_S = 0.1  # between two looks of a lane that has nothing to write
SETTLED_AFTER_S = 1.0  # without a batch, before how far the cache knows is written by itself


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. `verdict` None: committed; FENCED: not; BUG: `error` must end the process."""

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
        topic: str,
        writer: Writer,
        settler: Settler,
        letterbox: Letterbox,
        limits: Limits,
        backoff: Backoff,
        measures: Measures,
        *,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self.declaration = declaration = writer.declaration
        self.topic = topic
        self._writer = writer
        self._settler = settler
        self._stopping = threading.Event()
        self._attempts = Attempts(topic, writer, settler, letterbox, measures, self._stopping)
        self.buffer = Buffer(topic, limits, key_getter(declaration))
        self.backing_off = False
        self.refused = False  # waits until somebody mends a table or a privilege
        self.paused = False  # kept by the loop: whether the lane's partitions are paused
        self._backoff = backoff
        # One for all batches: each leaves cycles behind, which would keep a batch until the next collection.
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Again),
            wait=self._wait,
            before_sleep=self._note_wait,
            sleep=tenacity.sleep_using_event(self._stopping),
            stop=tenacity.stop_when_event_set(self._stopping),
        )
        self._measures = measures
        self._on_outcome = on_outcome
        self._inbox: queue.Queue[Batch | None] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._run, name=f"lane {declaration.name}", daemon=True)
        self._held: deque[Batch] = deque()  # what was submitted and is not concluded: one or two
        self.draining = False  # partitions are about to go to another flusher
        self._recorded: Settled = {}  # what was last said of how far the cache knows, other than by a batch
        self._busy_at = 0.0
        self._stop_by = 0.0
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

    @property
    def at_rest(self) -> bool:
        """Idle, and the progress rows say how far the cache knows; or stopped, perhaps with a batch that it abandoned.

        A cache that does not answer is not waited for.
        """
        ended = self._thread.ident is not None and not self._thread.is_alive()
        return ended or (self.idle and self._settler.quiet and self._recorded == self._settler.settled)

    @property
    def trouble(self) -> str | None:
        """What keeps the batch from being written: a SQLSTATE or an error's name."""
        return self._attempts.trouble

    def pending(self) -> list[Span]:
        """What was consumed and is not committed, for other threads to look at."""
        held = [span for batch in self._held.copy() for span in batch.spans.copy().values()]
        return held + self.buffer.spans()

    def prepare(self, batch: Batch) -> None:
        """Fold, pack and link in the loop's thread, while the lane's batch before is in the database."""
        self._attempts.prepare(batch)
        self._measures.spans.link(batch)

    def submit(self, batch: Batch) -> None:
        """Hand over a prepared batch. Call only when `has_room`."""
        self._submitted += 1
        self._measures.consumed(batch)
        self._held.append(batch)
        self._inbox.put_nowait(batch)

    def doubt(self, span: Span, doubtful: Mapping[str, int]) -> None:
        """Records that are in the database, and that the cache may not know: keys with the newest version."""
        self._settler.doubt(span, doubtful)

    def stop(self, timeout_s: float) -> bool:
        """Finish the batch that is in the database, abandon the one that waits.

        False when that took longer than allowed.
        """
        self._stop_by = time.monotonic() + timeout_s
        self._stopping.set()
        try:
            self._inbox.put(None, timeout=timeout_s)
        except queue.Full:
            return False
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            try:
                batch = self._inbox.get(timeout=IDLE_S)
            except queue.Empty:
                if self.draining or time.monotonic() >= self._busy_at + SETTLED_AFTER_S:
                    self.record_settled()
                continue
            if batch is None or self._stopping.is_set():
                break
            self._busy_at = time.monotonic()
            try:
                outcome = self.flush(batch)
            except tenacity.RetryError:
                break  # stopping: the batch was not written, the next owner will read it again
            except BaseException as error:  # noqa: BLE001  # told to the loop, which ends the process
                outcome = Outcome(self, batch, Verdict.BUG, error)
            self._on_outcome(outcome)
            self._concluded += 1
        self._settler.stop(max(0.1, self._stop_by - time.monotonic()))
        self.record_settled()
        self._writer.disconnect()

    def record_settled(self) -> None:
        """Say in the progress rows how far the cache knows, which batches do as well: only when none comes for a while.

        Best effort: what is not said is dropped from the cache by the next owner.
        """
        settled = self._settler.settled
        if settled == self._recorded:
            return
        try:
            self._writer.record_settled(self.topic, settled)
            self._recorded = settled
        except (psycopg.Error, OSError) as error:
            self._writer.disconnect()
            log.debug("%s: how far the cache knows is not recorded (%s)", self.topic, type(error).__name__)

    def flush(self, batch: Batch) -> Outcome:
        """Write a batch, trying for ever while the environment is at fault. Raises RetryError when told to stop."""
        try:
            with self._measures.spans.processing(batch):
                verdict = self._retrying(self._attempts.attempt, batch)
            return Outcome(self, batch, verdict)
        finally:
            self.backing_off = self.refused = False
            self._held.popleft()

    def _note_wait(self, state: tenacity.RetryCallState) -> None:
        self.backing_off = True
        refused = _is_systemic(state)
        if refused and not self.refused:
            self._measures.stop(self.topic, "systemic")
        self.refused = refused

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt: random and growing; the longest at once when somebody has to act first."""
        if _is_systemic(state):
            return self._backoff.delay_max_s
        return tenacity.wait_random_exponential(self._backoff.delay_min_s, self._backoff.delay_max_s)(state)


def _is_systemic(state: tenacity.RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome is not None else None
    return isinstance(error, Again) and error.systemic
