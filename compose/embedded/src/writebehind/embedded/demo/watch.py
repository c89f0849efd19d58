"""The background task: samples the database, feeds the progress bar, and notices a flusher that ended by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from writebehind.embedded.demo.flusher import Flusher
from writebehind.embedded.demo.monitor import Monitor, Rate, Sample
from writebehind.embedded.demo.replay import Tally
from writebehind.embedded.demo.view import Bar, Live
from writebehind.embedded.errors import EmbeddedError

_SAMPLE_EVERY_S: Final = 0.25


class Watch:
    """Runs until cancelled; `until` waits for something that the samples show."""

    def __init__(self, monitor: Monitor, flusher: Flusher, tally: Tally, bar: Bar) -> None:
        self._monitor = monitor
        self._flusher = flusher
        self._tally = tally
        self._bar = bar
        self._acknowledged, self._flushed = Rate(), Rate()
        self._latest: Sample | None = None
        self._sampled = asyncio.Condition()

    async def run(self) -> None:
        while True:
            self._flusher.check()
            sample = await self._monitor.sample(time.monotonic())
            self._show(sample)
            async with self._sampled:
                self._latest = sample
                self._sampled.notify_all()
            await asyncio.sleep(_SAMPLE_EVERY_S)

    async def until(self, reached: Callable[[Sample], bool], *, what: str, timeout_s: float) -> None:
        """Wait for a sample for which `reached` is true. Raises EmbeddedError after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s), self._sampled:
                await self._sampled.wait_for(lambda: self._latest is not None and reached(self._latest))
        except TimeoutError:
            raise EmbeddedError(
                f"{what} did not happen within {timeout_s:g} s",
                server="flusher",
                log=self._flusher.log_tail(),
                advice="see what the flusher says above; on a busy machine try a smaller --limit",
            ) from None

    def _show(self, sample: Sample) -> None:
        acknowledged = self._tally.acknowledged
        live = Live(
            acknowledged_per_s=self._acknowledged.update(sample.at, acknowledged),
            flushed_per_s=self._flushed.update(sample.at, sample.flushed),
            # A write can be in the database before its producer is told that Kafka has it.
            pending=max(0, acknowledged - sample.flushed),
            rows_per_statement=sample.rows_per_statement,
            kills=self._flusher.kills,
        )
        self._bar.show(self._tally.departures, live)
