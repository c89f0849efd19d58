"""A flusher: the real `App`, its three threads taken step by step."""

from __future__ import annotations

import queue
from typing import Any

import tenacity

from writebehind.flusher import app as flusher_app
from writebehind.flusher.lane import Lane, Outcome
from writebehind.flusher.preflight import Prepared
from writebehind.flusher.settle import Settler
from writebehind.flusher.triage import Verdict
from writebehind.shared.settings import Settings

from .entities import slots, table_info
from .world import Actor, Process, World

IDLE_CHANCE = 0.25  # a loop that has nothing to do takes a step now and then


class Flusher:
    """One process after the other; `start` makes the next."""

    def __init__(self, world: World, number: int, settings: Settings) -> None:
        self._world = world
        self._number = number
        self._settings = settings
        self._lives = 0
        self._process = Process(f"flusher {number}", "flusher")
        self._process.alive = False
        self.app: Any = None
        self.actors = [
            Actor(lambda: self._process, self._loop, lambda: self.alive),
            Actor(lambda: self._process, self._flush, lambda: self.alive and not self.lane.has_room),
            Actor(lambda: self._process, self._record, lambda: self.alive and self._unrecorded),
            Actor(lambda: self._process, self._settle, lambda: self.alive and self._unsettled),
        ]

    @property
    def alive(self) -> bool:
        return self._process.alive

    @property
    def lane(self) -> Lane:
        lane: Lane = self.app._lanes[0]
        return lane

    @property
    def settler(self) -> Settler:
        settler: Settler = self.lane._settler
        return settler

    @property
    def process(self) -> Process:
        return self._process

    @property
    def quiet(self) -> bool:
        """Nothing is buffered, being written or to be settled."""
        return self.lane.idle and not self._unsettled and self.lane.buffer.due_in(0.0) is None

    @property
    def _unsettled(self) -> bool:
        return bool(self.settler._queue.unfinished_tasks or self.settler.unsure)

    @property
    def _unrecorded(self) -> bool:
        return self.lane.idle and self.lane._recorded != self.settler.settled

    def start(self) -> None:
        """A new process joins the group."""
        self._lives += 1
        self._process = Process(f"flusher {self._number}.{self._lives}", "flusher")
        self._world.run(Actor(lambda: self._process, self._open, lambda: True))

    def _open(self) -> None:
        declaration = self._world.history.declaration
        prepared = Prepared(declaration, table_info(declaration), slots(declaration))
        self.app = flusher_app.App(self._settings, {declaration.name: prepared})
        self.app._membership.join()

    def _loop(self) -> None:
        self.app._loop.step()

    def _flush(self) -> None:
        """What the lane's thread does with one batch."""
        lane = self.lane
        batch = lane._inbox.get_nowait()
        assert batch is not None
        try:
            outcome = lane.flush(batch)
        except tenacity.RetryError:
            return
        except BaseException as error:  # noqa: BLE001  # as in the lane
            self._process.check()
            outcome = Outcome(lane, batch, Verdict.BUG, error)
        lane._on_outcome(outcome)
        lane._concluded += 1

    def _record(self) -> None:
        """What the lane's thread does when no batch has come for a while."""
        self.lane.record_settled()

    def _settle(self) -> None:
        """What the settler's thread does with one settlement, or while it has none."""
        settler = self.settler
        try:
            committed = settler._queue.get_nowait()
        except queue.Empty:
            settler._step(None)
            return
        assert committed is not None, "nobody stops the settler here"
        settler._step(committed)
        settler._queue.task_done()
