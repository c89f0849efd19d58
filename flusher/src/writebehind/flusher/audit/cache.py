"""The audit's view of the cache: it scans and reads entries, and waits out a cache that is away for a while."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from writebehind.shared import cluster, naming
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import CacheSettings

from ..cache import connect, is_cluster
from .entry import Form, Found, Unreadable
from .outage import Outage

T = TypeVar("T")

Answer = list[bytes | None] | None

_SPECIAL = re.compile(r"([\\*?\[\]])")


class CacheReader:
    """A client that only reads. Waits for a cache that is down or loading, unless `stop` is set, then raises
    ConfigurationError; also for a cluster.
    """

    def __init__(self, settings: CacheSettings, stop: threading.Event) -> None:
        self._stop = stop
        self._prefix = settings.prefix
        self.client = connect(settings, "writebehind-audit")
        self._known = False  # it has answered before: else it is not away, but not there

    def close(self) -> None:
        self.client.close()

    def entry(self, entity: str, key_text: str) -> str:
        """The cache key of a row."""
        return naming.cache_key(self._prefix, entity, key_text)

    def read(self, entity: str, form: Form, key_texts: Sequence[str]) -> list[Found]:
        """Entries by key text."""
        return self.found(entity, form, key_texts, self.ask(entity, form, key_texts))

    def found(self, entity: str, form: Form, key_texts: Sequence[str], answers: Sequence[Answer]) -> list[Found]:
        """What answers of `ask` mean; an entry that is not there is told from a hash with none of our fields."""
        found = [
            form.read(answer) if isinstance(answer, list) else Unreadable("it is not a hash") for answer in answers
        ]
        empty = [index for index, entry in enumerate(found) if entry is None]
        names = [self.entry(entity, key_texts[index]) for index in empty]
        for index, there in zip(empty, self._exist(names), strict=True):
            found[index] = Unreadable("it has no bookkeeping") if there else None
        return found

    def ask(self, entity: str, form: Form, key_texts: Sequence[str]) -> list[Answer]:
        """The values of the form's fields by key text, as the cache gives them; None for what is no hash.

        The commands are put together here: the client packs each argument anew, which took longer than comparing.
        """
        start, end = (part.encode() for part in self.entry(entity, "\0").split("\0"))
        head = b"*%d\r\n" % (2 + len(form.names)) + _packed(b"HMGET")
        tail = b"".join([_packed(name.encode()) for name in form.names])
        names = [start + text.encode(errors="surrogateescape") + end for text in key_texts]
        command = b"".join([part for name in names for part in (head, _packed(name), tail)])
        return self.patiently(lambda: self._send(command, len(names))) if names else []

    def _send(self, command: bytes, replies: int) -> list[Answer]:
        pool = self.client.connection_pool
        connection: Any = pool.get_connection()
        try:
            connection.send_packed_command([command])
            return [self._answer(connection) for _ in range(replies)]
        except BaseException:
            connection.disconnect()  # what is left of the replies must not answer the next command
            raise
        finally:
            pool.release(connection)

    def _answer(self, connection: Any) -> Answer:
        try:
            values: list[bytes | None] = connection.read_response()
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return None
        return values

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
        outage = Outage(self._stop)
        while True:
            try:
                if not self._known and is_cluster(self.client):
                    raise ConfigurationError(cluster.REFUSED)
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
                if outage.over():
                    raise ConfigurationError(f"the cache does not answer any more ({type(error).__name__})") from None


def _packed(argument: bytes) -> bytes:
    """An argument of a command, in the protocol's form."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)
