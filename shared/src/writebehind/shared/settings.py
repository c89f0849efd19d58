"""Settings: twelve-factor, prefix `WRITEBEHIND_`, nested with `__`; units stand last in names.

Sources, first wins: arguments, environment, `.env`, the secrets directory named by `WRITEBEHIND_SECRETS_DIR` (a file
per setting, named like its variable), and the TOML file named by `WRITEBEHIND_CONFIG` (default `writebehind.toml`, if
it exists): a placeholder in a shipped file must not outrank a mounted secret.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from .errors import ConfigurationError
from .settings_problems import problems
from .transport import Weakness, weaknesses

PREFIX = "WRITEBEHIND_"

# What the protocol's promises stand on, and what has a setting of its own, under all of librdkafka's names for it; an
# override would break the one or contradict the other without a sound.
PROTECTED_KAFKA_OPTIONS = frozenset(
    {
        "acks",
        "request.required.acks",
        "allow.auto.create.topics",
        "auto.offset.reset",
        "bootstrap.servers",
        "metadata.broker.list",
        "check.crcs",
        "client.id",
        "delivery.timeout.ms",
        "message.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "linger.ms",
        "queue.buffering.max.ms",
        "message.max.bytes",
        "partition.assignment.strategy",
        "partitioner",
        "session.timeout.ms",
        "transactional.id",
    }
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, frozen=True)


class KafkaSettings(_Part):
    """The broker, and the topics that `writebehind migrate` creates."""

    bootstrap_servers: str = Field(description="host:port, comma separated", min_length=1)
    topic_prefix: str = Field("writebehind.", description="put before an entity's name to make its topic")
    partitions: int = Field(6, ge=1, le=10_000, description="partitions of a new topic")
    replication_factor: int = Field(1, ge=1, le=32, description="replicas of a new topic; 3 in production")
    min_insync_replicas: int = Field(1, ge=1, le=32, description="replicas that must have a record; 2 in production")
    retention_ms: int = Field(7 * 86_400_000, ge=60_000, description="how long a topic keeps records, in milliseconds")
    max_message_bytes: int = Field(1_048_576, ge=10_240, description="largest record, in bytes")
    options: dict[str, SecretStr] = Field(
        default_factory=dict, description="librdkafka settings, passed on as they are"
    )

    @field_validator("options")
    @classmethod
    def _refuse_protected(cls, options: dict[str, SecretStr]) -> dict[str, SecretStr]:
        refused = sorted(PROTECTED_KAFKA_OPTIONS & options.keys())
        if refused:
            raise ValueError(f"{', '.join(refused)}: set by writebehind itself or by a setting of its own")
        return options

    @model_validator(mode="after")
    def _replicas(self) -> Self:
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError(
                f"min_insync_replicas ({self.min_insync_replicas}) cannot be met with a "
                f"replication_factor of {self.replication_factor}"
            )
        return self


class DatabaseSettings(_Part):
    """Postgres. `PG*` variables are respected for what the URL leaves out."""

    url: SecretStr = Field(description="postgresql://user:password@host:port/database")
    schema_: str = Field(
        "writebehind",
        alias="schema",
        max_length=63,
        pattern=r"^[^%\x00]+$",  # psycopg takes a % in a name for a parameter
        description="schema of the bookkeeping tables",
    )
    statement_timeout_s: float = Field(30.0, gt=0, description="longest statement, in seconds")
    lock_timeout_s: float = Field(5.0, gt=0, description="longest wait for a lock, in seconds")
    stall_timeout_s: float = Field(
        10.0,
        ge=1,
        description="how long a connection of the flusher or an audit may be silent before the server is asked, on "
        "another one, whether it still works for us; a statement that runs is not cut, in seconds",
    )
    pool_max: int = Field(4, ge=1, description="connections a producer opens at the most")

    model_config = ConfigDict(populate_by_name=True, extra="forbid", hide_input_in_errors=True, frozen=True)


class CacheSettings(_Part):
    """Redis or Valkey."""

    url: SecretStr = Field(description="redis://user:password@host:port/0")
    prefix: str = Field("wb", min_length=1, pattern=r"^[^{}]+$", description="put before every key; one per deployment")
    timeout_s: float = Field(0.25, gt=0, description="longest answer, in seconds; beyond it the cache counts as down")
    connect_timeout_s: float = Field(0.5, gt=0, description="longest connection attempt, in seconds")
    breaker_failures: int = Field(5, ge=1, description="failures in a row that open the circuit breaker")
    breaker_open_s: float = Field(1.0, gt=0, description="how long an open breaker leaves the cache alone, in seconds")
    connections_max: int = Field(
        16, ge=1, description="connections of a synchronous client; an asynchronous one shares one"
    )
    lease_s: float = Field(2.0, gt=0, description="how long a reader may take to fill an entry, in seconds")
    budget_s: float = Field(
        0.05,
        gt=0,
        description="longest answer when a cache-aside or write-through entity is read or written, in seconds; beyond "
        "it such calls do without the cache for breaker_open_s",
    )
    load_wait_s: float = Field(
        0.25,
        ge=0,
        description="how long a reader of such an entity waits for another one that loads the same entry, before it "
        "reads the row itself, in seconds",
    )
    patch_bytes_max: int = Field(
        1_048_576,
        ge=1024,
        description="largest patch of a cache-aside or write-through entity, and largest result that `cached` keeps, "
        "in bytes",
    )


class ProducerSettings(_Part):
    """The producer library."""

    max_in_flight: int = Field(50_000, ge=1, description="records handed over and not acknowledged, at the most")
    max_in_flight_bytes: int = Field(64 * 1024 * 1024, ge=1_048_576, description="the same in bytes")
    timeout_s: float = Field(10.0, gt=0, description="longest call, in seconds")
    delivery_timeout_s: float = Field(30.0, gt=0, description="how long a record is tried, in seconds")
    linger_ms: float = Field(1.0, ge=0, le=1000, description="how long a record waits for company, in milliseconds")
    broker_down_after_s: float = Field(
        3.0, gt=0, description="silence after which the broker counts as down, in seconds"
    )
    close_timeout_s: float = Field(10.0, gt=0, description="how long close() drains, in seconds")

    @model_validator(mode="after")
    def _linger(self) -> Self:
        if self.linger_ms >= self.delivery_timeout_s * 1000:
            raise ValueError(
                "linger_ms must be less than delivery_timeout_s, or every record is given up while it waits"
            )
        return self


class FlusherSettings(_Part):
    """The flusher."""

    group: str = Field(
        "writebehind-flusher", min_length=1, description="consumer group; services ask how far it has come"
    )
    instance_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="name of this flusher that stays the same over restarts, such as a StatefulSet's pod name: a "
        "restart within session_timeout_s then moves no partition; unique in its group; workers get -0, -1, ...",
    )
    batch_rows_max: int = Field(
        20_000, ge=1, le=100_000, description="rows in one statement; more than two connections share twice as many"
    )
    batch_records_max: int = Field(100_000, ge=1, description="records folded into one batch; shared likewise")
    batch_bytes_max: int = Field(
        16 * 1024 * 1024, ge=65_536, description="bytes of records in one batch; shared likewise"
    )
    connections: int = Field(1, ge=1, le=64, description="database connections per entity, over disjoint partitions")
    workers: int = Field(1, ge=1, le=64, description="processes")
    shutdown_timeout_s: float = Field(8.0, gt=0, le=300, description="longest shutdown, in seconds")
    retry_delay_min_s: float = Field(0.05, gt=0, description="first delay after a failure, in seconds")
    retry_delay_max_s: float = Field(5.0, gt=0, description="longest delay between attempts, in seconds")
    session_timeout_s: float = Field(
        45.0, ge=6, le=300, description="silence after which the group gives our partitions away, in seconds"
    )

    health_address: str = Field(
        "127.0.0.1:0",
        pattern=r"^(off|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5})$",
        description="where /livez, /readyz, /startupz and /metrics are served, host:port; port 0 is any free one, "
        "which the log names; worker n has the n-th port after it; off serves nothing",
    )
    liveness_timeout_s: float = Field(
        60.0, ge=1, description="how long the loop may take to come round before /livez fails, in seconds"
    )

    @model_validator(mode="after")
    def _ports(self) -> Self:
        port = self.health_address.rpartition(":")[2]
        if port != "off" and int(port) + self.workers - 1 > 65_535:
            raise ValueError(f"health_address: there is no port {int(port) + self.workers - 1}")
        return self

    @model_validator(mode="after")
    def _delays(self) -> Self:
        if self.retry_delay_min_s > self.retry_delay_max_s:
            raise ValueError("retry_delay_min_s must not be greater than retry_delay_max_s")
        return self


class LogSettings(_Part):
    """What flusher and audit write to stderr."""

    format: Literal["console", "json"] = Field("console", description="a line for people, or a JSON object in a line")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least level that is logged")


class Settings(BaseSettings):
    """Everything a producer, a flusher or a tool needs to know of its deployment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        hide_input_in_errors=True,
        frozen=True,
    )

    profile: Literal["development", "production"] = Field(
        "development",
        description="production refuses connections that are not encrypted or whose server is not verified",
    )
    entities: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="modules that declare entities, such as shop.entities,shop.orders"
    )
    kafka: KafkaSettings
    database: DatabaseSettings
    cache: CacheSettings
    producer: ProducerSettings = Field(default_factory=lambda: ProducerSettings.model_validate({}))
    flusher: FlusherSettings = Field(default_factory=lambda: FlusherSettings.model_validate({}))
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}))

    @field_validator("entities", mode="before")
    @classmethod
    def _split_entities(cls, entities: Any) -> Any:
        """A variable holds names with commas between them, or a JSON list."""
        if not isinstance(entities, str):
            return entities
        if entities.lstrip().startswith("["):
            return json.loads(entities)
        return [name.strip() for name in entities.split(",") if name.strip()]

    def weaknesses(self) -> list[Weakness]:
        """Connections that can be read or impersonated on their way."""
        options = {name: value.get_secret_value() for name, value in self.kafka.options.items()}
        return weaknesses(options, self.database.url.get_secret_value(), self.cache.url.get_secret_value())

    @model_validator(mode="after")
    def _production(self) -> Self:
        found = self.weaknesses() if self.profile == "production" else []
        if found:
            raise ValueError(f"{PREFIX}PROFILE=production refuses:\n    " + "\n    ".join(map(str, found)))
        return self

    @model_validator(mode="after")
    def _largest_record(self) -> Self:
        if self.producer.max_in_flight_bytes < self.kafka.max_message_bytes:
            raise ValueError(
                f"{PREFIX}PRODUCER__MAX_IN_FLIGHT_BYTES ({self.producer.max_in_flight_bytes}) must not be less than "
                f"{PREFIX}KAFKA__MAX_MESSAGE_BYTES ({self.kafka.max_message_bytes}): the largest record "
                "would never be sent"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings, dotenv_settings]
        if secrets := os.environ.get("WRITEBEHIND_SECRETS_DIR"):
            sources.append(
                NestedSecretsSettingsSource(
                    file_secret_settings, secrets_dir=secrets, secrets_prefix=PREFIX, secrets_nested_delimiter="__"
                )
            )
        toml = Path(os.environ.get("WRITEBEHIND_CONFIG", "writebehind.toml"))
        if toml.exists():
            sources.append(TomlConfigSettingsSource(settings_cls, toml))
        return tuple(sources)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Raises ConfigurationError with one line per problem, and never a value."""
    found = _missing_sources()
    if not found:
        try:
            return Settings(**overrides)
        except ValidationError as error:
            found = problems(Settings, error, prefix=PREFIX)
        except SettingsError as error:
            # Its text names field and source; the cause, which quotes the value, is left out.
            found = [f'{error} (groups and maps are JSON, as in {PREFIX}KAFKA__OPTIONS=\'{{"client.rack": "a"}}\')']
        except tomllib.TOMLDecodeError as error:
            found = [f"{os.environ.get('WRITEBEHIND_CONFIG', 'writebehind.toml')}: not TOML: {error}"]
    raise ConfigurationError("the settings are not complete or not right:\n  " + "\n  ".join(found))


def _missing_sources() -> list[str]:
    """A source that was named and is not there is a problem of its own, not many settings that are missing."""
    found: list[str] = []
    config, secrets = os.environ.get("WRITEBEHIND_CONFIG"), os.environ.get("WRITEBEHIND_SECRETS_DIR")
    if config and not Path(config).is_file():
        found.append(f"WRITEBEHIND_CONFIG names {config}, which is not a file")
    if secrets and not Path(secrets).is_dir():
        found.append(f"WRITEBEHIND_SECRETS_DIR names {secrets}, which is not a folder")
    return found


def options_refused(settings: Settings) -> ConfigurationError:
    """What to raise when librdkafka refuses to make a client: its own text shows the value, which may be a secret."""
    return ConfigurationError(
        f"{PREFIX}KAFKA__OPTIONS: librdkafka does not know one of these, or cannot use its value: "
        + ", ".join(sorted(settings.kafka.options))
    )


def kafka_client_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """The librdkafka settings every client of ours starts from."""
    options = {name: value.get_secret_value() for name, value in settings.kafka.options.items()}
    # Level 4: warnings. One below it, librdkafka writes a line for every connection that ends in order.
    return {"log_level": 4, **options, "bootstrap.servers": settings.kafka.bootstrap_servers}
