"""Settings: which source wins, what is refused, and that no message shows a secret."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.settings import PROTECTED_KAFKA_OPTIONS, kafka_client_config, load_settings

REQUIRED = {
    "WRITEBEHIND_KAFKA__BOOTSTRAP_SERVERS": "broker:9092",
    "WRITEBEHIND_DATABASE__URL": "postgresql://u:s3cret@db/x",
    "WRITEBEHIND_CACHE__URL": "redis://:s3cret@cache/0",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and an environment that holds only what is required."""
    for name in [name for name in os.environ if name.startswith("WRITEBEHIND_")]:
        monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(**overrides: object) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(**overrides)
    assert "s3cret" not in "".join(traceback.format_exception(raised.value)), "nor may its causes show a value"
    return str(raised.value)


def test_three_addresses_are_enough() -> None:
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "broker:9092"
    assert settings.kafka.topic_prefix == "writebehind."
    assert settings.database.schema_ == "writebehind"
    assert settings.cache.prefix == "wb"
    assert settings.flusher.group == "writebehind-flusher"


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_missing_setting_is_named_by_its_variable(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(missing)
    message = refusal()
    assert [name for name in REQUIRED if name in message] == [missing]


def test_all_problems_are_reported_at_once_each_with_its_default_and_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WRITEBEHIND_DATABASE__URL")
    monkeypatch.setenv("WRITEBEHIND_CACHE__TIMEOUT_S", "-1")
    monkeypatch.setenv("WRITEBEHIND_FLUSHER__WORKERS", "many")
    lines = refusal().splitlines()[1:]
    assert len(lines) == 3
    (timeout,) = (line for line in lines if "WRITEBEHIND_CACHE__TIMEOUT_S" in line)
    assert "in seconds" in timeout
    assert "default 0.25" in timeout


def test_sources_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step adds a source that outranks those before it."""
    variable = "WRITEBEHIND_CACHE__PREFIX"
    (folder / "writebehind.toml").write_text('[cache]\nprefix = "toml"\n')
    assert load_settings().cache.prefix == "toml"
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / variable).write_text("secret\n")
    monkeypatch.setenv("WRITEBEHIND_SECRETS_DIR", str(secrets))
    assert load_settings().cache.prefix == "secret"
    (folder / ".env").write_text(f"{variable}=dotenv\n")
    assert load_settings().cache.prefix == "dotenv"
    monkeypatch.setenv(variable, "env")
    assert load_settings().cache.prefix == "env"
    assert load_settings(cache={"prefix": "argument"}).cache.prefix == "argument"
    assert (
        load_settings(cache={"prefix": "argument"}).cache.url.get_secret_value() == REQUIRED["WRITEBEHIND_CACHE__URL"]
    )


def test_passwords_may_come_from_a_folder_of_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WRITEBEHIND_DATABASE__URL", "WRITEBEHIND_CACHE__URL"):
        monkeypatch.delenv(name)
        (folder / name).write_text(REQUIRED[name] + "\n")
    monkeypatch.setenv("WRITEBEHIND_SECRETS_DIR", str(folder))
    settings = load_settings()
    assert settings.database.url.get_secret_value() == REQUIRED["WRITEBEHIND_DATABASE__URL"]
    assert settings.cache.url.get_secret_value() == REQUIRED["WRITEBEHIND_CACHE__URL"]


def test_a_toml_file_that_was_named_must_be_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITEBEHIND_CONFIG", str(folder / "none.toml"))
    assert "none.toml" in refusal()
    (folder / "none.toml").write_text("[database]\nschema = 'books'\n")
    assert load_settings().database.schema_ == "books"


def test_every_source_that_was_named_and_is_not_there_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITEBEHIND_CONFIG", str(folder / "none.toml"))
    monkeypatch.setenv("WRITEBEHIND_SECRETS_DIR", str(folder / "nothing"))
    message = refusal()
    assert "none.toml, which is not a file" in message
    assert "nothing, which is not a folder" in message


def test_a_file_that_is_not_toml_is_named_with_the_line(folder: Path) -> None:
    (folder / "writebehind.toml").write_text("[cache]\nprefix = s3cret\n")
    message = refusal()
    assert "writebehind.toml: not TOML" in message
    assert "line 2" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("variable", ["WRITEBEHIND_DATABASE", "WRITEBEHIND_KAFKA__OPTIONS"])
def test_json_that_cannot_be_read_is_told_without_showing_it(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, '{"x": s3cret}')
    message = refusal()
    assert "JSON" in message
    assert variable.split("_")[1].lower() in message
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "value", ["shop.entities,shop.orders", " shop.entities , shop.orders,", '["shop.entities", "shop.orders"]']
)
def test_entities_are_a_list_with_commas_or_json(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRITEBEHIND_ENTITIES", value)
    assert load_settings().entities == ["shop.entities", "shop.orders"]
    monkeypatch.setenv("WRITEBEHIND_ENTITIES", '["shop.entities"')
    assert "WRITEBEHIND_ENTITIES" in refusal()


@pytest.mark.parametrize("option", sorted(PROTECTED_KAFKA_OPTIONS))
def test_kafka_options_that_the_promises_depend_on_are_refused(option: str) -> None:
    message = refusal(kafka={"options": {option: "s3cret"}})
    assert option in message
    assert "s3cret" not in message


def test_other_kafka_options_reach_the_clients() -> None:
    settings = load_settings(kafka={"options": {"sasl.password": "s3cret", "client.rack": "x"}})
    assert kafka_client_config(settings) == {
        "log_level": 4,
        "bootstrap.servers": "broker:9092",
        "sasl.password": "s3cret",
        "client.rack": "x",
    }


def test_settings_that_contradict_each_other_are_refused() -> None:
    kafka = refusal(kafka={"min_insync_replicas": 2, "replication_factor": 1})
    assert "min_insync_replicas (2) cannot be met with a replication_factor of 1" in kafka
    assert "BOOTSTRAP_SERVERS" not in kafka
    flusher = refusal(flusher={"retry_delay_min_s": 3, "retry_delay_max_s": 1})
    assert "WRITEBEHIND_FLUSHER: " in flusher
    assert "retry_delay_min_s must not be greater than retry_delay_max_s" in flusher
    assert "linger_ms must be less than" in refusal(producer={"linger_ms": 1000, "delivery_timeout_s": 1})


def test_groups_that_contradict_each_other_are_named_with_both_numbers() -> None:
    message = refusal(kafka={"max_message_bytes": 2_000_000}, producer={"max_in_flight_bytes": 1_100_000})
    assert "WRITEBEHIND_PRODUCER__MAX_IN_FLIGHT_BYTES (1100000)" in message
    assert "WRITEBEHIND_KAFKA__MAX_MESSAGE_BYTES (2000000)" in message


def test_a_misspelt_setting_is_refused() -> None:
    assert "WRITEBEHIND_FLUSHER__WORKER" in refusal(flusher={"worker": 3})


def test_a_prefix_that_would_break_the_caches_hash_tag_is_refused() -> None:
    assert "WRITEBEHIND_CACHE__PREFIX" in refusal(cache={"prefix": "a{b"})


@pytest.mark.parametrize("schema", ["", "a%s", "x" * 64])
def test_a_schema_name_that_postgres_or_psycopg_cannot_take_is_refused(schema: str) -> None:
    assert "WRITEBEHIND_DATABASE__SCHEMA: " in refusal(database={"schema": schema})


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(kafka={"options": {"sasl.password": "s3cret"}})
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.setenv(
        "WRITEBEHIND_DATABASE", '{"url": ["s3cret"], "schema": "s3cret-schema-but-wrong' + "x" * 80 + '"}'
    )
    monkeypatch.setenv("WRITEBEHIND_CACHE__TIMEOUT_S", "s3cret")
    assert "s3cret" not in refusal()
