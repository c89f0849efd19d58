"""Which connections of a deployment can be read or impersonated on their way, by its settings alone. No I/O."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict

_OFF: Final = frozenset({"false", "0", "no", "off", "f", "n"})


@dataclass(frozen=True, slots=True)
class Weakness:
    """What is wrong with the way to a server, by the variable that decides, and what to set."""

    server: str
    variable: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.what}; {self.do}"


def weaknesses(
    kafka: Mapping[str, str], database_url: str, cache_url: str, environment: Mapping[str, str] = os.environ
) -> list[Weakness]:
    """Each connection that is not encrypted, or whose server proves nothing. Never a value of a setting.

    kafka: librdkafka's options. environment: for the `PG*` variables, which libpq takes for what the URL leaves out.
    """
    return [*_kafka(kafka), *_database(database_url, environment), *_cache(cache_url)]


def kafka_is_encrypted(options: Mapping[str, str]) -> bool:
    """By librdkafka's options."""
    return options.get("security.protocol", "plaintext").strip().lower() in ("ssl", "sasl_ssl")


def _kafka(options: Mapping[str, str]) -> Iterator[Weakness]:
    name = "WRITEBEHIND_KAFKA__OPTIONS"
    if not kafka_is_encrypted(options):
        yield Weakness("kafka", name, "the connection is not encrypted", "set security.protocol to ssl or sasl_ssl")
    if options.get("enable.ssl.certificate.verification", "true").strip().lower() in _OFF:
        do = "leave enable.ssl.certificate.verification out, and set ssl.ca.location to your authority's file"
        yield Weakness("kafka", name, "the broker's certificate is not verified", do)
    if options.get("ssl.endpoint.identification.algorithm", "https").strip().lower() != "https":
        do = "leave ssl.endpoint.identification.algorithm out"
        yield Weakness("kafka", name, "any certificate passes for the broker's", do)
    if options.get("enable.sasl.oauthbearer.unsecure.jwt", "false").strip().lower() not in _OFF:
        do = "leave enable.sasl.oauthbearer.unsecure.jwt out, and set sasl.oauthbearer.method to oidc"
        yield Weakness("kafka", name, "the tokens that tell the broker who we are carry no signature", do)
    if options.get("sasl.oauthbearer.token.endpoint.url", "https:").strip().lower().startswith("http:"):
        do = "let sasl.oauthbearer.token.endpoint.url begin with https://"
        yield Weakness("kafka", name, "the client's secret goes to the token endpoint unencrypted", do)


def _database(url: str, environment: Mapping[str, str]) -> Iterator[Weakness]:
    name = "WRITEBEHIND_DATABASE__URL"
    try:
        given = conninfo_to_dict(url)
    except Error:
        return  # not a URL: whoever connects says so
    hosts = str(given.get("host") or given.get("hostaddr") or environment.get("PGHOST", "")).split(",")
    if all(host.startswith(("/", "@")) for host in hosts):
        return  # a socket of this machine
    mode = given.get("sslmode") or environment.get("PGSSLMODE", "prefer")
    if mode != "verify-full":
        what = "the connection may not be encrypted" if mode in ("disable", "allow", "prefer") else "any server passes"
        do = "add sslmode=verify-full and sslrootcert=FILE (or sslrootcert=system)"
        yield Weakness("database", name, f"{what} (sslmode={mode})", do)


def _cache(url: str) -> Iterator[Weakness]:
    name = "WRITEBEHIND_CACHE__URL"
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query)
    except ValueError:
        return
    if parts.scheme == "unix":
        return
    if parts.scheme != "rediss":
        yield Weakness("cache", name, "the connection is not encrypted", "let it begin with rediss://")
    elif set(asked.get("ssl_cert_reqs", ())) - {"required"}:  # all that are given: only one of them counts
        do = "leave ssl_cert_reqs out, and add ssl_ca_certs=FILE"
        yield Weakness("cache", name, "the server's certificate is not verified", do)
    elif _OFF & {value.lower() for value in asked.get("ssl_check_hostname", ())}:
        yield Weakness("cache", name, "any certificate passes for the server's", "leave ssl_check_hostname out")
