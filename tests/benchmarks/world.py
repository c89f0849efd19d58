"""Servers with the benchmarks' tables and topics, ready to use."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from writebehind.embedded import Stack
from writebehind.flusher.migrate import migrate
from writebehind.shared.registry import load as load_entities
from writebehind.shared.settings import Settings, load_settings

from .entities import DDL
from .load import create_topic, loads


@dataclass(frozen=True, slots=True)
class World:
    """A running stack, its settings, and the environment of a child process."""

    stack: Stack
    settings: Settings
    env: dict[str, str]

    @property
    def url(self) -> str:
        return self.settings.database.url.get_secret_value()


@contextmanager
def world() -> Iterator[World]:
    """Start the servers, create tables, bookkeeping and topics."""
    with Stack(kafka_jit="full") as stack:
        env = stack.env()
        settings = load_settings(
            kafka={"bootstrap_servers": env["WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS"]},
            database={"url": env["WRITEBEHIND_DATABASE__URL"]},
            cache={"url": env["WRITEBEHIND_CACHE__URL"], "timeout_s": 5.0},
        )
        with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
            for load in loads(1):
                for statement in DDL.split(";"):
                    connection.execute(statement.format(table=load.declaration.table).encode())
                create_topic(stack.kafka.bootstrap_servers, load.topic)
        migrate(settings, load_entities(["tests.benchmarks.entities"]))
        yield World(stack, settings, env)


def arguments(description: str | None, **extra: tuple[type, object, str]) -> argparse.Namespace:
    """The options every benchmark has, and its own as name=(type, default, help); one of type bool is a flag."""
    parser = argparse.ArgumentParser(description=description)
    for name, (kind, default, text) in extra.items():
        option = "--" + name.replace("_", "-")
        if kind is bool:
            parser.add_argument(option, action="store_true", help=text)
        else:
            parser.add_argument(option, type=kind, default=default, help=text)
    parser.add_argument("--quick", action="store_true", help="a small run, to see that it works")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    return parser.parse_args()


def speaker(args: argparse.Namespace) -> Callable[[str], None]:
    """Tells what happens, beside the JSON line on standard output, unless only that was asked for."""
    return (lambda _text: None) if args.json else (lambda text: print(text, file=sys.stderr, flush=True))
