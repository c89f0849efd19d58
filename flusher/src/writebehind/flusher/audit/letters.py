"""Which of a key's records were skipped: an entry that shows one of them is refused, and not lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings

from ..letters.filters import Filters
from ..letters.item import DISCARDED, REFUSED
from ..letters.scan import scan


class Skipped:
    """Looks letters up. Only asked for entries that are pending and drifted, which are few or a disaster."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._settings = settings
        self._registry = registry

    def versions(self, entity: str, key_texts: Sequence[str]) -> dict[str, list[int]]:
        """By key text the versions of its records that were skipped for good; 0 for one that nobody could read."""
        wanted = Filters(
            entities=frozenset([entity]), keys=frozenset(key_texts), states=frozenset([REFUSED, DISCARDED])
        )
        found: dict[str, list[int]] = defaultdict(list)
        with scan(self._settings, self._registry, wanted) as letters:
            for item in letters.items():
                if item.message is not None and item.message.key_text is not None:
                    found[item.message.key_text].append(item.message.letter.version or 0)
        return found
