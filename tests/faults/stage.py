"""What a fault may act on, and what it may find out."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from tests.faults.crew import Crew
from tests.faults.fleet import Fleet, Slot
from tests.faults.mount import Mount
from tests.faults.proxy import Proxy
from tests.faults.schedule import Planned
from tests.faults.world import World

PRODUCERS: Final = "producers' "


class NotPossible(Exception):
    """This fault cannot be had on this machine; the message says why."""


class Missed(Exception):
    """The fault did not come about, such as a trap that nothing ran into."""


@dataclass
class Stage:
    """What runs. `stopping` ends a fault early; `broken`: promises that a fault itself saw broken."""

    world: World
    fleet: Fleet
    crew: Crew
    mount: Mount | None
    stopping: threading.Event = field(default_factory=threading.Event)
    broken: list[str] = field(default_factory=list)

    def slot(self, planned: Planned) -> Slot:
        return self.fleet.slots[planned.slot]

    def proxy(self, planned: Planned) -> Proxy:
        """What is between a flusher, or the producers, and the server that a fault is about."""
        what = planned.variant.what
        if what.startswith(PRODUCERS):
            return self.world.producers[what.removeprefix(PRODUCERS)]
        return self.slot(planned).proxies[what]

    def wait(self, seconds: float) -> None:
        """Let a fault last."""
        self.stopping.wait(seconds)
