"""The threads side of the backends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Limit = threading.BoundedSemaphore


class Runtime:
    """A thread for what happens behind the callers' backs."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writebehind")
        self._tasks: set[Future[None]] = set()

    def post(self, function: Callable[[Any], None], argument: Any) -> None:
        """Call a function, from any thread."""
        function(argument)

    def spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        """Run in the background; `join` waits for it."""
        task = self._executor.submit(function, *arguments)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def send_off(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function: to hand it to another thread takes longer than to wait for the cache."""
        function(*arguments)

    def to_the_end(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function; a thread is not cancelled."""
        function(*arguments)

    def join(self, timeout_s: float) -> None:
        wait(list(self._tasks), timeout=timeout_s)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something that blocks."""
        return function(*arguments)


class _Request(Generic[Item]):
    __slots__ = ("done", "error", "items")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.done = False
        self.error: BaseException | None = None


class Behind:
    """Nothing: a thread does things in order."""

    def step_back(self) -> None:
        """Returns at once."""

    def let_pass(self) -> None:
        """Returns at once."""


class Combiner(Generic[Item]):
    """Carries out what concurrent threads ask for in as few calls as possible: the first becomes the leader and
    works for
    all who came meanwhile; when its own request is done, the next one leads.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], None],
        items_max: int,
        at_once: bool = True,  # noqa: ARG002  # a thread that need not wait never does
        failed: Callable[[Sequence[Item], Exception], None] | None = None,  # noqa: ARG002  # `add` raises
    ) -> None:
        self._run = run
        self._items_max = items_max
        self._waiting: list[_Request[Item]] = []
        self._led = False
        self._changed = threading.Condition()

    def submit(self, items: Sequence[Item]) -> None:
        """Returns when `run` was done with these items; raises what it raised."""
        request = _Request(items)
        with self._changed:
            self._waiting.append(request)
        while self._becomes_leader(request):
            self._lead()
        if request.error is not None:
            raise request.error

    def add(self, items: Sequence[Item]) -> None:
        """The same: a thread that waits costs nobody anything."""
        self.submit(items)

    def _becomes_leader(self, request: _Request[Item]) -> bool:
        """Wait until the request is done, or until it is this thread's turn to lead."""
        with self._changed:
            while self._led and not request.done:
                self._changed.wait()
            if request.done:
                return False
            self._led = True
            return True

    def _lead(self) -> None:
        with self._changed:
            taken, count = 0, 0
            for request in self._waiting:
                if taken and count + len(request.items) > self._items_max:
                    break
                taken, count = taken + 1, count + len(request.items)
            group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        error: BaseException | None = None
        try:
            self._run([item for request in group for item in request.items])
        except BaseException as raised:  # noqa: BLE001  # each caller of the group raises it
            error = raised
        with self._changed:
            for request in group:
                request.error, request.done = error, True
            self._led = False
            self._changed.notify_all()


def later(seconds: float, function: Callable[[], None]) -> threading.Timer:
    """Call a function after a while, unless the handle is cancelled before."""
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer


def sleep(seconds: float) -> None:
    time.sleep(seconds)
