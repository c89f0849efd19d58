"""Which key an increment goes to, and which digit of the key's ledger is its own."""

from __future__ import annotations

import random
from typing import Final

from tests.faults.entities import LEDGER_SLOTS

KEYS_OPEN: Final = 8  # that are written at the same time by one process


class Ledger:
    """Hands out digits of several keys at a time; a key that is full gives way to a new one."""

    def __init__(self, index: int, chance: random.Random) -> None:
        first = index * 10**9
        self._used = dict.fromkeys(range(first, first + KEYS_OPEN), 0)
        self._newest = first + KEYS_OPEN
        self._chance = chance

    def take(self) -> tuple[int, int]:
        """A key, and the place of a digit that nobody else sets."""
        key = self._chance.choice(list(self._used))
        slot = self._used[key]
        self._used[key] += 1
        if self._used[key] == LEDGER_SLOTS:
            del self._used[key]
            self._used[self._newest] = 0
            self._newest += 1
        return key, slot
