"""What changes behind a flusher's back: topics that are recreated, progress that somebody moved.

Both are looked at now and then, and neither answer is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from .claims import Claims, Place
from .gap import Progress

CHECK_EVERY_S = 10.0


class Changes:
    """Asks for broker's and database's view of our partitions. Used by the loop's thread only."""

    def __init__(self, claims: Claims, topics: Sequence[str]) -> None:
        self._claims = claims
        self._topics = topics
        self._ids: dict[str, str] = {}
        self._described: dict[str, Future[Any]] = {}
        self._describe_at = 0.0
        self._standing: Future[dict[Place, Progress]] | None = None
        self._standing_at = 0.0

    def recreated(self, now: float) -> set[str]:
        """Topics that have another id than before: they keep their name when they are deleted and created again."""
        found: set[str] = set()
        if self._described and all(future.done() for future in self._described.values()):
            answers, self._described = self._described, {}
            for topic, future in answers.items():
                if future.exception() is None:
                    topic_id = str(future.result().topic_id)
                    if self._ids.setdefault(topic, topic_id) != topic_id:
                        self._ids[topic] = topic_id
                        found.add(topic)
        elif now >= self._describe_at and not self._described:
            self._describe_at = now + CHECK_EVERY_S
            self._described = self._claims.describe(self._topics)
        return found

    def progress(self, now: float, places: Sequence[Place]) -> dict[Place, Progress]:
        """The progress rows of partitions, when there is news of them; `writebehind progress set` changes them."""
        if self._standing is not None and self._standing.done():
            answer, self._standing = self._standing, None
            if answer.exception() is None:
                return answer.result()
        elif self._standing is None and places and now >= self._standing_at:
            self._standing_at = now + CHECK_EVERY_S
            self._standing = self._claims.standing(places)
        return {}
