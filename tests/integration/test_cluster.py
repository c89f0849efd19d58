"""A cluster as the cache is refused wherever one could begin to work with it, because nothing would tell it later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from tests.integration.producer_world import ENTITIES, Player
from writebehind.embedded import Isolation
from writebehind.embedded.ports import ReservedPort
from writebehind.embedded.supervisor import Supervisor
from writebehind.embedded.valkey import Valkey
from writebehind.flusher.audit.cache import CacheReader
from writebehind.flusher.audit.entry import form_of
from writebehind.flusher.check.command import check
from writebehind.flusher.check.finding import Severity
from writebehind.flusher.grants.roles import Role
from writebehind.flusher.migrate import migrate
from writebehind.flusher.preflight import preflight
from writebehind.producer import AsyncClient, Client
from writebehind.shared.declaration import declaration_of
from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings

REFUSED = r"Redis or Valkey Cluster.*MOVED.*WRITEBEHIND_CACHE__URL of one primary"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One node, which has no slots yet: it says all the same that it is one of a cluster."""
    supervisor, bus = Supervisor(), ReservedPort()
    options = {"cluster-enabled": "yes", "cluster-port": str(bus.number)}
    server = Valkey(supervisor, tmp_path_factory.mktemp("cluster"), options=options)
    try:
        server.start()
        server.wait_ready()
        yield server.url
    finally:
        supervisor.close()
        server.release()
        bus.release()


@pytest.fixture(params=["", "?protocol=2"])
def settings(
    url: str, request: pytest.FixtureRequest, writebehind_isolated: Isolation, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    for name, value in writebehind_isolated.env.items():
        monkeypatch.setenv(name, value)
    return load_settings(cache={"url": url + request.param, "timeout_s": 60, "connect_timeout_s": 60})


def test_a_client_does_not_start(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED):
        Client.open(settings).start()


async def test_an_asyncio_client_does_not_start(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED):
        await AsyncClient.open(settings).start()


def test_a_flusher_does_not_start(settings: Settings) -> None:
    migrate(settings, Registry([]))
    with pytest.raises(ConfigurationError, match=REFUSED):
        preflight(settings, Registry([]))


def test_neither_an_audit_nor_whereis_looks_at_it(settings: Settings) -> None:
    player = declaration_of(Player)
    with closing(CacheReader(settings.cache, threading.Event())) as reader:
        for look in (reader.run_id, lambda: reader.read(player.name, form_of(player), ["1"])):
            with pytest.raises(ConfigurationError, match=REFUSED):
                look()


def test_check_tells_it_as_an_error(settings: Settings) -> None:
    result = check(settings, Registry(ENTITIES), Role.FLUSHER)
    assert "cache" not in dict(result.unchecked)
    (told,) = (one for one in result.findings if one.server == "cache" and one.severity is Severity.ERROR)
    assert "Cluster" in told.what
    assert "one primary" in told.fix


def test_a_user_who_may_ask_nothing_else_is_told_all_the_same(settings: Settings, url: str) -> None:
    allowed = ("+ping", "+select", "+client|setname", "+client|setinfo")
    with redis.Redis.from_url(url) as cache:
        cache.execute_command("ACL", "SETUSER", "least", "on", ">pass", "-@all", *allowed)
    named = settings.cache.url.get_secret_value().replace("//", "//least:pass@")
    least = load_settings(cache={"url": named, "timeout_s": 60, "connect_timeout_s": 60})
    with pytest.raises(ConfigurationError, match=REFUSED):
        Client.open(least).start()
