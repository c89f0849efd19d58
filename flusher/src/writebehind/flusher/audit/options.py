"""What an audit is told. Pure."""

from __future__ import annotations

import enum
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from writebehind.shared.errors import ConfigurationError

from .suspects import Patience

_SHARE = re.compile(r"(\d+(?:\.\d+)?)(%?)")


class Repair(enum.StrEnum):
    """INVALIDATE: delete entries that are not right. RE_ENQUEUE: only enqueue lost writes again. AUTO: each as fits."""

    INVALIDATE = "invalidate"
    RE_ENQUEUE = "re-enqueue"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Options:
    """An audit's options. `keys`: only these of the one entity; `keys_per_s` 0: as fast as it goes."""

    entities: tuple[str, ...]
    keys: tuple[str, ...] = ()
    share: float = 1.0
    keys_per_s: float = 2_000.0
    from_database: bool = False
    patience: Patience = field(default_factory=lambda: Patience(10.0, 30.0, 45.0))
    repair: Repair | None = None
    apply: bool = False
    show_values: bool = False

    @property
    def identity(self) -> str:
        """What a run must have in common with one that it goes on with."""
        direction = "database" if self.from_database else "cache"
        repair = f"{self.repair}{' applied' if self.apply else ''}" if self.repair else "no repair"
        return f"{' '.join(self.entities)}; {self.share:g}; from {direction}; {repair}; {' '.join(self.keys)}"

    def takes(self, key_text: str, run: int) -> bool:
        """Whether a key is in the sample; another one in each run, so that runs together cover everything."""
        if self.share >= 1:
            return True
        return zlib.crc32(key_text.encode(errors="surrogateescape"), run & 0xFFFFFFFF) < self.share * 2**32


def parse_share(text: str) -> float:
    """`1%` or `0.01`. Raises ConfigurationError."""
    found = _SHARE.fullmatch(text.strip())
    share = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < share <= 1:
        raise ConfigurationError(f"--sample {text}: give a share such as 1% or 0.01")
    return share


def batches(texts: Sequence[str], size: int) -> list[list[str]]:
    """Parts of a bounded size."""
    return [list(texts[at : at + size]) for at in range(0, len(texts), size)]
