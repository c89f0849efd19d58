"""A Redis or Valkey Cluster as the cache is refused: no part of ours follows its redirections. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: The command whose answer tells. Unlike INFO it takes no right of a user, and a proxy answers it for itself.
HELLO: Final = "HELLO"

WHAT: Final = "the cache is a Redis or Valkey Cluster"
WHY: Final = "its redirections (MOVED, CROSSSLOT) are not followed: every call would count as an outage of the cache"
FIX: Final = (
    "WRITEBEHIND_CACHE__URL of one primary without cluster mode, which may have replicas, "
    "or of a proxy that leads to whichever is the primary"
)
REFUSED: Final = f"{WHAT}; {WHY}. To mend it: {FIX}"


def is_cluster(hello: Mapping[bytes, Any] | Sequence[Any]) -> bool:
    """Whether a server that answers HELLO so is a node of a cluster. RESP2 has a list in place of a map."""
    pairs = hello.items() if isinstance(hello, Mapping) else zip(hello[::2], hello[1::2], strict=False)
    return any((name, value) == (b"mode", b"cluster") for name, value in pairs)
