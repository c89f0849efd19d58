"""Health and metrics over HTTP, for probes and scrapers: GET and HEAD of four paths, and nothing else.

A thread and an event loop of its own. A client gets one answer within REQUEST_S or is cut off, however slowly it sends:
probes must not wait behind it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from http import HTTPStatus

from writebehind.shared.errors import ConfigurationError

from .health import Health, Report

log = logging.getLogger("writebehind.flusher")

REQUEST_S = 2.0  # longest request, from the connection to the end of the answer
REQUEST_BYTES = 8192  # largest request
CONNECTIONS_MAX = 32  # at once; more are closed without an answer
START_S = 5.0

Answer = tuple[HTTPStatus, str, bytes]  # with the type of the body
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@contextmanager
def serving(address: str, health: Health, metrics: Callable[[], bytes]) -> Iterator[None]:
    """Serve at an address of the settings, or not at all when that is "off". Raises ConfigurationError."""
    if address == "off":
        yield
        return
    host, _, port = address.rpartition(":")
    server = HealthServer(host.strip("[]"), int(port), health, metrics)
    server.start()
    try:
        yield
    finally:
        server.stop()


def answer(head: bytes, routes: Mapping[str, Callable[[], Answer]]) -> Answer:
    """The answer to a request, given by its head. Pure but for what a route reads."""
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    target, _, version = rest.partition(" ")
    if not version.startswith("HTTP/1."):
        return _problem(HTTPStatus.BAD_REQUEST)
    if method not in ("GET", "HEAD"):
        return _problem(HTTPStatus.METHOD_NOT_ALLOWED)
    route = routes.get(target.partition("?")[0])
    return route() if route is not None else _problem(HTTPStatus.NOT_FOUND)


def encode(status: HTTPStatus, kind: str, body: bytes, *, with_body: bool) -> bytes:
    """A response after which the connection is closed."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(["Allow: GET, HEAD"] if status == HTTPStatus.METHOD_NOT_ALLOWED else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (body if with_body else b"")


def _problem(status: HTTPStatus) -> Answer:
    return status, JSON, json.dumps({"error": status.phrase}).encode() + b"\n"


def _report(question: Callable[[], Report]) -> Callable[[], Answer]:
    def ask() -> Answer:
        report = question()
        status = HTTPStatus.OK if report.ok else HTTPStatus.SERVICE_UNAVAILABLE
        return status, JSON, json.dumps({"ok": report.ok, **report.body}).encode() + b"\n"

    return ask


class HealthServer:
    """Serves until the process ends or `stop`; `port` is the one it listens on."""

    def __init__(self, host: str, port: int, health: Health, metrics: Callable[[], bytes]) -> None:
        self._host = host
        self.port = port
        self._routes: dict[str, Callable[[], Answer]] = {
            "/livez": _report(health.live),
            "/readyz": _report(health.ready),
            "/startupz": _report(health.started),
            "/metrics": lambda: (HTTPStatus.OK, PROMETHEUS, metrics()),
        }
        self._open = 0
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._listening: Future[int] = Future()
        # A daemon: whatever a client does, the process ends when the flusher does.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="health", daemon=True)

    def start(self) -> None:
        """Listen. Raises ConfigurationError when the address cannot be had."""
        self._thread.start()
        try:
            self.port = self._listening.result(START_S)
        except OSError as error:
            raise ConfigurationError(
                f"WRITEBEHIND_FLUSHER__HEALTH_ADDRESS: cannot listen on {self._host}:{self.port} ({error.strerror})"
            ) from None
        log.info("health and metrics at http://%s:%d", self._host, self.port)

    def stop(self) -> None:
        """Listen no more. Waits for nobody."""
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def _run(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._serve, self._host, self.port, limit=REQUEST_BYTES)
        except OSError as error:
            self._listening.set_exception(error)
            return
        self._listening.set_result(server.sockets[0].getsockname()[1])
        await self._stopped.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= CONNECTIONS_MAX:
                async with asyncio.timeout(REQUEST_S):
                    await self._converse(reader, writer)
                    await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or was too slow or too long
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        try:
            status, kind, body = answer(head, self._routes)
        except Exception:  # a scrape that fails must not end the server, and with it the probes
            log.exception("health: a request could not be answered")
            status, kind, body = _problem(HTTPStatus.INTERNAL_SERVER_ERROR)
        writer.write(encode(status, kind, body, with_body=not head.startswith(b"HEAD ")))
        writer.close()
