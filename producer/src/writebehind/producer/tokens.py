"""What leases and intents are told apart by."""

from __future__ import annotations

import itertools
import secrets


class Tokens:
    """Texts that nobody else uses: a random start and a number, which takes a tenth of what a random text each takes.

    To be made after a fork. Any thread may ask.
    """

    def __init__(self) -> None:
        self._start = secrets.token_urlsafe(9)
        self._count = itertools.count()

    def one(self) -> str:
        """A new one. Neither spaces nor colons are in it."""
        return f"{self._start}{next(self._count):x}"
