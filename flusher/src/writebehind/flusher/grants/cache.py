"""What each role has to be allowed in Redis or Valkey: keys of the prefix, and the commands that the scripts call.

A script has the rights of who runs it, so its commands are listed with EVAL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .roles import Role

_CONNECTION: Final = ("ping", "select", "client|setname", "client|setinfo")
_SCRIPTS: Final = (
    *("eval", "evalsha", "time", "hget", "hmget", "hgetall", "hset", "hsetnx", "hdel"),
    *("del", "unlink", "persist", "pexpire", "pttl"),
)
_READS: Final = ("scan", "hmget", "exists", "pttl", "time", "info", "dbsize")
_SPECIAL: Final = re.compile(r"([\\*?\[\]])")


def commands(role: Role, *, repairs: bool = False) -> Sequence[str]:
    """The commands a role needs; none when it needs no cache."""
    match role:
        case Role.MIGRATOR:
            return ()
        case Role.PRODUCER:
            # CONFIG GET, where it may be asked, shows a policy that would evict pending entries.
            return (*_CONNECTION, "config|get", *_SCRIPTS)
        case Role.FLUSHER:
            return (*_CONNECTION, "info", *_SCRIPTS)
        case Role.AUDITOR:
            return tuple(dict.fromkeys((*_CONNECTION, *_READS, *(_SCRIPTS if repairs else ()))))


def arguments(role: Role, name: str, *, prefix: str, repairs: bool = False) -> list[str]:
    """The words of `ACL SETUSER`; none when the role needs no cache. Leaves passwords as they are: a new user has none,
    and cannot log in.
    """
    allowed = commands(role, repairs=repairs)
    if not allowed:
        return []
    only_reads = role is Role.AUDITOR and not repairs
    keys = ("%R~" if only_reads else "~") + _SPECIAL.sub(r"\\\1", f"{prefix}:") + "*"
    plus = [f"+{command}" for command in allowed]
    return ["ACL", "SETUSER", name, "on", "clearselectors", "resetkeys", "resetchannels", "-@all", keys, *plus]


def statement(words: Sequence[str]) -> str:
    """For `redis-cli` or `valkey-cli`, whose double quotes know escapes."""
    return " ".join(
        w if re.fullmatch(r"[^\s\"'\\]+", w) else '"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in words
    )
