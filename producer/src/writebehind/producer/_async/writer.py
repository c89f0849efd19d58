"""The write path: room in the outbox, the cache script, the record, the broker's answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException

from writebehind.shared.errors import DatabaseDown, InvalidWrite, NotApplied, Shed, WritebehindError
from writebehind.shared.scripts import Applied, NeedsBase, read_write
from writebehind.shared.settings import Settings
from writebehind.shared.version import VersionClock

from ..backends.aio import Combiner, Runtime
from ..backends.aio_group import Group
from ..delivery import is_definite
from ..outbox import Outbox
from ..tokens import Tokens
from ..write import Target, Write
from .bases import AsyncBases
from .cache import AsyncCache, CacheDown
from .progress import STRAIGHT_TO_DATABASE
from .rows import AsyncRows

log = logging.getLogger("writebehind.producer")

KEYS_PER_CALL = 1_000  # bounds how long one script keeps the cache from answering others


class _Room:
    """Room in the outbox that a caller waits for."""

    __slots__ = ("taken", "unwanted")

    def __init__(self) -> None:
        self.taken = False
        self.unwanted = False  # the caller has gone


class AsyncWriter:
    """Carries checked writes out. One per client."""

    def __init__(self, settings: Settings, cache: AsyncCache, rows: AsyncRows, runtime: Runtime) -> None:
        self._limits = settings.producer
        self._lease_us = int(settings.cache.lease_s * 1e6)
        self._cache = cache
        self._rows = rows
        self._runtime = runtime
        self._tokens = Tokens()
        self._clock = VersionClock()
        self._combiners: dict[str, Combiner[Write]] = {}
        self._bases = AsyncBases(cache, rows)
        self.outbox = Outbox(settings, self._deliver)
        self.on_failed: Callable[[Write, Exception], None] | None = None  # told of failures that no caller waits for

    async def carry_out(self, target: Target, writes: Sequence[Write], *, wait: bool, timeout_s: float) -> None:
        """Write the cache and enqueue. With `wait`, return when the broker has answered for all, or the time is up.

        What became of each write is on the write; one that is still under way has no answer in its group yet.
        """
        deadline = time.monotonic() + timeout_s
        group = Group(self._runtime, len(writes))
        group.detached = not wait
        for write in writes:
            write.group = group
        size_bytes = sum([write.size_bytes for write in writes])
        free = target.on_broker_down == "block" or not self.outbox.broker_down
        if not (free and self.outbox.reserve(len(writes), size_bytes, 0)) and not await self._admit(
            target, writes, size_bytes, deadline
        ):
            await self._write_through(target, writes, timeout_s)
            return
        combiner = self._combiners.get(target.topic) or self._combiner(target)
        try:
            if wait:
                combiner.add(writes)
                await group.wait(deadline)
            else:
                await combiner.submit(writes)
            if group.stalled:
                await self._bring_bases(target, combiner, writes, timeout_s / 2)
                if wait:
                    await group.wait(deadline)
        except BaseException:  # such as a caller who is cancelled
            group.abandoned = True
            self.outbox.release([write for write in writes if write.needs_base is not None])
            raise
        if wait and not group.answered:
            group.detached = group.abandoned = True

    def _combiner(self, target: Target) -> Combiner[Write]:
        combiner = self._combiners[target.topic] = Combiner(self._apply, KEYS_PER_CALL, failed=self._broken)
        return combiner

    async def _admit(self, target: Target, writes: Sequence[Write], size_bytes: int, deadline: float) -> bool:
        """There is no room, or the broker is down: the entity's policy. True: there is room now. False: write through.

        Raises Shed or NotApplied; nothing was touched.
        """
        name = target.declaration.cls.__name__
        match target.on_broker_down:
            case "through":
                return False
            case "shed":
                raise Shed(f"{name}: the broker does not keep up; the write was shed, nothing was changed")
            case _:
                room = _Room()
                try:
                    await self._runtime.to_the_end(self._wait_for_room, room, writes, size_bytes, deadline)
                except BaseException:  # such as a caller who is cancelled
                    room.unwanted = True
                    if room.taken:
                        self.outbox.release(writes)
                    raise
                if room.taken:
                    return True
                raise NotApplied(f"{name}: the broker does not keep up and the buffer stayed full; nothing was changed")

    async def _wait_for_room(self, room: _Room, writes: Sequence[Write], size_bytes: int, deadline: float) -> None:
        left_s = max(0.0, deadline - time.monotonic())
        taken = await self._runtime.in_thread(self.outbox.reserve, len(writes), size_bytes, left_s)
        if taken and room.unwanted:
            self.outbox.release(writes)
        else:
            room.taken = taken

    async def _bring_bases(
        self, target: Target, combiner: Combiner[Write], writes: Sequence[Write], timeout_s: float
    ) -> None:
        """Some entries were told increments and have nothing to add them to: fill them, and carry these out again."""
        waiting = [write for write in writes if write.needs_base is not None]
        deadline = time.monotonic() + timeout_s
        while waiting and time.monotonic() < deadline:
            try:
                await self._bases.load(target, waiting, timeout_s)
            except (DatabaseDown, CacheDown):
                break
            for write in waiting:
                write.needs_base = None
            await combiner.submit(waiting)
            waiting = [write for write in waiting if write.needs_base is not None]
        # The base cannot be had now. The delta is what counts; the cache is left alone, and mended when the
        # delta is flushed.
        for write in waiting:
            write.needs_base = None
            self._enqueue_without_cache(write)
        writes[0].group.stalled = False

    async def _apply(self, writes: Sequence[Write]) -> None:
        """One script call for the writes of all concurrent callers, then their records.

        Must not raise for one of them.
        """
        target = writes[0].target
        keys = [write.entry for write in writes]
        patches = [write.cache_patch for write in writes]
        call = target.scripts.write(
            keys, patches, seen=self._clock.newest, token=self._tokens.one(), lease_us=self._lease_us
        )
        sent_us = _now_us()
        try:
            reply = await self._cache.run(call)
        except CacheDown:
            for write in writes:
                self._enqueue_without_cache(write)
            return
        now_us, answers = read_write(reply)
        self._clock.calibrate(sent_us, _now_us(), now_us)
        self._clock.observe(max([answer.version for answer in answers if isinstance(answer, Applied)], default=0))
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, Applied):
                write.applied, write.version, write.generation = answer, answer.version, answer.generation
                self._enqueue(write)
            elif isinstance(answer, NeedsBase):
                if write.group.abandoned:
                    self.outbox.release([write])  # nobody will come again with it
                else:
                    write.needs_base = answer.token
                    write.group.stall()
            else:
                column = target.declaration.fields[answer.index - 1]
                rule = f"would leave the range of {column.kind.name} with this increment"
                self._fail(write, InvalidWrite(target.declaration.cls.__name__, column.name, "increment", rule))

    def _enqueue_without_cache(self, write: Write) -> None:
        write.applied, write.generation = None, 0
        write.version = self._clock.next(_now_us())
        self._enqueue(write)

    def _enqueue(self, write: Write) -> None:
        try:
            self.outbox.send(write, write.record())
        except (KafkaException, BufferError) as error:
            name = write.target.declaration.cls.__name__
            why = error.args[0].name() if isinstance(error, KafkaException) else type(error).__name__
            write.fail(NotApplied(f"{name}: the record could not be handed over ({why}); it was not applied"))
            self.outbox.release([write])
            self._runtime.spawn(self._take_back, [write])

    def _broken(self, writes: Sequence[Write], error: Exception) -> None:
        """`_apply` raised, which is a fault of ours: whoever waits for what it did not hand over is told."""
        log.error("%s: writes could not be carried out", writes[0].target.topic, exc_info=error)
        for write in writes:
            if not write.version and write.failure is None:
                self._fail(write, error)

    def _fail(self, write: Write, error: Exception) -> None:
        write.fail(error)
        self.outbox.release([write])
        write.group.one_done()

    def _deliver(self, writes: Sequence[Write]) -> None:
        """In the outbox's thread: hand a poll round over."""
        self._runtime.post(self._answered, writes)

    def _answered(self, writes: Sequence[Write]) -> None:
        refused: list[Write] = []
        for write in writes:
            if write.error is None:
                write.applied = None  # nothing to undo; it holds the reply of the whole call
                write.group.one_done()
            elif is_definite(write.error):
                refused.append(write)
            else:
                self._conclude(write)
        if refused:
            self._runtime.spawn(self._take_back, refused)

    async def _take_back(self, writes: Sequence[Write]) -> None:
        """Undo in the cache what definitely failed, then tell the callers."""
        by_target: dict[str, list[Write]] = {}
        for write in writes:
            if write.applied is not None:
                by_target.setdefault(write.target.topic, []).append(write)
        for group in by_target.values():
            call = group[0].target.scripts.undo(
                [w.entry for w in group], [(w.applied, w.cache_patch) for w in group if w.applied]
            )
            try:
                await self._cache.run(call)
            except CacheDown:
                log.error(
                    "%s: %d refused writes stay in the cache until it answers again", group[0].target.topic, len(group)
                )
        for write in writes:
            self._conclude(write)

    def _conclude(self, write: Write) -> None:
        detached = write.group.detached
        write.group.one_done()
        failure = write.outcome()
        if detached and failure is not None and self.on_failed is not None:
            self.on_failed(write, failure)

    async def _write_through(self, target: Target, writes: Sequence[Write], timeout_s: float) -> None:
        """The broker is down: commit to the database now, and let the cache forget what it holds of these rows."""
        declaration = target.declaration
        for write in writes:
            write.version = self._clock.next(_now_us())
        try:
            folded = await self._rows.write_through(declaration, writes, timeout_s)
        except WritebehindError as error:
            for write in writes:
                write.fail(error)
                write.group.one_done()
            return
        keys = [target.entry(text) for text in folded.settlement.keys]
        try:
            await self._cache.run(target.scripts.settle(keys, folded.settlement))
        except CacheDown:
            log.warning("%s: %d entries may be older than their rows until the cache answers", target.topic, len(keys))
        for write in writes:
            write.partition = STRAIGHT_TO_DATABASE
            write.group.one_done()


def _now_us() -> int:
    return time.time_ns() // 1000
