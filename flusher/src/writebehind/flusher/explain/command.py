"""What `writebehind explain` does, once its options are read."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from typing import Any, Final

from rich.console import Console

from writebehind.shared.errors import ConfigurationError
from writebehind.shared.registry import Registry
from writebehind.shared.settings import Settings, load_settings

from . import render
from .document import document
from .explanation import explain
from .facts import Explanation
from .table_smells import Look

# Stands for addresses that nobody gave: declarations alone are enough.
_NOWHERE: Final[dict[str, Any]] = {
    "kafka": {"bootstrap_servers": "nowhere"},
    "database": {"url": "postgresql://nowhere"},
    "cache": {"url": "redis://nowhere"},
}


def settings_of(arguments: dict[str, Any], *, offline: bool) -> tuple[Settings, str | None]:
    """The settings, and why the database is not to be looked at. Raises ConfigurationError.

    The servers' addresses may be missing; what else is wrong with the settings is an error.
    """
    if offline:
        return load_settings(**arguments, **_NOWHERE), "--offline"
    try:
        return load_settings(**arguments), None
    except ConfigurationError as error:
        try:
            settings = load_settings(**arguments, **_NOWHERE)
        except ConfigurationError:
            raise error from None
        return settings, "not all addresses of the servers are set"


def look(settings: Settings, registry: Registry, reason: str | None) -> tuple[dict[str, Look], str | None]:
    """What the catalog says, or nothing and the reason."""
    from . import catalog

    if reason is not None:
        return {}, reason
    try:
        return catalog.look(settings.database, registry), None
    except ConfigurationError as error:
        return {}, str(error)


def run(settings: Settings, registry: Registry, reason: str | None, *, accepted: Collection[str], form: str) -> int:
    """Print in the form "text", "json" or "markdown". 1: there are warnings."""
    looks, reason = look(settings, registry, reason)
    explanation = explain(registry, settings, looks, not_looked_at=reason, accepted=accepted)
    show(explanation, form)
    return 1 if explanation.warnings else 0


def show(explanation: Explanation, form: str) -> None:
    """Print an explanation."""
    match form:
        case "json":
            print(json.dumps(explanation.as_json()))
        case "markdown":
            print(render.markdown(document(explanation)), end="")
        case _:
            console = Console() if sys.stdout.isatty() else Console(width=render.WIDTH)
            render.text(document(explanation), console)
