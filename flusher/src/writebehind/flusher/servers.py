"""How the commands reach Postgres and Kafka, and the one place where what those raise becomes a ConfigurationError.

Only what a server said is quoted. The clients' own messages quote parts of URLs and options, which hold passwords; that
is also why no error of theirs stays the cause of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import KafkaError, KafkaException
from psycopg import pq
from psycopg.conninfo import make_conninfo

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import DatabaseSettings, Settings, kafka_client_config, options_refused

from .triage import Verdict, triage

CONNECT_TIMEOUT_S = 10


class Unreachable(ConfigurationError):
    """A server that does not answer now: what runs for ever waits for it, any other command ends."""


@contextmanager
def database(settings: DatabaseSettings, name: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection with our time-outs, in one transaction that is committed at the end.

    Raises ConfigurationError; Unreachable when the server does not answer.
    """
    timeouts = {"statement_timeout": settings.statement_timeout_s, "lock_timeout": settings.lock_timeout_s}
    connection = _connect(settings.url.get_secret_value(), name)
    with database_told(settings), connection:
        for timeout, seconds in timeouts.items():
            connection.execute("SELECT set_config(%s, %s, false)", (timeout, f"{int(seconds * 1000)}ms"))
        yield connection


def _connect(url: str, name: str, *, again: bool = True) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(url, application_name=name, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.Error as error:
        away = _away(error, url)
        if again and not away:  # it answers now: it has just started, or refuses us
            return _connect(url, name, again=False)
        raise (Unreachable if away else ConfigurationError)(
            f"the database cannot be reached ({error.sqlstate or type(error).__name__}): check "
            "WRITEBEHIND_DATABASE__URL and whether the server runs"
        ) from None


def _away(error: psycopg.Error, url: str) -> bool:
    """Whether the server does not answer or takes no connections yet. libpq gives no code when connecting fails."""
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return True
    try:
        conninfo = make_conninfo(url, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.Error:
        return False
    return pq.PGconn.ping(conninfo.encode()) in (pq.Ping.NO_RESPONSE, pq.Ping.REJECT)


@contextmanager
def database_told(settings: DatabaseSettings) -> Iterator[None]:
    """Turn what the database says into a ConfigurationError."""
    try:
        yield
    except psycopg.errors.UndefinedTable:
        raise ConfigurationError(
            f"there are no bookkeeping tables in schema {settings.schema_}: run `writebehind migrate`"
        ) from None
    except psycopg.Error as error:
        if error.sqlstate is None and not isinstance(error, psycopg.OperationalError):
            raise  # psycopg's own check of what we gave it: a fault of ours
        passes = triage(error) is Verdict.TRANSIENT
        raise (Unreachable if passes else ConfigurationError)(_said(error)) from None


def _said(error: psycopg.Error) -> str:
    kind = error.sqlstate or type(error).__name__
    return f"the database cannot be used ({kind}): {error.diag.message_primary or 'the connection was lost'}"


class Broker:
    """What a client of the broker is made of, and what its errors mean.

    librdkafka says `_TRANSPORT` or `_TIMED_OUT` for whatever keeps it from connecting; why (`_AUTHENTICATION`, `_SSL`,
    `_RESOLVE`) only its error callback tells.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._heard: list[str] = []

    def client_config(self) -> dict[str, Any]:
        """librdkafka's settings. It logs nothing: what matters is raised, and a broker that is down fills a screen."""
        return {**kafka_client_config(self._settings), "log_level": 2, "error_cb": self._hear}

    @contextmanager
    def told(self, failed: str = "", poll: Callable[[float], object] | None = None) -> Iterator[None]:
        """Turn a KafkaException into a ConfigurationError. `failed`: what could not be done, such as "no topic x".

        `poll` is the client's: it runs the error callback.
        """
        try:
            yield
        except KafkaException as error:
            if poll is not None:
                poll(0)
            raise ConfigurationError(self._meaning(error.args[0], failed)) from None

    def _meaning(self, error: KafkaError, failed: str) -> str:
        kafka = self._settings.kafka
        # 1. The client could not be made: the text would show the value of the option that is wrong.
        if error.code() == KafkaError._INVALID_ARG and kafka.options:
            return str(options_refused(self._settings))
        # 2. The broker answered.
        if error.code() > 0:
            return f"{failed or f'the broker at {kafka.bootstrap_servers} refuses'} ({error.name()}: {error.str()})"
        # 3. It did not.
        names = ", ".join(dict.fromkeys([error.name(), *self._heard]))
        unreachable = f"the broker at {kafka.bootstrap_servers} does not answer ({names})"
        return f"{failed}: {unreachable}" if failed else unreachable

    def _hear(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._heard[-3:] = [*self._heard[-2:], error.name()]
