"""Servers that can be reached over TLS alone, with a certificate of an authority that was made for the test."""

from __future__ import annotations

import asyncio
import os
import ssl
import struct
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
PROXIES = "127.0.0.2"  # where proxies of tests come from
SSL_REQUEST, GSS_REQUEST = (struct.pack("!ii", 8, 80877103 + n) for n in range(2))


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

    def postgres(self, folder: Path, *, ended_before: bool = False) -> dict[str, str]:
        """The server's options: roles of ours come over TLS and with a password, and everybody else is the test.

        From `PROXIES` their TLS may have ended at a port in front of the server. ended_before: from everywhere.
        """
        rules = folder / "pg_hba.conf"
        kind = "host" if ended_before else "hostssl"
        rules.write_text(
            f"{kind} all /^writebehind_ {LOOPBACK}/32 scram-sha-256\n"
            f"host all /^writebehind_ {PROXIES}/32 scram-sha-256\n"
            "host all /^writebehind_ all reject\n"
            f"host all all {LOOPBACK}/8 trust\n"
        )
        rules.chmod(0o644)
        return {
            "ssl": "on",
            "ssl_cert_file": str(self.server),
            "ssl_key_file": str(self.key),
            "hba_file": str(rules),
        }


@contextmanager
def terminated(certificates: Certificates, port: int, *, postgres: bool = False) -> Iterator[int]:
    """A port that speaks TLS for one of this machine that cannot: the embedded Valkey, or a proxy that reads what it
    passes on. `postgres`: clients ask for TLS as that protocol has it.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.key)
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            if postgres:
                await _start_tls(reader, writer, context)
            there, back = await asyncio.open_connection(LOOPBACK, port)
            ends.append(back)
            await asyncio.gather(_pass_on(reader, back, ends), _pass_on(there, writer, ends))
        except (OSError, EOFError):
            pass  # the port behind is away, or the client went before it had asked for TLS
        finally:
            for end in ends:
                end.transport.abort()

    async def run() -> None:
        stop = asyncio.Event()
        server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=None if postgres else context)
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


async def _start_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
    """SSLRequest of Postgres' protocol. Raises ConnectionError for a client that does not ask."""
    asked = await reader.readexactly(len(SSL_REQUEST))
    if asked == GSS_REQUEST:
        writer.write(b"N")
        asked = await reader.readexactly(len(SSL_REQUEST))
    if asked != SSL_REQUEST:
        raise ConnectionError("a client without TLS")
    writer.write(b"S")
    await writer.start_tls(context)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: list[asyncio.StreamWriter]
) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()
    except OSError:  # a reset on one side is one on the other
        for end in ends:
            end.transport.abort()
