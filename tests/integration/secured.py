"""Servers that can be reached over TLS alone, with a certificate of an authority that was made for the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from writebehind.embedded.ports import LOOPBACK
from writebehind.embedded.postgres import unprivileged_user

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority's certificate, the server's with its chain and its key, and both of these in one."""

    authority: Path
    server: Path
    key: Path
    both: Path

    @classmethod
    def made(cls, folder: Path) -> Certificates:
        """For 127.0.0.1. Postgres' user can read its own files; a broker wants its key as PKCS #8."""
        authority = trustme.CA()
        issued = authority.issue_cert(LOOPBACK)
        made = cls(*(folder / f"{name}.pem" for name in ("authority", "server", "key", "both")))
        authority.cert_pem.write_to_path(str(made.authority))
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(made.server), append=number > 0)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        made.key.write_bytes(pkcs8)
        made.both.write_bytes(pkcs8 + made.server.read_bytes())
        made.key.chmod(0o600)
        if (user := unprivileged_user()) is not None:
            os.chown(made.key, *user)
        folder.chmod(0o711)
        return made

    def kafka(self, listener: str) -> dict[str, str]:
        """The broker's options."""
        return {
            f"listener.name.{listener}.ssl.keystore.type": "PEM",
            f"listener.name.{listener}.ssl.keystore.location": str(self.both),
        }

    def postgres(self, folder: Path) -> dict[str, str]:
        """The server's options: users other than its own come over TLS and with a password."""
        rules = folder / "pg_hba.conf"
        rules.write_text(f"host all postgres {LOOPBACK}/32 trust\nhostssl all all {LOOPBACK}/32 scram-sha-256\n")
        rules.chmod(0o644)
        return {
            "ssl": "on",
            "ssl_cert_file": str(self.server),
            "ssl_key_file": str(self.key),
            "hba_file": str(rules),
        }


@contextmanager
def terminated(certificates: Certificates, port: int) -> Iterator[int]:
    """A port that speaks TLS for a server of this machine that cannot, such as the embedded Valkey."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.key)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, port)
        try:
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        finally:
            for end in (writer, back):
                end.transport.abort()

    async def run() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
        started.set_result((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="TLS", daemon=True)
    thread.start()
    loop, stop, place = started.result(30)
    try:
        yield place
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()
