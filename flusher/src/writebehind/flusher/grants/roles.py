"""Who may need rights: the parts of a deployment, each with a role, a user and a principal of its own."""

from __future__ import annotations

import enum

from writebehind.shared.declaration import Declaration
from writebehind.shared.strategy import WriteBehind


class Role(enum.StrEnum):
    """A part of a deployment."""

    MIGRATOR = "migrator"  # first: what it makes is granted to the others
    PRODUCER = "producer"
    FLUSHER = "flusher"
    AUDITOR = "auditor"


def default_name(role: Role) -> str:
    """What a role is called where nobody says otherwise."""
    return f"writebehind_{role}"


def writes_rows(declaration: Declaration) -> bool:
    """Whether a producer writes the entity's rows itself: always, or when the broker is down."""
    strategy = declaration.strategy
    return not isinstance(strategy, WriteBehind) or strategy.on_broker_down == "through"
