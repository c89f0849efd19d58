"""What a command begins with: settings, and the entities that they name."""

from __future__ import annotations

from typing import Any

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry, load
from writebehind.shared.settings import Settings, load_settings


def prepare(entities: list[str] | None, **overrides: dict[str, Any]) -> tuple[Settings, Registry]:
    """Settings and registry of a command, options before settings. Raises ConfigurationError."""
    arguments: dict[str, Any] = {name: value for name, value in overrides.items() if value}
    if entities:
        arguments["entities"] = entities
    settings = load_settings(**arguments)
    return settings, registry_of(settings)


def registry_of(settings: Settings) -> Registry:
    """The entities of the modules that the settings name. Raises ConfigurationError when they name none."""
    if not settings.entities:
        raise ConfigurationError(
            "say which modules declare your entities: --entities shop.entities, or WRITEBEHIND_ENTITIES=shop.entities"
        )
    return load(settings.entities)
