"""The audit's view of the cache: it scans and reads entries, and waits out a cache that is away for a while."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from writebehind.shared import naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import CacheSettings

from .. import settle
from .entry import Form, Found, Unreadable

T = TypeVar("T")

OUTAGE_S = 120.0  # how long a cache may be away before the audit gives up
AGAIN_S = 0.25  # between two attempts
_SPECIAL = re.compile(r"([\\*?\[\]])")


class CacheReader:
    """A client that only reads. Waits for a cache that is down or loading, then raises ConfigurationError."""

    def __init__(self, settings: CacheSettings) -> None:
        self._prefix = settings.prefix
        try:
            self.client = settle.connect(settings, "writebehind-audit")
        except ValueError:
            raise ConfigurationError(
                "WRITEBEHIND_CACHE__URL is not the URL of a cache, such as redis://user:password@host:port/0"
            ) from None
        self._known = False  # it has answered before: else it is not away, but not there

    def close(self) -> None:
        self.client.close()

    def entry(self, entity: str, key_text: str) -> str:
        """The cache key of a row."""
        return naming.cache_key(self._prefix, entity, key_text)

    def read(self, entity: str, form: Form, key_texts: Sequence[str], *, certain: bool = True) -> list[Found]:
        """Entries by key text. `certain`: tell an entry that is not there from a hash with none of our fields."""
        names = [self.entry(entity, text) for text in key_texts]
        found = [self._found(form, reply) for reply in self._hashes(form.names, names)]
        empty = [index for index, entry in enumerate(found) if entry is None] if certain else []
        for index, there in zip(empty, self._exist([names[index] for index in empty]), strict=True):
            found[index] = Unreadable("it has no bookkeeping") if there else None
        return found

    def _exist(self, names: Sequence[str]) -> list[bool]:
        def ask() -> list[Any]:
            with self.client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.exists(name)
                return pipeline.execute()

        return [bool(reply) for reply in self.patiently(ask)] if names else []

    def ttl_ms(self, entity: str, key_text: str) -> int | None:
        """How long an entry has to live, in milliseconds; None when it does not expire, or is not there."""
        left: Any = self.patiently(lambda: self.client.pttl(self.entry(entity, key_text)))
        return int(left) if left >= 0 else None

    def scan(self, cursor: int, count: int, entity: str | None) -> tuple[int, list[bytes]]:
        """Names of our entries, of one entity or all, and the next cursor: 0 at the end. A name may come twice."""
        pattern = _SPECIAL.sub(r"\\\1", f"{self._prefix}:" + (f"{{{entity}:" if entity else "")) + "*"
        found: Any = self.patiently(lambda: self.client.scan(cursor, match=pattern, count=count))
        return int(found[0]), found[1]

    def parse(self, name: bytes) -> tuple[str, str] | None:
        """Entity and key text of an entry's name; None for what is no entry of ours."""
        text = name.decode(errors="surrogateescape").removeprefix(f"{self._prefix}:")
        entity, colon, key_text = text.removeprefix("{").removesuffix("}").partition(":")
        return (entity, key_text) if colon and text.startswith("{") and text.endswith("}") else None

    def run_id(self) -> str:
        """Changes when the cache is started again: a scan's cursor means nothing any more then."""
        info: Any = self.patiently(lambda: self.client.info("server"))
        return str(info.get("run_id", ""))

    def keys(self) -> int:
        """How many keys the database of the cache holds, of everybody."""
        return int(self.patiently(self.client.dbsize))

    def now_us(self) -> int:
        """The cache's clock in microseconds: the one that makes versions."""
        seconds, micros = self.patiently(self.client.time)
        return int(seconds) * 1_000_000 + int(micros)

    def patiently(self, work: Callable[[], T]) -> T:
        """Do something, again and again while the cache is away."""
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                answer = work()
                self._known = True
                return answer
            except (NoPermissionError, AuthenticationError) as error:
                raise ConfigurationError(
                    f"the cache's user may not do this ({error}); the audit needs +scan +hmget +exists +pttl +time "
                    "+info +dbsize, and with --apply also +eval +evalsha +hset +pexpire +del"
                ) from None
            except ResponseError:
                raise  # an answer
            except (RedisError, OSError) as error:
                if not self._known:
                    raise ConfigurationError(
                        f"the cache cannot be reached ({type(error).__name__}): check WRITEBEHIND_CACHE__URL"
                    ) from None
                if time.monotonic() > deadline:
                    raise ConfigurationError(
                        f"the cache has not answered for {OUTAGE_S:g} s ({type(error).__name__})"
                    ) from None
                time.sleep(AGAIN_S)

    def _hashes(self, names: Sequence[str], keys: Sequence[str]) -> Iterable[Any]:
        def ask() -> list[Any]:
            with self.client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hmget(key, list(names))
                replies = pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception) and not _is_wrong_type(reply):
                    raise reply
            return replies

        return self.patiently(ask) if keys else []

    def _found(self, form: Form, reply: Any) -> Found:
        return Unreadable("it is not a hash") if isinstance(reply, Exception) else form.read(reply)


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")
