"""The profile `production`: no connection that can be read or impersonated on its way."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from writebehind.flusher.app import consumer_config
from writebehind.producer.outbox import Outbox
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import kafka_client_config, load_settings
from writebehind.shared.transport import weaknesses

KAFKA = {"security.protocol": "SASL_SSL", "sasl.password": "s3cret"}
OIDC = {
    "security.protocol": "sasl_ssl",
    "sasl.mechanisms": "OAUTHBEARER",
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.client.id": "writebehind",
    "sasl.oauthbearer.client.secret": "s3cret",
    "sasl.oauthbearer.token.endpoint.url": "https://127.0.0.1:1/token",
}
DATABASE = "postgresql://u:s3cret@db/x?sslmode=verify-full&sslrootcert=system"
CACHE = "rediss://u:s3cret@cache:6380/0"


@pytest.fixture(autouse=True)
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PGSSLMODE", "PGHOST"):
        monkeypatch.delenv(name, raising=False)


def loaded(kafka: dict[str, str], database: str, cache: str, **rest: Any) -> Any:
    groups = {"kafka": {"bootstrap_servers": "b:9093", "options": kafka}, "database": {"url": database}}
    return load_settings(**groups, cache={"url": cache}, **rest)


def test_encrypted_and_verified_connections_are_what_production_takes() -> None:
    assert loaded(KAFKA, DATABASE, CACHE, profile="production").profile == "production"


def test_tokens_of_an_identity_provider_are_what_production_takes_and_every_client_too() -> None:
    settings = loaded(OIDC, DATABASE, CACHE, profile="production")
    Outbox(settings, deliver=lambda _writes: None).close(0)
    Consumer(consumer_config(settings)).close()
    AdminClient(kafka_client_config(settings))


def test_production_tells_all_that_it_refuses_at_once_and_no_secret() -> None:
    servers = {"sasl.password": "s3cret"}, "postgresql://u:s3cret@db/x", "redis://u:s3cret@cache/0"
    with pytest.raises(ConfigurationError) as raised:
        loaded(*servers, profile="production")  # on one line, because a traceback shows the whole call
    said = str(raised.value)
    for variable in ("WRITEBEHIND_KAFKA__OPTIONS", "WRITEBEHIND_DATABASE__URL", "WRITEBEHIND_CACHE__URL"):
        assert said.count(variable) == 1
    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_other_profiles_take_everything() -> None:
    settings = loaded({}, "postgresql://db/x", "redis://cache/0")
    assert [weakness.server for weakness in settings.weaknesses()] == ["kafka", "database", "cache"]


@pytest.mark.parametrize(
    ("kafka", "database", "cache", "what"),
    [
        ({"security.protocol": "sasl_plaintext"}, DATABASE, CACHE, "not encrypted"),
        ({**KAFKA, "enable.ssl.certificate.verification": "False"}, DATABASE, CACHE, "not verified"),
        ({**KAFKA, "ssl.endpoint.identification.algorithm": "none"}, DATABASE, CACHE, "any certificate passes"),
        ({**KAFKA, **OIDC, "sasl.oauthbearer.token.endpoint.url": "http://idp/token"}, DATABASE, CACHE, "unencrypted"),
        ({**KAFKA, "enable.sasl.oauthbearer.unsecure.jwt": "true"}, DATABASE, CACHE, "no signature"),
        (KAFKA, "postgresql://db/x?sslmode=require", CACHE, "any server passes (sslmode=require)"),
        (KAFKA, "postgresql://db/x?sslmode=verify-ca", CACHE, "any server passes (sslmode=verify-ca)"),
        (KAFKA, "host=db dbname=x", CACHE, "may not be encrypted (sslmode=prefer)"),
        (KAFKA, "host=/run,db", CACHE, "may not be encrypted (sslmode=prefer)"),
        (KAFKA, DATABASE, "redis://cache/0", "not encrypted"),
        (KAFKA, DATABASE, "rediss://cache/0?ssl_cert_reqs=none", "not verified"),
        (KAFKA, DATABASE, "rediss://cache/0?ssl_cert_reqs=optional", "not verified"),
        (KAFKA, DATABASE, "rediss://cache/0?ssl_cert_reqs=none&ssl_cert_reqs=required", "not verified"),
        (KAFKA, DATABASE, "rediss://cache/0?ssl_check_hostname=False", "any certificate passes"),
    ],
)
def test_each_weakness_is_found(kafka: dict[str, str], database: str, cache: str, what: str) -> None:
    (found,) = weaknesses(kafka, database, cache, {})
    assert what in found.what


def test_a_socket_of_this_machine_needs_no_encryption() -> None:
    assert weaknesses(KAFKA, "postgresql:///x?host=/run/postgresql", CACHE, {}) == []
    assert weaknesses(KAFKA, "dbname=x", CACHE, {"PGHOST": "/run/postgresql"}) == []
    assert weaknesses(KAFKA, DATABASE, "unix:///run/valkey.sock", {}) == []


def test_libpq_variables_count_where_the_url_says_nothing() -> None:
    assert weaknesses(KAFKA, "postgresql://db/x", CACHE, {"PGSSLMODE": "verify-full"}) == []
    assert weaknesses(KAFKA, "postgresql://db/x?sslmode=require", CACHE, {"PGSSLMODE": "verify-full"}) != []
